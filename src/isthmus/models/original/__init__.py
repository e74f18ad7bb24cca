"""Checkpoints of the authors' own Optimus code (ChunyuanLI/Optimus), read into an OptimusModel."""
