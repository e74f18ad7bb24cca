"""Binary latents: q(z|x) = Π Bernoulli, p(z) uniform over all strings of bits."""

from __future__ import annotations

import math
from typing import Self, final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.prior_module import Encode, PriorModule, PriorSizes


@final
class Bits(Posterior):
    """q(z_j = 1|x) = σ(l_j), independent for each of P bits of each of K latents.

    Draws are 0 or 1; in the backward pass the gradient goes to σ(l) as if that were the draw
    (straight through; Bengio et al. 2013, arXiv 1308.3432). The binary mapper of Fleuret (2025,
    arXiv 2510.17504) draws the same codes.

    Args:
        logits: l, [N P] or [N K P].
    """

    takes_grids = is_discrete = True

    @staticmethod
    def numbers(size: int) -> int:
        """A logit for each bit."""
        return size

    @classmethod
    def from_numbers(cls, numbers: Tensor, shape: tuple[int, ...]) -> Self:
        """The logits; all zeros are the uniform prior."""
        return cls(numbers.unflatten(-1, shape))

    @property
    def mean(self) -> Tensor:
        """σ(l). Decoders round it to bits."""
        return self.tensors[0].sigmoid()

    @property
    def log_variance(self) -> Tensor:
        """log σ(l) σ(−l)."""
        return logsigmoid(self.tensors[0]) + logsigmoid(-self.tensors[0])

    def transform(self, noise: Tensor) -> Tensor:
        """1 where Φ(ε) < σ(l), else 0."""
        mean = self.mean
        drawn = (torch.special.ndtr(noise) < mean).to(mean)
        return drawn + (mean - mean.detach())

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_j z_j log σ(l_j) + (1 − z_j) log σ(−l_j)."""
        logits = self.tensors[0]
        each = z * logits + logsigmoid(-logits)
        return each.flatten(start_dim=z.ndim - logits.ndim + 1).sum(-1)

    def log_prob_of_each(self, z: Tensor) -> Tensor:
        """The same of all pairs, z [M P] → [M N]: one matrix product."""
        logits = self.tensors[0].flatten(1)
        return z.flatten(1) @ logits.T + logsigmoid(-logits).sum(1)

    def _entropy_of_each(self) -> Tensor:
        """Of each bit, nats, [N P] or [N K P]."""
        logits = self.tensors[0]
        return -(logits.sigmoid() * logits + logsigmoid(-logits))

    def entropy(self) -> Tensor:
        """−Σ_j p_j log p_j + (1 − p_j) log(1 − p_j)."""
        return self._entropy_of_each().flatten(1).sum(1)

    def has_exact_kl(self, prior: Prior) -> bool:
        """To uniform bits."""
        return isinstance(prior, UniformBits)

    def exact_kl(self, prior: Prior) -> Tensor:
        """log 2 − H(z_j) of each bit, [N P] or [N K P]."""
        return math.log(2) - self._entropy_of_each()


@final
class UniformBits(Prior):
    """Every string of bits is equally probable: p(z) = 2^−(K·P)."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def log_prob(self, z: Tensor) -> Tensor:
        """−K·P log 2, nats."""
        nats = -math.prod(self.shape) * math.log(2)
        return z.new_full(z.shape[: z.ndim - len(self.shape)], nats)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Fair coins."""
        return torch.randint(2, (count, *self.shape), generator=generator).float()


@final
class UniformBitsPrior(PriorModule):
    """Every string of bits is equally probable, for the posterior bits; without parameters."""

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.shape = sizes.shape

    def forward(self, encode: Encode) -> UniformBits:
        """Uniform over latents of that shape."""
        return UniformBits(*self.shape)
