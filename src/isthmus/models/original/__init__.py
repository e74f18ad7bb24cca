"""Import of checkpoints from the Optimus authors' code (ChunyuanLI/Optimus) and of CTRL."""
