"""A discriminator between pictures and reconstructions, and which side learns when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.models.pictures.networks import SMALLEST, started

PAUSE: Final = 0.1
RESUME: Final = 0.5
WAIT: Final = 10.0
"""Of the discriminator's loss over the generator's; see :class:`Gate`."""
WIDTH: Final = 16
"""Channels of the discriminator's first convolution; up to four times that."""
SLOPE: Final = 0.2
DROPOUT: Final = 0.5


@final
class Discriminator(nn.Module):
    """D: five convolutions with strides, average pooling, two linear maps under dropout.

    Args:
        shape: channels, height and width of the pictures.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, *sides = shape
        layers: list[nn.Module] = []
        for kernel, outer in ((5, WIDTH), (3, 2 * WIDTH), (3, 2 * WIDTH), (3, 4 * WIDTH)):
            stride = 2 if min(sides) > SMALLEST else 1
            sides = [-(-side // stride) for side in sides]
            convolution = nn.Conv2d(channels, outer, kernel, stride, padding=kernel // 2)
            layers += [started(convolution), nn.LeakyReLU(SLOPE)]
            channels = outer
        layers += [started(nn.Conv2d(channels, channels, 3, padding=1)), nn.LeakyReLU(SLOPE)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(DROPOUT)]
        layers += [started(nn.Linear(channels, channels)), nn.LeakyReLU(SLOPE)]
        layers += [nn.Dropout(DROPOUT), started(nn.Linear(channels, 1), 1.0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, values: Tensor) -> Tensor:
        """log D/(1 − D) of pictures being real, [N C H W] → [N]."""
        return self.layers(values).squeeze(1)


def generator_loss(drawn: Tensor) -> Tensor:
    """−log D(G), from logits, nats."""
    return functional.softplus(-drawn)


def discriminator_loss(real: Tensor, drawn: Tensor) -> Tensor:
    """−log D(x) − log(1 − D(G)), from logits, nats."""
    return functional.softplus(-real) + functional.softplus(drawn)


@final
@dataclass
class Gate:
    """Who learns in the next step, by the ratio of the discriminator's loss to the generator's.

    Below PAUSE the discriminator waits, until the ratio is above RESUME; above WAIT the generator
    waits. Dosovitskiy & Brox (2016) make a discriminator wait that is too good; these thresholds
    are those of a public re-implementation.
    """

    discriminator: bool = True
    generator: bool = True

    def update(self, discriminator_loss: float, generator_loss: float) -> None:
        """Decide from the losses of this step."""
        ratio = discriminator_loss / generator_loss if generator_loss else float("inf")
        if ratio < PAUSE:
            self.discriminator = False
        elif ratio > RESUME:
            self.discriminator = True
        self.generator = ratio <= WAIT


@final
class Opponent:
    """A discriminator with its optimiser and gate: the opponent of a generator in training.

    Args:
        shape: of the pictures.
        learning_rate: of the discriminator.
    """

    def __init__(self, shape: tuple[int, int, int], learning_rate: float) -> None:
        self.discriminator = Discriminator(shape)
        self.optimiser = torch.optim.Adam(self.discriminator.parameters(), learning_rate)
        self.gate = Gate()

    def loss_of(self, drawn: Tensor) -> Tensor:
        """The generator's loss, −log D(x̂), [N]."""
        return generator_loss(self.discriminator(drawn))

    def learn(self, real: Tensor, drawn: Tensor) -> None:
        """Take a step of the discriminator unless it waits; decide who learns next."""
        found = self.discriminator(drawn.detach())
        loss = discriminator_loss(self.discriminator(real), found).mean()
        if self.gate.discriminator:
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        self.gate.update(loss.item(), generator_loss(found).mean().item())
