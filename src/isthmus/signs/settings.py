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
    """Everything that determines a network, except its weights."""

    context: ContextKind = "none"
    """How a sign is predicted from its surroundings."""
    side: int = 24
    """Width and height of the pictures that the network sees, in pixels."""
    latent_size: int = 32
    """P, the number of latent dimensions."""
    hidden_size: int = 8
    """Number of channels after the first convolution."""


@final
@dataclass(frozen=True)
class TrainingSettings:
    """Everything that determines a run, except its data."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    steps: int = 2400
    """Optimiser steps."""
    sequences: int = 8
    """Number of sequences in a batch."""
    length: int = 25
    """Maximum length of a sequence in tokens."""
    learning_rate: float = 2e-3
    """Learning rate of Adam. Over the second half of the steps it falls to zero along a cosine."""
    clip: float = 1.0
    """Maximum norm of the gradient. The published code reports divergence without clipping."""
    kl: float = 0.45
    """Weight of each KL term. The default is the published value."""
    pseudo: PseudoKind = "reading"
    """Pseudo-labels. published pushes codes away from their centroids; corrected pulls them there;
    reading pulls them to the states of a hidden Markov model of pictures and order."""
    weight: float = 20.0
    """Weight of the pseudo-label loss per token."""
    clusters: int = 100
    """Number of k-means clusters (pseudo published or corrected)."""
    trials: int = 3
    """Number of k-means runs, each with its own pseudo-labels (pseudo published or corrected)."""
    states: int = 150
    """Number of states of the hidden Markov model before some are merged (pseudo reading)."""
    refreshes: int = 5
    """How many times pseudo-labels are computed, at equal intervals; the first steps have none."""
    augmentation: bool = True
    """Encode distorted copies of the pictures and reconstruct the originals."""
    deslant: bool = True
    """Straighten slanted writing before training."""
    seed: int = 0
    """Seed of all random draws."""

    def check(self) -> None:
        """Raise an IsthmusError if a number is too small."""
        least = {"steps": 1, "sequences": 1, "length": 2, "clusters": 2, "states": 2}
        least |= {"trials": 1, "refreshes": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise IsthmusError(f"{name} must be ≥ {smallest}, got {getattr(self, name)}")
