"""The product of Gaussian experts: several posteriors combined into one."""

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

    An example without an expert keeps the prior N(0, I).

    References:
        Wu & Goodman (2018), arXiv 1802.05335, section 2.2; Hinton (2002), products of experts.

    Args:
        experts: for each the M examples that it covers, and their posteriors, [M P].
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
