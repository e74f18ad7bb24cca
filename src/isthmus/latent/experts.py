"""Several posteriors as one: the product of Gaussian experts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isthmus.latent.posterior import DiagonalGaussian


def product(
    experts: Sequence[tuple[Tensor, DiagonalGaussian]],
    size: int,
    latent_size: int,
    device: torch.device,
) -> DiagonalGaussian:
    r"""N(0, I) · Π_m N(μ_m, σ_m²), normalised: a Gaussian for every example, [N P].

        1/σ² = 1 + Σ_m 1/σ_m²,    μ = σ² Σ_m μ_m / σ_m²

    An example of which no expert speaks keeps the prior N(0, I).

    References:
        Wu & Goodman (2018), arXiv 1802.05335, section 2.2; Hinton (2002), products of experts.

    Arguments:
        experts: the M different rows that each speaks of, and what it says of them, [M P].
        size: N.
        latent_size: P.
        device: of the result.
    """
    precision = torch.ones(size, latent_size, device=device)
    weighted = torch.zeros(size, latent_size, device=device)
    for rows, expert in experts:
        own = torch.exp(-expert.log_variance)
        precision = precision.to(own.dtype).index_add(0, rows, own)
        weighted = weighted.to(own.dtype).index_add(0, rows, own * expert.mean)
    return DiagonalGaussian(weighted / precision, -precision.log())


def log_overlap(one: DiagonalGaussian, other: DiagonalGaussian) -> Tensor:
    r"""Log ∫ q_i(z) q_j(z) / N(z; 0, I) dz of every pair, [N P] and [M P] → [N M], nats.

    With exact posteriors this is log p(x_j|x_i) / p(x_j) by Bayes' rule, for two parts that z
    makes independent: what one thing says of another through z, though no decoder is asked. In
    each dimension, with precisions τ = 1/σ² and means μ of both,

        ½ log τ_i τ_j / T + h² / 2T − (τ_i μ_i² + τ_j μ_j²) / 2,
        T = τ_i + τ_j − 1,   h = τ_i μ_i + τ_j μ_j

    Arguments:
        one: no wider than the prior in any dimension, as :func:`product` gives it; else the
            integral may be infinite.
        other: the same.
    """
    first, second = torch.exp(-one.log_variance.double()), torch.exp(-other.log_variance.double())
    total = first[:, None] + second[None] - 1  # [N M P]
    pull = (first * one.mean)[:, None] + (second * other.mean)[None]
    square = (first * one.mean.square())[:, None] + (second * other.mean.square())[None]
    volume = first.log()[:, None] + second.log()[None] - total.log()
    return 0.5 * (volume + pull.square() / total - square).sum(-1)
