"""Settings of a network of signs and its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

from isthmus.errors import IsthmusError

ContextKind = Literal["none", "neighbor", "lstm", "transformer"]
PseudoKind = Literal["off", "published", "corrected", "reading"]


@final
@dataclass(frozen=True)
class NetworkSettings:
    """All that determines a network except its weights."""

    context: ContextKind = "none"
    """How a sign's surroundings predict it: none, neighbor, lstm or transformer."""
    side: int = 24
    """Width and height of the pictures that the network sees, in pixels."""
    latent_size: int = 32
    """Dimensions of the latent, P."""
    hidden_size: int = 8
    """Channels after the first convolution."""


@final
@dataclass(frozen=True)
class TrainingSettings:
    """All that a run depends on except its data."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    steps: int = 2400
    """Optimiser steps."""
    sequences: int = 8
    """Sequences in a batch."""
    length: int = 25
    """Most tokens of a sequence."""
    learning_rate: float = 2e-3
    """Of Adam; a cosine takes it to zero over the second half of the steps."""
    clip: float = 1.0
    """Maximum norm of the gradient; the published code says that it diverges without clipping."""
    kl: float = 0.45
    """Weight of each KL term, as published."""
    pseudo: PseudoKind = "reading"
    """Pseudo-labels: off; published (codes pushed away from their centroids); corrected (pulled to
    them); reading (pulled to the states of a hidden Markov model of pictures and order)."""
    weight: float = 20.0
    """Weight of the pseudo-label loss per token."""
    clusters: int = 100
    """Clusters of k-means, for published and corrected."""
    trials: int = 3
    """Runs of k-means."""
    states: int = 150
    """States of the reading before they merge."""
    refreshes: int = 5
    """How often labels are renewed, at equal distances; there are none before the first time."""
    augmentation: bool = True
    """Encode distorted pictures, and reconstruct the originals."""
    deslant: bool = True
    """Straighten slanted writing first."""
    seed: int = 0

    def check(self) -> None:
        """Raise an IsthmusError if a number is too small."""
        least = {"steps": 1, "sequences": 1, "length": 2, "clusters": 2, "states": 2}
        least |= {"trials": 1, "refreshes": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise IsthmusError(f"{name} must be ≥ {smallest}, got {getattr(self, name)}")
