"""Run directories: saving, loading, checking, the model card."""
