"""Training: from settings and data to a run directory.

:func:`train` does all of it, with checkpoints, a log and a model card; :func:`train_once` skips a
finished run. :class:`LatentTrainer` is transformers' Trainer on a model and prepared examples, and
:func:`make_objective` the loss for a loop of your own; everything else is internal.
"""

from isthmus.training.objective import make_objective
from isthmus.training.run import Interrupted, train, train_once
from isthmus.training.trainer import LatentTrainer

__all__ = ["Interrupted", "LatentTrainer", "make_objective", "train", "train_once"]
