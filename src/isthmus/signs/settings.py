"""What a network of signs and its training are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

from isthmus.errors import IsthmusError

ContextKind = Literal["none", "neighbor", "lstm", "transformer"]
PseudoKind = Literal["off", "published", "corrected", "reading"]


@final
@dataclass(frozen=True)
class NetworkSettings:
    """Everything that rebuilds a network without its weights."""

    context: ContextKind = "none"
    """Strategy: none, neighbor, lstm or transformer."""
    side: int = 24
    """Pixels of a picture's side as the network sees it."""
    latent_size: int = 32
    """P."""
    hidden_size: int = 8
    """Channels after the first convolution."""


@final
@dataclass(frozen=True)
class TrainingSettings:
    """All that a run follows from, beside its data."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    steps: int = 2400
    """Of the optimiser."""
    sequences: int = 8
    """In a batch."""
    length: int = 25
    """Tokens of a sequence, at most."""
    learning_rate: float = 2e-3
    """Of Adam, halved by a cosine over the second half of the steps, to zero."""
    clip: float = 1.0
    """Norm that gradients are cut to; the published code says it diverges without."""
    kl: float = 0.45
    """Weight of every KL, as published."""
    pseudo: PseudoKind = "reading"
    """Pseudo-labels: off; published (codes pushed away from their centroids); corrected (drawn to
    them); reading (drawn to the states of a hidden Markov model of pictures and order)."""
    weight: float = 20.0
    """Of the pseudo-label loss, a token."""
    clusters: int = 100
    """Of k-means, for published and corrected."""
    trials: int = 3
    """Of k-means."""
    states: int = 150
    """Of the reading at the start, before they merge."""
    refreshes: int = 5
    """How often labels are made, the steps between them alike; the first part has none."""
    augmentation: bool = True
    """Show pictures changed, and ask for them as they are."""
    deslant: bool = True
    """Straighten slanted writing first."""
    seed: int = 0

    def check(self) -> None:
        """Refuse what no run can follow.

        Raises:
            IsthmusError: a number is too small.
        """
        least = {"steps": 1, "sequences": 1, "length": 2, "clusters": 2, "states": 2}
        least |= {"trials": 1, "refreshes": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise IsthmusError(f"{name} must be ≥ {smallest}, got {getattr(self, name)}")
