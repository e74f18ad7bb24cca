"""Comparing pictures by what a frozen network sees in them: Dosovitskiy & Brox (2016).

    L = λ_feat ‖C(x̂) − C(x)‖² + λ_adv (−log D(x̂)) + λ_img ‖x̂ − x‖²

A comparator C is any network from pictures to features that stays as it is; weights at random do
(arXiv 1602.02644), so that nothing has to be had from elsewhere. Pictures are values from −1 to 1,
[N C H W]. None of this is a likelihood: it is for training, and no bound is measured by it.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self, final

import torch
from torch import Tensor, nn

from isthmus.models.pictures.networks import (
    SMALLEST,
    ConvolutionalDecoder,
    Sizes,
    started,
)

Shape = tuple[int, int, int]
"""Channels, height, width."""

WIDTH: Final = 16
"""Channels of a comparator's first convolution, and of the generator's last."""
HALVINGS: Final = 3
ROWS: Final = 128
"""Pictures that go through a comparator at a time outside of training."""


@final
class Comparator(nn.Module):
    """C: a network that gradients pass through and none changes, always in evaluation mode.

    Arguments:
        network: [N C H W] → any tensor with N rows.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, so that a picture always has the same features."""
        return super().train(False)

    def forward(self, values: Tensor) -> Tensor:
        """C(x), [N C H W] → [N F]."""
        return self.network(values).flatten(1)

    @torch.no_grad()
    def features(self, values: Tensor) -> Tensor:
        """C(x) of any number of pictures, without gradient, [N C H W] → [N F]."""
        return torch.cat([self(part) for part in values.split(ROWS)])


def alexnet(
    shape: Shape, width: int = WIDTH, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """The five convolutions of AlexNet (Krizhevsky et al. 2012) in a size for small pictures.

    5×5, 5×5 and three of 3×3, each with its activation; after the first two the sides are halved
    by maxima, but not below 4.
    """
    channels, *sides = shape
    layers: list[nn.Module] = []
    for kernel, outer in ((5, width), (5, 2 * width), (3, 3 * width), *2 * ((3, 2 * width),)):
        layers += [started(nn.Conv2d(channels, outer, kernel, padding=kernel // 2)), activation()]
        if kernel == 5 and min(sides) > SMALLEST:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            sides = [-(-side // 2) for side in sides]
        channels = outer
    return nn.Sequential(*layers)


def random_comparator(shape: Shape, seed: int = 0) -> Comparator:
    """:func:`alexnet` with random weights, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Comparator(alexnet(shape))


def squared_distance(one: Tensor, other: Tensor) -> Tensor:
    """‖a − b‖² of each pair of rows, [N …] → [N]."""
    return (one - other).square().flatten(1).sum(1)


def mean_distance(rows: Tensor) -> float:
    """Mean ‖a − b‖² over all pairs of N rows: twice the sum of their variances, [N …]."""
    return 2 * rows.flatten(1).double().var(0).sum().item()


class Weights(NamedTuple):
    """λ_img, λ_feat and λ_adv; 0 leaves a term out altogether.

    Image and feature term are divided by their mean between two pictures of the training set, so
    that 1 is a picture as far away as any other, whatever the sizes; −log D is as it is, in nats.
    (The paper's λ are for plain sums at its sizes.)
    """

    image: float
    feature: float
    adversarial: float


@final
class Distances:
    """The image and the feature term, in units of what they are between pictures of a set.

    Arguments:
        comparator: C.
        pictures: of the training set, [N C H W], N ≥ 2.
    """

    def __init__(self, comparator: Comparator, pictures: Tensor) -> None:
        self.comparator = comparator
        self.image_unit = mean_distance(pictures)
        self.feature_unit = mean_distance(comparator.features(pictures))

    def image(self, drawn: Tensor, real: Tensor) -> Tensor:
        """‖x̂ − x‖² in its unit, [N]."""
        return squared_distance(drawn, real) / self.image_unit

    def feature(self, drawn: Tensor, real: Tensor) -> Tensor:
        """‖C(x̂) − C(x)‖² in its unit, [N]; a gradient for x̂ alone."""
        with torch.no_grad():
            wanted = self.comparator(real)
        return squared_distance(self.comparator(drawn), wanted) / self.feature_unit

    def weighted(self, drawn: Tensor, real: Tensor, weights: Weights) -> Tensor:
        """Both terms under their weights, [N]."""
        loss = drawn.new_zeros(len(drawn))
        if weights.image:
            loss = loss + weights.image * self.image(drawn, real)
        if weights.feature:
            loss = loss + weights.feature * self.feature(drawn, real)
        return loss


@final
class Code(nn.Module):
    """Φ: P numbers that a picture is to be drawn from again, a random linear map of C(x).

    It stands for AlexNet's FC6 before its rectifier. Each number has mean 0 and variance 1 over
    the pictures that it was made for.

    Arguments:
        comparator: whose features are mapped.
        pictures: of the training set, [N C H W].
        size: P.
        seed: of the map.
    """

    def __init__(self, comparator: Comparator, pictures: Tensor, size: int, seed: int = 0) -> None:
        super().__init__()
        features = comparator.features(pictures)
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(features.shape[1], size, generator=generator)
        codes = (features - features.mean(0)) @ weight
        self.comparator = comparator
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("weight", weight / codes.std(0).clamp_min(1e-6))

    def forward(self, pictures: Tensor) -> Tensor:
        """Φ(x), without gradient, [N C H W] → [N P]."""
        return (self.comparator.features(pictures) - self.mean) @ self.weight


@final
class Generator(nn.Module):
    """G: from a code back to a picture, values from −1 to 1.

    Arguments:
        shape: of the pictures.
        code_size: P.
    """

    def __init__(self, shape: Shape, code_size: int) -> None:
        super().__init__()
        self.shape = shape
        sizes = Sizes(*shape, code_size, WIDTH, HALVINGS, parameters=1)
        self.decoder = ConvolutionalDecoder(sizes, residual=False)

    def forward(self, code: Tensor) -> Tensor:
        """[N P] → [N C H W]."""
        return torch.tanh(self.decoder(code)).unflatten(1, self.shape)
