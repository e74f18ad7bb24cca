"""What every kind of prior is built on: its sizes, its module, and the standard normal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from isthmus.latent.distribution import LOG_TWO_PI, Posterior, Prior

Encode = Callable[[Tensor], Posterior]
"""What a VampPrior needs from its model: pseudo-inputs [K L E] → their posteriors."""


@final
class StandardNormal(Prior):
    """N(0, I) over latents of shape ``[P]`` or ``[K P]``."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    @property
    def is_standard_normal(self) -> bool:
        """It is."""
        return True

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_j −½ (log 2π + z_j²), nats."""
        density = -0.5 * (LOG_TWO_PI + z.square())
        return density.flatten(start_dim=z.ndim - len(self.shape)).sum(-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal draws, on the CPU so that a seed means the same on every machine."""
        return torch.randn(count, *self.shape, generator=generator)


@final
class WithDetails(Prior):
    """p(z) of latents in two levels: any prior of the summary, N(0, I) of the details.

    Draws have hidden details, zeros, which leave all to the summary.

    Args:
        summary: prior of the first latents, [G P].
        details: number of the others.
    """

    def __init__(self, summary: Prior, details: int) -> None:
        self.summary, self.details = summary, details

    @property
    def is_standard_normal(self) -> bool:
        """Whether the summary's is."""
        return self.summary.is_standard_normal

    def log_prob(self, z: Tensor) -> Tensor:
        """log p of both levels, nats: z [... K P] → [...]."""
        summary, details = z.tensor_split([z.shape[-2] - self.details], dim=-2)
        normal = StandardNormal(*details.shape[-2:])
        return self.summary.log_prob(summary) + normal.log_prob(details)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the summary, with hidden details."""
        summary = self.summary.sample(count, generator)
        return torch.nn.functional.pad(summary, (0, 0, 0, self.details))


@final
@dataclass(frozen=True)
class PriorSizes:
    """What a prior is built from; each kind uses what it needs.

    Args:
        shape: of a latent, (P,), or (K, P) for a grid of K latents.
        components: Gaussians of the mixture, or pseudo-inputs of VampPrior.
        transforms: of the spline flow.
        hidden_size: width of the networks of a flow.
        pseudo_inputs: makes K inputs [K L E] of the encoder, where VampPrior starts; absent for
            a model without an encoder of one kind of data.
        whitened: whether the spline flow begins with an affine map, fixed by :meth:`start_from`,
            to a mean of 0 and a covariance of I. Its splines bend only values within ±5.
    """

    shape: tuple[int, ...]
    components: int = 64
    transforms: int = 3
    hidden_size: int = 64
    pseudo_inputs: Callable[[int], Tensor] | None = None
    whitened: bool = False


class PriorModule(nn.Module, ABC):
    """A prior with parameters: calling it gives the distribution at their present values."""

    learning_rate: ClassVar[float] = 1e-2
    """Where Adam begins when the prior is fitted to a trained model."""
    batch_size: ClassVar[int] = 256
    """Draws a step of that fit."""

    @abstractmethod
    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__()

    def start_from(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Move the parameters to where a fit to an aggregate posterior begins, if it matters."""

    def loss(self, z: Tensor, encode: Encode, generator: torch.Generator) -> Tensor:
        """What a step of a fit minimises on draws z [N ...] of the aggregate posterior."""
        return -self(encode).log_prob(z).mean()

    def finish(self, z: Tensor) -> None:
        """End a fit; z [N ...] are held-out draws of the aggregate posterior."""

    @abstractmethod
    def forward(self, encode: Encode) -> Prior:
        """The prior; ``encode`` is used by priors that are made of posteriors."""


@final
class StandardNormalPrior(PriorModule):
    """N(0, I), without parameters."""

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.shape = sizes.shape

    def forward(self, encode: Encode) -> StandardNormal:
        """The standard normal over latents of that shape."""
        return StandardNormal(*self.shape)
