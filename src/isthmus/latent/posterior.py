"""The approximate posterior q(z|x): a distribution over latents, not a pair of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from isthmus.latent.prior import Prior

LOG_TWO_PI = math.log(2 * math.pi)


def normal_log_density(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log N(z; mean, exp(log_variance)) of every dimension, in nats; the shapes broadcast."""
    squared_error = (z - mean).square() * torch.exp(-log_variance)
    return -0.5 * (LOG_TWO_PI + log_variance + squared_error)


@final
class DiagonalGaussian:
    r"""q(z|x) = N(mean, diag(exp(log_variance))), one distribution for every example.

    References:
        Kingma & Welling (2014), Auto-Encoding Variational Bayes, appendix B.
        https://arxiv.org/abs/1312.6114

    Arguments:
        mean: [N P], or [N K P] for a grid of K latents.
        log_variance: the same shape. Both are kept in float32 or better, because a KL summed in
            bf16 is wrong in its second digit.

    Raises:
        ValueError: where the two shapes differ.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        if mean.shape != log_variance.shape:
            raise ValueError(
                f"mean and log_variance must have one shape, got {tuple(mean.shape)} and "
                f"{tuple(log_variance.shape)}"
            )
        precise = torch.promote_types(mean.dtype, torch.float32)
        self.mean = mean.to(precise)
        self.log_variance = log_variance.to(precise)

    def __len__(self) -> int:
        return self.mean.shape[0]

    def __getitem__(self, rows: slice | Tensor | list[int]) -> DiagonalGaussian:
        """The posteriors of some examples."""
        return DiagonalGaussian(self.mean[rows], self.log_variance[rows])

    def __repr__(self) -> str:
        return f"DiagonalGaussian(N={len(self)}, latent={tuple(self.mean.shape[1:])})"

    @property
    def standard_deviation(self) -> Tensor:
        """exp(log_variance / 2), the shape of the mean."""
        return torch.exp(0.5 * self.log_variance)

    def detach(self) -> DiagonalGaussian:
        """The same distribution without gradient."""
        return DiagonalGaussian(self.mean.detach(), self.log_variance.detach())

    def to(self, device: torch.device) -> DiagonalGaussian:
        """The same distribution on a device."""
        return DiagonalGaussian(self.mean.to(device), self.log_variance.to(device))

    def cpu(self) -> DiagonalGaussian:
        """The same distribution in main memory."""
        return self.to(torch.device("cpu"))

    @staticmethod
    def concatenate(parts: Sequence[DiagonalGaussian]) -> DiagonalGaussian:
        """The posteriors of several batches as one."""
        return DiagonalGaussian(
            torch.cat([part.mean for part in parts]),
            torch.cat([part.log_variance for part in parts]),
        )

    def rsample(self, samples: int = 1, noise: Tensor | None = None) -> Tensor:
        """Draw z = mean + exp(log_variance / 2) · ε with gradient (reparameterised).

        Arguments:
            samples: S, how many draws for every example.
            noise: ε, standard normal [S N P]; drawn from torch's generator if absent. Given noise
                makes the draw a pure function, which evaluation and resumed runs rely on.

        Returns:
            z [S N P] (or [S N K P]).

        Raises:
            ValueError: where the noise is not one draw for every example, or S of them.
        """
        if noise is None:
            noise = torch.randn(samples, *self.mean.shape, device=self.mean.device)
        # A smaller noise would broadcast, and examples would share their draws unseen.
        if noise.shape[1:] != self.mean.shape:
            raise ValueError(
                f"noise must have the shape [S, {', '.join(map(str, self.mean.shape))}], "
                f"got {list(noise.shape)}"
            )
        return self.mean + self.standard_deviation * noise.to(self.mean)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log q(z|x) in nats: z [... N P] → [... N]."""
        density = normal_log_density(z, self.mean, self.log_variance)
        return density.flatten(start_dim=z.ndim - self.mean.ndim + 1).sum(-1)

    def kl(self, prior: Prior, z: Tensor | None = None) -> Tensor:
        r"""KL(q(z|x) ‖ p(z)) in nats for every example.

        Against a standard normal it is exact and splits over the dimensions,
        ``½ (mean² + exp(log_variance) − log_variance − 1)``. Other priors have no closed form:
        there it is the average over draws of log q(z|x) − log p(z), in one undivided column.

        Arguments:
            prior: p(z).
            z: the draws [S N P] for priors without a closed form; one fresh draw if absent.

        Returns:
            [N P] (or [N K P]) for a standard normal, [N 1] for any other prior.
        """
        if prior.is_standard_normal:
            return 0.5 * (self.mean.square() + self.log_variance.exp() - self.log_variance - 1)
        draws = self.rsample() if z is None else z
        return (self.log_prob(draws) - prior.log_prob(draws)).mean(0).unsqueeze(-1)
