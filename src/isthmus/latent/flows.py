"""Priors that are standard normal noise carried through bijections."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.prior_module import Encode, PriorModule, PriorSizes, StandardNormal


class Bijection(ABC):
    """An invertible map of the D numbers of a latent."""

    @abstractmethod
    def to_base(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Points nearer to the base [N D], and log |det ∂base/∂z| [N], for z [N D]."""

    @abstractmethod
    def from_base(self, base: Tensor) -> Tensor:
        """The inverse: base [N D] → z [N D]."""


@final
class Pushforward(Prior):
    """The law of standard normal noise that a chain of bijections carries to latents.

    The base is the better place to walk in: its density falls off evenly in all directions, so a
    great circle there passes where latents are.

    Args:
        shape: of a latent, (P,) or (K, P).
        maps: the bijections, that next to z first.
        like: a tensor on the device of the maps and of their type.
    """

    def __init__(self, shape: tuple[int, ...], maps: Sequence[Bijection], like: Tensor) -> None:
        self.shape = shape
        self.maps = maps
        self.like = like

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) by the change of variables, nats."""
        flat = self._flat(z)
        base, log_det = self._to_base(flat)
        log_prob = StandardNormal(base.shape[1]).log_prob(base) + log_det
        return log_prob.view(z.shape[: z.ndim - len(self.shape)])

    def to_base(self, z: Tensor) -> Tensor:
        """The noise that makes latents, of their shape: z [... P] → [... P]."""
        return self._to_base(self._flat(z))[0].view(z.shape)

    def from_base(self, base: Tensor) -> Tensor:
        """The latents that noise makes: [... P] → [... P]."""
        z = self._flat(base)
        with torch.autocast(z.device.type, enabled=False):
            for bijection in reversed(self.maps):
                z = bijection.from_base(z)
        return z.view(base.shape)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Base noise carried to latents."""
        noise = torch.randn(count, *self.shape, generator=generator)
        with torch.no_grad():
            return self.from_base(noise)

    def _flat(self, z: Tensor) -> Tensor:
        return z.reshape(-1, math.prod(self.shape)).to(self.like)

    def _to_base(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(len(z))
        with torch.autocast(z.device.type, enabled=False):  # bf16 would spoil the second digit
            for bijection in self.maps:
                z, part = bijection.to_base(z)
                log_det = log_det + part
        return z, log_det


@final
class Whitening(nn.Module, Bijection):
    """z = shift + L · base, with a lower triangular L: any Gaussian.

    As L is triangular, every number depends on those before it only, so that a prior with this map
    in front stays autoregressive.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(size))
        self.factor = nn.Parameter(torch.zeros(size, size))  # its diagonal as logarithms

    def to_base(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """By a triangular solve."""
        offset = (z - self.shift).T
        base = torch.linalg.solve_triangular(self._triangle(), offset, upper=False).T
        return base, -self.factor.diagonal().sum().expand(len(z))

    def from_base(self, base: Tensor) -> Tensor:
        """Shift + L · base."""
        return self.shift + base @ self._triangle().T

    def _triangle(self) -> Tensor:
        return self.factor.tril(-1) + self.factor.diagonal().exp().diag()

    @torch.no_grad()
    def fit(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Take mean and covariance from a draw of each of N posteriors.

        The covariance is (N S + D diag S) / (N + D): as if D further examples had had
        uncorrelated numbers, which keeps it invertible for N < D.
        """
        noise = torch.randn(1, *posterior.mean.shape, generator=generator)
        z = posterior.rsample(noise=noise)[0].flatten(1).double()
        count, size = z.shape
        centred = z - z.mean(0)
        covariance = centred.T @ centred / count
        variance = covariance.diagonal().clamp_min(1e-6)
        covariance = (count * covariance + size * variance.diag()) / (count + size)
        covariance += 1e-6 * variance.diag()
        triangle = torch.linalg.cholesky(covariance)
        self.shift.copy_(z.mean(0))
        self.factor.copy_(triangle.tril(-1) + triangle.diagonal().log().diag())


@final
class Spline(Bijection):
    """The transform of a zuko flow at the present parameters."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def to_base(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One pass through every network."""
        base, log_det = self.transform.call_and_ladj(z)
        return base, log_det

    def from_base(self, base: Tensor) -> Tensor:
        """One number after the other."""
        return self.transform.inv(base)


@final
class GaussianPrior(PriorModule):
    """A learned Gaussian with any covariance."""

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.shape = sizes.shape
        self.whitening = Whitening(math.prod(sizes.shape))

    def start_from(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Take the moments of the aggregate posterior, which is the fit."""
        self.whitening.fit(posterior, generator)

    def forward(self, encode: Encode) -> Pushforward:
        """The Gaussian at the present parameters."""
        return Pushforward(self.shape, [self.whitening], self.whitening.shift)


@final
class FlowPrior(PriorModule):
    """A neural spline flow over z (Durkan et al. 2019), from zuko.

    The K latents of a grid keep their order in every transform, and only the numbers within each
    are reversed from one to the next: p(z) = Π_k p(z_k | z_1, …, z_k−1).
    """

    learning_rate: ClassVar[float] = 3e-3

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        try:
            from zuko.distributions import DiagNormal
            from zuko.flows import Flow, MaskedAutoregressiveTransform, UnconditionalDistribution
            from zuko.transforms import MonotonicRQSTransform
        except ImportError as error:
            raise IsthmusError(
                "the flow prior needs the package zuko, which is not installed; "
                "run: pip install 'isthmus[flows]'"
            ) from error
        self.shape = sizes.shape
        bins, numbers = 8, math.prod(sizes.shape)
        # transformers builds a model that it loads without storage, and zuko's masks need some.
        with torch.device("cpu"):
            order = torch.arange(numbers).view(-1, sizes.shape[-1])
            transforms = [
                MaskedAutoregressiveTransform(
                    features=numbers,
                    order=(order.flip(1) if place % 2 else order).flatten(),
                    univariate=partial(MonotonicRQSTransform, slope=1e-3),
                    shapes=[(bins,), (bins,), (bins - 1,)],
                    hidden_features=[sizes.hidden_size] * 2,
                )
                for place in range(sizes.transforms)
            ]
            base = UnconditionalDistribution(
                DiagNormal, loc=torch.zeros(numbers), scale=torch.ones(numbers), buffer=True
            )
            self.flow = Flow(transforms, base)
        self.whitening = None
        if sizes.whitened:
            self.whitening = Whitening(numbers).requires_grad_(False)

    def start_from(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Whiten, because the splines bend only values within ±5."""
        if self.whitening is not None:
            self.whitening.fit(posterior, generator)

    def forward(self, encode: Encode) -> Pushforward:
        """The density at the present parameters."""
        spline = Spline(self.flow().transform)
        maps = [spline] if self.whitening is None else [self.whitening, spline]
        return Pushforward(self.shape, maps, next(self.flow.parameters()))
