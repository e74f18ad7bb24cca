"""Encoders and decoders of pictures: a perceptron, convolutions of several kinds, deconvolution.

There are residual blocks at every size but the full one, where they would cost most. Nothing
normalises over a batch, so the output for a picture depends on no other picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal, NamedTuple, TypeVar, final

from torch import Tensor, nn
from torch.nn import functional

from isthmus.models.pictures.pooling import StochasticPool, StochasticUnpool

NetworkKind = Literal["mlp", "conv", "residual", "deconv", "strided"]

Affine = TypeVar("Affine", nn.Linear, nn.Conv2d)

SMALLEST = 4
"""Halving stops at this side length."""


class Sizes(NamedTuple):
    """The sizes of a pair of networks.

    Args:
        channels, height, width: of the pictures.
        latent_size: P.
        hidden_size: width of a perceptron's layers; channels after the first convolution, doubled
            with every halving up to four times that.
        layers: hidden layers of a perceptron, halvings of the others.
        parameters: numbers that the likelihood needs per value.
    """

    channels: int
    height: int
    width: int
    latent_size: int
    hidden_size: int
    layers: int
    parameters: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width

    def pyramid(self) -> list[tuple[int, int, int]]:
        """(channels, height, width) before each halving and at the end."""
        levels = [(self.hidden_size, self.height, self.width)]
        while len(levels) <= self.layers and min(levels[-1][1:]) > SMALLEST:
            channels, height, width = levels[-1]
            wider = min(2 * channels, 4 * self.hidden_size)
            levels.append((wider, (height + 1) // 2, (width + 1) // 2))
        return levels


def networks(kind: NetworkKind, sizes: Sizes) -> tuple[nn.Module, nn.Module]:
    """(encoder [N D] → [N 2P], decoder [N P] → [N parameters·D])."""
    if kind == "mlp":
        inner = [sizes.hidden_size] * sizes.layers
        encoder = perceptron([math.prod(sizes.shape), *inner, 2 * sizes.latent_size])
        return encoder, perceptron(
            [sizes.latent_size, *inner, sizes.parameters * math.prod(sizes.shape)]
        )
    if kind == "deconv":
        return pooling_encoder(sizes), deconvolutional_decoder(sizes)
    if kind == "strided":
        return strided_encoder(sizes), strided_decoder(sizes)
    residual = kind == "residual"
    return convolutional_encoder(sizes, residual), convolutional_decoder(sizes, residual)


@final
class Network(nn.Module):
    """Layers from pictures to vectors or from vectors to pictures.

    Args:
        layers: the layers; the last layer of a decoder flattens pictures.
        shape: of the pictures [N D] that an encoder reads; None for a decoder.
    """

    def __init__(self, layers: Iterable[nn.Module], shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(*layers)

    def forward(self, values: Tensor) -> Tensor:
        """[N D] → [N 2P], or [N P] → [N parameters·D]."""
        return self.layers(values if self.shape is None else values.unflatten(-1, self.shape))


def perceptron(widths: list[int]) -> nn.Sequential:
    """Linear maps with SiLU between them."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def started(layer: Affine, gain: float = math.sqrt(2)) -> Affine:
    """Weights of standard deviation gain / √fan-in, no bias: He et al. (2015), arXiv 1502.01852.

    With PyTorch's own start z fades through several convolutions, and learning takes twice as
    long.
    """
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


@final
class Residual(nn.Module):
    """x + two convolutions of it, which start at zero (Fixup: Zhang et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = started(nn.Conv2d(channels, channels, 3, padding=1))
        self.second = started(nn.Conv2d(channels, channels, 3, padding=1), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """[N C H W] → the same shape."""
        inner = functional.silu(self.first(functional.silu(x)))
        return x + self.second(inner)


@final
class Upsample(nn.Module):
    """Repeat pixels up to a given size; transposed convolutions leave a chequerboard."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N C h w] → [N C H W]."""
        return functional.interpolate(x, size=self.size, mode="nearest")


