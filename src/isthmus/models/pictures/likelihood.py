"""p(x|z) of pictures: probabilities of the 2 or 256 levels of each value, in nats.

All are probabilities, not densities, so that nats of different likelihoods can be compared and

    bits per dimension = nats / (C · H · W · ln 2)

is what a lossless code would need. Constants that depend on no parameter are included.
"""

import math
from abc import ABC, abstractmethod
from typing import Final, Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.latent.distribution import LOG_TWO_PI

LikelihoodKind = Literal["bernoulli", "logistic", "gaussian"]

TOP: Final = 255
"""The highest of 256 levels."""

LOG_SCALES: Final = (-7.0, 7.0)
"""Of values scaled to −1 … 1. At the lower end, PixelCNN++'s, one level is almost certain; at the
upper end only the lowest and the highest level have probability."""

FAR: Final = -20.0
"""Below it the tail of Φ equals its series to 4e-9."""


class Likelihood(ABC):
    """p(x|z) that factorises over the D values of a picture.

    A network outputs ``parameters`` · D numbers for a picture: D of one kind, then of the next.
    """

    parameters: int
    levels: int
    """Number of levels of a value, from 0."""

    @abstractmethod
    def losses(self, network: Tensor, levels: Tensor) -> Tensor:
        """−log p of every value, nats: network [... parameters·D], levels [... D] → [... D]."""

    @abstractmethod
    def typical(self, network: Tensor) -> Tensor:
        """One grey value 0 … 255 for each, [... D], to show p(x|z)."""

    @abstractmethod
    def values(self, network: Tensor) -> Tensor:
        """The same from −1 to 1, not rounded, with a gradient, [... D]."""

    @abstractmethod
    def draw(self, network: Tensor) -> Tensor:
        """Grey values 0 … 255 drawn from p(x|z) by torch's generator, [... D]."""


@final
class Bernoulli(Likelihood):
    """Two levels: p(1) = σ(l).

    This is a likelihood of *binary* pictures. With grey values between 0 and 1 its formula gives a
    number that is no log-probability, so it does not accept them: grey pictures are made binary
    first, see :mod:`isthmus.models.pictures.codec`.
    """

    parameters = 1
    levels = 2

    def losses(self, network: Tensor, levels: Tensor) -> Tensor:
        """softplus(l) − x·l."""
        target = levels.to(network.dtype).expand_as(network)
        return functional.binary_cross_entropy_with_logits(network, target, reduction="none")

    def typical(self, network: Tensor) -> Tensor:
        """The mean, p(1), as grey."""
        return torch.sigmoid(network) * TOP

    def values(self, network: Tensor) -> Tensor:
        """The mean from −1 to 1."""
        return 2 * torch.sigmoid(network) - 1

    def draw(self, network: Tensor) -> Tensor:
        """Black and white."""
        return torch.bernoulli(torch.sigmoid(network)) * TOP


