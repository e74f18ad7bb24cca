"""Families of posteriors q(z|x)."""

from __future__ import annotations

from functools import cached_property
from typing import Final, Self, final

import torch
from torch import Tensor
from torch.distributions import LowerCholeskyTransform, MultivariateNormal

from isthmus.latent.bits import Bits
from isthmus.latent.codebook import Quantised
from isthmus.latent.distribution import LOG_TWO_PI, Posterior


@final
class DiagonalGaussian(Posterior):
    """q(z|x) = N(mean, diag(exp(log_variance))).

    References:
        Kingma & Welling (2014), Auto-Encoding Variational Bayes, appendix B.
        https://arxiv.org/abs/1312.6114

    Args:
        mean: [N P], or [N K P] for a grid of K latents.
        log_variance: the same shape.

    Raises:
        ValueError: the two shapes differ.
    """

    takes_grids = True

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        if mean.shape != log_variance.shape:
            raise ValueError(
                f"mean and log_variance must have one shape, got {tuple(mean.shape)} and "
                f"{tuple(log_variance.shape)}"
            )
        super().__init__(mean, log_variance)

    @staticmethod
    def numbers(size: int) -> int:
        """Means and log-variances."""
        return 2 * size

    @classmethod
    def from_numbers(cls, numbers: Tensor, shape: tuple[int, ...]) -> Self:
        """The first half are the means (Optimus' layout), the second the log-variances."""
        return cls(*(half.unflatten(-1, shape) for half in numbers.chunk(2, dim=-1)))

    @property
    def mean(self) -> Tensor:
        """As given."""
        return self.tensors[0]

    @property
    def log_variance(self) -> Tensor:
        """As given."""
        return self.tensors[1]

    def transform(self, noise: Tensor) -> Tensor:
        """mean + exp(log_variance / 2) · ε."""
        return self.mean + self.standard_deviation * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_j log N(z_j; mean_j, exp(log_variance_j))."""
        squared_error = (z - self.mean).square() * torch.exp(-self.log_variance)
        density = -0.5 * (LOG_TWO_PI + self.log_variance + squared_error)
        return density.flatten(start_dim=z.ndim - self.mean.ndim + 1).sum(-1)

    def entropy(self) -> Tensor:
        """½ Σ_j (1 + log 2π + log_variance_j)."""
        return 0.5 * (LOG_TWO_PI + 1 + self.log_variance).flatten(1).sum(1)

    def kl_to_standard_normal(self) -> Tensor:
        """½ (mean² + exp(log_variance) − log_variance − 1) of each dimension, [N P]."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - self.log_variance - 1)

    def log_prob_of_each(self, z: Tensor) -> Tensor:
        """(z − m)² / v opened up, so that all pairs are two matrix products."""
        mean, log_variance, rows = (part.flatten(1) for part in (*self.tensors, z))
        precision = torch.exp(-log_variance)  # [N P]
        scaled_mean = mean * precision
        size = mean.shape[1]
        constant = (mean * scaled_mean + log_variance).sum(1) + size * LOG_TWO_PI  # [N]
        return -0.5 * (rows.square() @ precision.T - 2 * rows @ scaled_mean.T + constant)


@final
class FullGaussian(Posterior):
    """q(z|x) = N(mean, L Lᵀ), a Gaussian with any covariance.

    Its KL to a standard normal does not split over dimensions and is one column.

    Args:
        mean: [N P].
        below: the lower triangle of L row by row, its diagonal as logarithms, [N P(P+1)/2].
    """

    def __init__(self, mean: Tensor, below: Tensor) -> None:
        super().__init__(mean, below)

    @staticmethod
    def numbers(size: int) -> int:
        """Means and a triangle."""
        return size + size * (size + 1) // 2

    @classmethod
    def from_numbers(cls, numbers: Tensor, shape: tuple[int, ...]) -> Self:
        """The means, then the triangle."""
        return cls(numbers[:, : shape[0]], numbers[:, shape[0] :])

    @cached_property
    def distribution(self) -> MultivariateNormal:
        """The same in torch."""
        mean, below = self.tensors
        size = mean.shape[1]
        rows, columns = torch.tril_indices(size, size, device=mean.device)
        triangle = mean.new_zeros(len(mean), size, size).index_put(
            (torch.arange(len(mean), device=mean.device).unsqueeze(1), rows, columns), below
        )
        factor = LowerCholeskyTransform()(triangle)
        return MultivariateNormal(mean, scale_tril=factor, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """As given."""
        return self.tensors[0]

    @property
    def log_variance(self) -> Tensor:
        """log of the diagonal of L Lᵀ."""
        return self.distribution.variance.log()

    def transform(self, noise: Tensor) -> Tensor:
        """mean + L ε."""
        with torch.autocast(noise.device.type, enabled=False):  # it would round L to bf16
            return self.mean + torch.einsum("nij,snj->sni", self.distribution.scale_tril, noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """By a triangular solve."""
        return self.distribution.log_prob(z)

    def entropy(self) -> Tensor:
        """½ P (1 + log 2π) + Σ_j log L_jj."""
        return self.distribution.entropy()


POSTERIORS: Final[dict[str, type[Posterior]]] = {
    "diagonal": DiagonalGaussian,
    "full": FullGaussian,
    "quantised": Quantised,
    "bits": Bits,
}
"""Every family, by the name it has in settings and in saved configurations."""
