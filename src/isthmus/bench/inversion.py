"""Training for the perceptual grid: generators that invert a code, and classifiers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from isthmus.models.pictures.adversarial import Opponent
from isthmus.models.pictures.comparators import (
    TAPS,
    Comparator,
    Distances,
    Generator,
    Shape,
    Weights,
    alexnet,
)
from isthmus.progress import Progress

BATCH: Final = 16
LEARNING_RATE: Final = 4e-3
"""Peak rate of the generator; without a warm-up, tanh may saturate permanently."""
OPPONENT_RATE: Final = 1e-3
CLASSIFIER_STEPS: Final = 800
CLASSIFIER_RATE: Final = 1e-3
CLASSIFIER_WIDTH: Final = 12
"""Differs from the random comparator in width and activation."""

TERMS: Final = Weights._fields


def subsets(weights: Weights) -> dict[str, Weights]:
    """Name → every combination of the three terms, single terms first."""
    found = {}
    for count in range(1, len(TERMS) + 1):
        for names in itertools.combinations(TERMS, count):
            chosen = {name: getattr(weights, name) for name in names}
            found["+".join(names)] = Weights(0.0, 0.0, 0.0)._replace(**chosen)
    return found


@final
@dataclass(frozen=True)
class Task:
    """What the generators of a grid share: training pictures with their codes, and distances."""

    pictures: Tensor  # [N C H W], from −1 to 1
    codes: Tensor  # Φ(x), [N P]
    distances: Distances

    @property
    def shape(self) -> Shape:
        """Channels, height and width."""
        channels, height, width = self.pictures.shape[1:]
        return channels, height, width


@final
@dataclass
class Waits:
    """Number of steps that the balance of the two made each of them skip."""

    discriminator: int = 0
    generator: int = 0


def train_generator(
    task: Task, weights: Weights, steps: int, seed: int, progress: Progress
) -> tuple[Generator, Waits]:
    """A generator trained under a loss, and the skipped steps; depends on the arguments alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(task.shape, task.codes.shape[1])
        opponent = Opponent(task.shape, OPPONENT_RATE) if weights.adversarial else None
        optimiser = torch.optim.Adam(generator.parameters(), LEARNING_RATE)
        schedule = rising_and_falling(optimiser, steps)
        order, waits = torch.Generator().manual_seed(seed), Waits()
        for _ in range(steps):
            chosen = torch.randint(len(task.pictures), (BATCH,), generator=order)
            real, fake = task.pictures[chosen], generator(task.codes[chosen])
            loss = task.distances.weighted(fake, real, weights)
            if opponent is not None:
                loss = loss + weights.adversarial * opponent.loss_of(fake)
            if opponent is None or opponent.gate.generator:
                optimiser.zero_grad()
                loss.mean().backward()
                optimiser.step()
            if opponent is not None:
                waits.generator += not opponent.gate.generator
                waits.discriminator += not opponent.gate.discriminator
                opponent.learn(real, fake)
            schedule.step()
            progress(1)
    return generator.eval(), waits


def rising_and_falling(optimiser: torch.optim.Optimizer, steps: int) -> OneCycleLR:
    """A learning rate that rises over a tenth of the run and then falls to zero, along cosines."""
    peak = optimiser.param_groups[0]["lr"]
    return OneCycleLR(optimiser, peak, steps, pct_start=0.1, cycle_momentum=False)


def train_classifier(pictures: Tensor, labels: Sequence[str], progress: Progress) -> nn.Sequential:
    """A small network that predicts labels: convolutions and a head, [N C H W] → [N K].

    Args:
        pictures: The training set, from −1 to 1.
        labels: Of the pictures; the K classes are their sorted names.
        progress: Called with 1 after each of CLASSIFIER_STEPS steps.
    """
    names = sorted(set(labels))
    classes = torch.tensor([names.index(label) for label in labels])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        channels, height, width = pictures.shape[1:]
        network = classifier((channels, height, width), len(names))
        optimiser = torch.optim.AdamW(network.parameters(), CLASSIFIER_RATE)
        for _ in range(CLASSIFIER_STEPS):
            chosen = torch.randint(len(pictures), (BATCH,))
            loss = functional.cross_entropy(network(pictures[chosen]), classes[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            progress(1)
    return network.eval()


def classifier(shape: Shape, classes: int) -> nn.Sequential:
    """Convolutions, dropout and a linear map."""
    convolutions = alexnet(shape, CLASSIFIER_WIDTH, nn.SiLU)
    size = convolutions(torch.zeros(1, *shape)).numel()
    head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(size, classes))
    return nn.Sequential(convolutions, head)


def other_random_comparator(shape: Shape, seed: int) -> Comparator:
    """A random network unlike the first in weights, activation and width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Comparator(alexnet(shape, CLASSIFIER_WIDTH, nn.SiLU), TAPS)
