"""Training: the trainer, a run, its phases, the collapse watch."""
