"""Comparing pictures by their features in a frozen network: Dosovitskiy & Brox (2016).

    L = λ_feat ‖C(x̂) − C(x)‖² + λ_adv (−log D(x̂)) + λ_img ‖x̂ − x‖²

A comparator C is any fixed network from pictures to features; random weights suffice (arXiv
1602.02644), so no pretrained network is needed. Pictures are values from −1 to 1, [N C H W]. None
of this is a likelihood: it is for training, and no bound depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Self, final

import torch
from torch import Tensor, nn

from isthmus.data.kind import sampled
from isthmus.errors import IsthmusError
from isthmus.models.pictures.networks import SMALLEST, Sizes, convolutional_decoder, started
from isthmus.progress import Progress, no_progress

Shape = tuple[int, int, int]
"""Channels, height, width."""

WIDTH: Final = 16
"""Channels of a comparator's first convolution, and of the generator at full size."""
HALVINGS: Final = 3
"""Of the generator."""
ROWS: Final = 128
"""Pictures per forward pass outside of training."""
SPARE: Final = 16
"""Extra directions of the randomised SVD (Halko et al. 2011)."""
REFERENCE: Final = 2000
"""Units and principal components come from a sample of this many pictures."""


@final
class Comparator(nn.Module):
    """C: fixed layers that let gradients pass, always in evaluation mode.

    Args:
        layers: the network, from pictures [N C H W] on.
        taps: indices of the layers whose outputs are features, in order.
    """

    def __init__(self, layers: nn.Sequential, taps: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*list(layers)[: max(taps) + 1])
        self.layers.requires_grad_(False).eval()
        self.taps = tuple(taps)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, so that a picture always has the same features."""
        return super().train(False)

    def forward(self, values: Tensor) -> list[Tensor]:
        """C(x), [N C H W] → [N F] for every tap."""
        found = []
        for place, layer in enumerate(self.layers):
            values = layer(values)
            if place in self.taps:
                found.append(values.flatten(1))
        return found

    @torch.no_grad()
    def features(self, values: Tensor) -> list[Tensor]:
        """C(x) of any number of pictures, without gradient, [N C H W] → [N F] for every tap."""
        parts = [self(part) for part in values.split(ROWS)]
        return [torch.cat(of_tap) for of_tap in zip(*parts, strict=True)]


def alexnet(
    shape: Shape, width: int = WIDTH, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """The five convolutions of AlexNet (Krizhevsky et al. 2012), scaled to small pictures.

    Two of 5×5 and three of 3×3, each with its activation; max pooling halves the sides after the
    first two, but not below 4.
    """
    channels, *sides = shape
    layers: list[nn.Module] = []
    for kernel, outer in ((5, width), (5, 2 * width), (3, 3 * width), *2 * ((3, 2 * width),)):
        layers += [started(nn.Conv2d(channels, outer, kernel, padding=kernel // 2)), activation()]
        if kernel == 5:
            halve = min(sides) > SMALLEST
            layers.append(nn.MaxPool2d(2, ceil_mode=True) if halve else nn.Identity())
            sides = [-(-side // 2) if halve else side for side in sides]
        channels = outer
    return nn.Sequential(*layers)


TAPS: Final = (4, 11)
"""Of :func:`alexnet`: the activations of its second and its fifth convolution."""


def random_comparator(shape: Shape, seed: int = 0) -> Comparator:
    """:func:`alexnet` with random weights, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Comparator(alexnet(shape), TAPS)


def squared_distance(one: Tensor, other: Tensor) -> Tensor:
    """‖a − b‖² of each pair of rows, [N …] → [N]."""
    return (one - other).square().flatten(1).sum(1)


def mean_distance(rows: Tensor) -> float:
    """Mean ‖a − b‖² over all pairs of N rows: twice the sum of their variances, [N …]."""
    return 2 * rows.flatten(1).double().var(0).sum().item()