class Discretised(Likelihood):
    """256 levels: the mass of a density between the borders of a level, half a level either side.

    Levels 0 … 255 are scaled to −1 … 1; the lowest and the highest take the mass beyond them too,
    so that the 256 probabilities sum to one exactly.

    References:
        Kingma et al. (2016), arXiv 1606.04934, section 5.2 (VAEs); Salimans et al. (2017),
        PixelCNN++, arXiv 1701.05517, eq. 2 (edges).
    """

    parameters = 2
    levels = TOP + 1

    @abstractmethod
    def log_mass(self, middle: Tensor, half: Tensor) -> Tensor:
        """log F(middle + half) − F(middle − half) of the standardised density, half > 0."""

    @abstractmethod
    def log_below(self, border: Tensor) -> Tensor:
        """log F(border); by symmetry log 1 − F is that of −border."""

    @abstractmethod
    def standard_draw(self, like: Tensor) -> Tensor:
        """Standardised draws in the shape of a tensor."""

    def losses(self, network: Tensor, levels: Tensor) -> Tensor:
        """−log of the mass of each value's level."""
        location, scale = self._location_and_scale(network)
        levels = levels.to(network.dtype)
        middle, half = (levels * (2 / TOP) - 1 - location) / scale, 1 / (TOP * scale)
        inside = self.log_mass(middle, half)
        outward = torch.where(levels < TOP / 2, middle, -middle)
        edges = self.log_below(outward + half)
        return -torch.where((levels == 0) | (levels == TOP), edges, inside)

    def typical(self, network: Tensor) -> Tensor:
        """The level that the location lies in, which is the median."""
        return ((self.values(network) + 1) * (TOP / 2)).round()

    def values(self, network: Tensor) -> Tensor:
        """The location, clamped to the lowest and the highest level."""
        location, _ = self._location_and_scale(network)
        return location.clamp(-1, 1)

    def draw(self, network: Tensor) -> Tensor:
        """A draw of the density, rounded to its level."""
        location, scale = self._location_and_scale(network)
        drawn = location + scale * self.standard_draw(location)
        return ((drawn + 1) * (TOP / 2)).round().clamp(0, TOP)

    def _location_and_scale(self, network: Tensor) -> tuple[Tensor, Tensor]:
        location, log_scale = network.chunk(2, dim=-1)
        return location, log_scale.clamp(*LOG_SCALES).exp()


@final
class DiscretisedLogistic(Discretised):
    """A logistic density: F = σ."""

    def log_mass(self, middle: Tensor, half: Tensor) -> Tensor:
        """log σ(m + h) − σ(m − h) = log σ(m + h) + log σ(h − m) + log(1 − e^{−2h}).

        This subtracts no nearly equal numbers; PixelCNN++ does, and falls back on the density.
        """
        sides = functional.logsigmoid(half + middle) + functional.logsigmoid(half - middle)
        return sides + torch.log(-torch.expm1(-2 * half))

    def log_below(self, border: Tensor) -> Tensor:
        """log σ."""
        return functional.logsigmoid(border)

    def standard_draw(self, like: Tensor) -> Tensor:
        """Logit of a uniform number."""
        return torch.logit(torch.rand_like(like), eps=1e-7)


def log_normal_cdf(x: Tensor) -> Tensor:
    """log Φ(x), even far out, where torch's own has a wrong slope in float32.

    There it uses Φ(x) ≈ φ(x)/|x| · (1 − 1/x² + 3/x⁴ − 15/x⁶), Abramowitz & Stegun (1964), 26.2.12.
    """
    near = torch.special.log_ndtr(x.clamp_min(FAR))
    far = x.clamp_max(FAR)
    inverse = far.square().reciprocal()
    series = torch.log1p(-inverse * (1 - 3 * inverse * (1 - 5 * inverse)))
    tail = -0.5 * (far.square() + LOG_TWO_PI) - torch.log(-far) + series
    return torch.where(x < FAR, tail, near)


@final
class DiscretisedGaussian(Discretised):
    """A normal density with its variance from the network: F = Φ."""

    def log_mass(self, middle: Tensor, half: Tensor) -> Tensor:
        """log Φ(m + h) − Φ(m − h), on the side of zero where both are small and precise."""
        below = -middle.abs()
        upper, lower = log_normal_cdf(below + half), log_normal_cdf(below - half)
        return upper + torch.log(-torch.expm1((lower - upper).clamp_max(-1e-12)))

    def log_below(self, border: Tensor) -> Tensor:
        """log Φ."""
        return log_normal_cdf(border)

    def standard_draw(self, like: Tensor) -> Tensor:
        """Normal numbers."""
        return torch.randn_like(like)


LIKELIHOODS: Final[dict[LikelihoodKind, Likelihood]] = {
    "bernoulli": Bernoulli(),
    "logistic": DiscretisedLogistic(),
    "gaussian": DiscretisedGaussian(),
}


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """Nats of a picture of D values as bits of one value, nats / (D ln 2)."""
    return nats / (dimensions * math.log(2))
