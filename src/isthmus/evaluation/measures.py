"""What is measured of one kind of data alone: an interface, and what its implementations share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from isthmus.evaluation.likelihood import Bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.base import LatentModel
from isthmus.models.workers import HERE, Workers
from isthmus.progress import Progress, no_progress

Metrics = dict[str, Any]


@final
@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Args:
        samples: K of the importance-weighted bound.
        texts: How many examples to decode; 0 for none.
        seed: Of all noise.
        progress: Called with the number just done.
        workers: Who computes what takes many passes.
    """

    samples: int
    texts: int
    seed: int = 0
    progress: Progress = no_progress
    workers: Workers = HERE


class Measures(ABC):
    """The measures of one kind of data. Examples are those of its codec."""

    @abstractmethod
    def symbols(self, measured: Bounds, examples: Any) -> Metrics:
        """How many symbols there are, and the best bound by the symbol."""

    @abstractmethod
    def returned(
        self, model: LatentModel, measured: Bounds, examples: Any, effort: Effort
    ) -> Metrics:
        """What comes back of examples, and whatever else this kind alone has."""

    @abstractmethod
    def passes(self, examples: Any, texts: int) -> int:
        """Examples that `returned` decodes or measures, for a progress bar."""

    @abstractmethod
    def baseline(self, corpus: Any) -> dict[str, Any]:
        """Features that a latent competes with in a probe, [N ·] each by its name."""


def squared_error(given: Any, returned: Any) -> Estimate:
    """Mean squared error of pictures [N C H W], of values scaled to 0 … 1."""
    difference = (np.stack(returned).astype(np.float64) - np.stack(given)) / 255
    return Estimate.mean_of(torch.from_numpy(difference).square().flatten(1).mean(1))