@final
class SubPixel(nn.Module):
    """Turn four channels into the four pixels of a block, cut to a given size (1609.05158)."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        """[N 4C h w] → [N C H W]."""
        return functional.pixel_shuffle(x, 2)[..., : self.height, : self.width]


def _stage(residual: bool, channels: int) -> list[nn.Module]:
    return [Residual(channels)] if residual else []


def convolutional_encoder(sizes: Sizes, residual: bool) -> Network:
    """3×3 convolutions that halve the sides by strides, then one linear map."""
    pyramid = sizes.pyramid()
    layers: list[nn.Module] = [started(nn.Conv2d(sizes.channels, pyramid[0][0], 3, padding=1))]
    for (inner, _, _), (outer, _, _) in pairwise(pyramid):
        layers += [nn.SiLU(), started(nn.Conv2d(inner, outer, 3, stride=2, padding=1))]
        layers += _stage(residual, outer)
    last = started(nn.Linear(math.prod(pyramid[-1]), 2 * sizes.latent_size), 1.0)
    return Network([*layers, nn.SiLU(), nn.Flatten(), last], sizes.shape)


def convolutional_decoder(sizes: Sizes, residual: bool) -> Network:
    """The mirror image of the encoder: repetition doubles the sides before a convolution."""
    pyramid = sizes.pyramid()[::-1]
    layers: list[nn.Module] = [
        started(nn.Linear(sizes.latent_size, math.prod(pyramid[0]))),
        nn.Unflatten(-1, pyramid[0]),
        *_stage(residual, pyramid[0][0]),
    ]
    for (inner, _, _), (outer, height, width) in pairwise(pyramid):
        convolution = started(nn.Conv2d(inner, outer, 3, padding=1))
        layers += [nn.SiLU(), Upsample(height, width), convolution]
        whole = (height, width) == (sizes.height, sizes.width)
        layers += _stage(residual and not whole, outer)
    last = nn.Conv2d(pyramid[-1][0], sizes.parameters * sizes.channels, 3, padding=1)
    return Network([*layers, nn.SiLU(), started(last, 1.0), nn.Flatten()])


def pooling_encoder(sizes: Sizes) -> Network:
    """3×3 convolutions with stochastic pooling after each but the last, then one linear map.

    The recognition model of Pu et al. (2016).
    """
    inner, layers = sizes.channels, list[nn.Module]()
    pyramid = sizes.pyramid()
    for place, (outer, _, _) in enumerate(pyramid):
        layers += [StochasticPool(2)] if place else []
        layers += [started(nn.Conv2d(inner, outer, 3, padding=1)), nn.SiLU()]
        inner = outer
    last = started(nn.Linear(math.prod(pyramid[-1]), 2 * sizes.latent_size), 1.0)
    return Network([*layers, nn.Flatten(), last], sizes.shape)


def deconvolutional_decoder(sizes: Sizes) -> Network:
    """Features at the top; each is unpooled to one place of its block and spread by a convolution.

    The deep generative deconvolutional network of Pu et al. (2016).
    """
    pyramid = sizes.pyramid()[::-1]
    top = started(nn.Linear(sizes.latent_size, math.prod(pyramid[0])))
    layers: list[nn.Module] = [top, nn.Unflatten(-1, pyramid[0]), nn.SiLU()]
    for (inner, _, _), (outer, height, width) in pairwise(pyramid):
        layers += [StochasticUnpool(inner, height, width, 2)]
        layers += [started(nn.Conv2d(inner, outer, 3, padding=1)), nn.SiLU()]
    last = nn.Conv2d(pyramid[-1][0], sizes.parameters * sizes.channels, 3, padding=1)
    return Network([*layers, started(last, 1.0), nn.Flatten()])


WIDTH = 256
"""Width of the hidden linear layer between a vector and features, in the strided networks."""


def strided_encoder(sizes: Sizes) -> Network:
    """3×3 convolutions that halve from the first on, then two linear maps.

    No convolution runs at the size of the picture, where it would cost most, so this is several
    times faster on a CPU than :func:`convolutional_encoder`.
    """
    pyramid = sizes.pyramid()
    layers, channels = list[nn.Module](), sizes.channels
    for wider, _, _ in pyramid[:-1]:
        layers += [started(nn.Conv2d(channels, wider, 3, stride=2, padding=1)), nn.SiLU()]
        channels = wider
    _, height, width = pyramid[-1]
    layers += [nn.Flatten(), started(nn.Linear(channels * height * width, WIDTH)), nn.SiLU()]
    return Network([*layers, started(nn.Linear(WIDTH, 2 * sizes.latent_size), 1.0)], sizes.shape)


def strided_decoder(sizes: Sizes) -> Network:
    """The mirror image: each convolution runs at the smaller size and outputs the larger one."""
    pyramid = sizes.pyramid()
    widths = [sizes.parameters * sizes.channels, *(wide for wide, _, _ in pyramid[:-1])]
    top = (widths[-1], *pyramid[-1][1:])
    layers: list[nn.Module] = [
        started(nn.Linear(sizes.latent_size, WIDTH)),
        nn.SiLU(),
        started(nn.Linear(WIDTH, math.prod(top)), math.sqrt(2) if len(pyramid) > 1 else 1.0),
        nn.Unflatten(-1, top),
    ]
    for place in reversed(range(len(pyramid) - 1)):
        gain = math.sqrt(2) if place else 1.0
        convolution = nn.Conv2d(widths[place + 1], 4 * widths[place], 3, padding=1)
        layers += [nn.SiLU(), started(convolution, gain), SubPixel(*pyramid[place][1:])]
    return Network([*layers, nn.Flatten()])