class Weights(NamedTuple):
    """λ_img, λ_feat and λ_adv; 0 omits a term.

    The image and the feature term are divided by their mean between two pictures of the training
    set, so that an unrelated picture has the distance 1 at any size; −log D is in nats. (The
    paper's λ are for plain sums at its sizes.)
    """

    image: float
    feature: float
    adversarial: float


@final
class Distances:
    """The image and the feature term, in units of their mean between pictures of a set.

    Args:
        comparator: C.
        pictures: of the training set, [N C H W], N ≥ 2.
    """

    def __init__(self, comparator: Comparator, pictures: Tensor) -> None:
        self.comparator = comparator
        some = pictures[sampled(len(pictures), REFERENCE, 0)]
        self.image_unit = mean_distance(some)
        self.feature_units = [mean_distance(part) for part in comparator.features(some)]

    def image(self, drawn: Tensor, real: Tensor) -> Tensor:
        """‖x̂ − x‖² in its unit, [N]."""
        return squared_distance(drawn, real) / self.image_unit

    def feature(self, drawn: Tensor, real: Tensor) -> Tensor:
        """‖C(x̂) − C(x)‖² in its unit, mean over the taps, [N]; only x̂ gets a gradient."""
        with torch.no_grad():
            wanted = self.comparator(real)
        found = zip(self.comparator(drawn), wanted, self.feature_units, strict=True)
        each = (squared_distance(a, b) / unit for a, b, unit in found)
        return sum(each, drawn.new_zeros(len(drawn))) / len(wanted)

    def weighted(self, drawn: Tensor, real: Tensor, weights: Weights) -> Tensor:
        """Both terms under their weights, [N]."""
        loss = drawn.new_zeros(len(drawn))
        if weights.image:
            loss = loss + weights.image * self.image(drawn, real)
        if weights.feature:
            loss = loss + weights.feature * self.feature(drawn, real)
        return loss


@final
class Code:
    """Φ: P principal components of C(x), from which a picture is to be drawn again.

    It replaces AlexNet's FC6, a linear map of the last features: a random map of that size would
    keep little of a picture, and a trained one would need labels. All components share one scale,
    so the most important ones are the largest.

    Args:
        comparator: maps pictures to features; the last ones are used.
        pictures: of the training set, [N C H W].
        size: P.

    Raises:
        IsthmusError: more components than there are.
    """

    def __init__(self, comparator: Comparator, pictures: Tensor, size: int) -> None:
        some = pictures[sampled(len(pictures), REFERENCE, 0)]
        features = comparator.features(some)[-1]
        most = min(features.shape)
        if size > most:
            raise IsthmusError(
                f"code size: got {size}, expected at most {most} for these pictures"
            )
        self.comparator = comparator
        self.mean = features.mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, _, axes = torch.pca_lowrank(features, min(size + SPARE, most), niter=4)
        codes = (features - self.mean) @ axes[:, :size]
        self.weight = axes[:, :size] / codes.square().mean().sqrt()

    def __call__(self, pictures: Tensor, progress: Progress = no_progress) -> Tensor:
        """Φ(x), [N C H W] → [N P]."""
        codes = []
        for part in pictures.split(ROWS):
            codes.append((self.comparator.features(part)[-1] - self.mean) @ self.weight)
            progress(len(part))
        return torch.cat(codes)


@final
class Generator(nn.Module):
    """G: from a code back to a picture, values from −1 to 1.

    Args:
        shape: of the pictures.
        code_size: P.
    """

    def __init__(self, shape: Shape, code_size: int) -> None:
        super().__init__()
        sizes = Sizes(*shape, code_size, WIDTH, HALVINGS, parameters=1)
        decoder = convolutional_decoder(sizes, residual=False)
        self.layers = nn.Sequential(decoder, nn.Tanh(), nn.Unflatten(1, shape))

    def forward(self, code: Tensor) -> Tensor:
        """[N P] → [N C H W]."""
        return self.layers(code)
