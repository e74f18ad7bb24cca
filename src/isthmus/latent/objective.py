"""The one place where a bound is weighted, floored or annealed for training.

Models return :class:`Terms` in nats, unweighted; evaluation reads those. What is done to them to
make training work happens here and nowhere else, so no training trick can reach a reported number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from isthmus.latent.schedule import Schedule

FreeBits = Literal["mask", "clamp", "batch-mean", "total"]


@final
@dataclass(frozen=True)
class Terms:
    """The two terms of the negative ELBO of every example, in nats, as they are.

    Arguments:
        reconstruction: −E_q[log p(x|z)], a sum over the predicted tokens, [N].
        kl: KL(q(z|x) ‖ p(z)), [N P] where it splits over dimensions, else [N 1].
    """

    reconstruction: Tensor
    kl: Tensor

    @property
    def kl_total(self) -> Tensor:
        """KL of every example, nats, [N]."""
        return self.kl.flatten(1).sum(-1)

    @property
    def negative_elbo(self) -> Tensor:
        """−ELBO of every example at β = 1, nats, [N]."""
        return self.reconstruction + self.kl_total


def mask_free_bits(kl: Tensor, free_bits: float) -> Tensor:
    """Optimus' form, Σ_j 1[kl_j > λ] · kl_j (Li et al. 2020, eq. 12 and its code).

    The gradient is that of :func:`clamp_free_bits`; the value is lower by λ for every masked
    dimension.

    Arguments:
        kl: [N P], nats.
        free_bits: λ, nats per dimension.

    Returns:
        [N], nats.
    """
    return torch.where(kl > free_bits, kl, torch.zeros_like(kl)).flatten(1).sum(-1)


def clamp_free_bits(kl: Tensor, free_bits: float) -> Tensor:
    """Σ_j max(λ, kl_j) for every example: [N P] → [N].

    Li et al. (2019), section 3; the "KL threshold" of T5-VAE (Park & Lee 2021) is the same.
    """
    return kl.clamp_min(free_bits).flatten(1).sum(-1)


def batch_mean_free_bits(kl: Tensor, free_bits: float) -> Tensor:
    """Σ_j max(λ, mean_n kl_nj): the floor acts on the batch mean (Kingma et al. 2016, eq. 15).

    Returns [N] whose mean is that value, so that a loss stays a mean over examples. The batch is
    the micro-batch: under accumulation or several processes each has its own mean.
    """
    below = kl.mean(0, keepdim=True) <= free_bits
    return torch.where(below, torch.full_like(kl, free_bits), kl).flatten(1).sum(-1)


def total_threshold(kl: Tensor, threshold: float) -> Tensor:
    """max(λ, Σ_j kl_j): a floor on the total of every example, [N P] → [N].

    The free bits of Kingma et al. (2016) with all dimensions as one group.
    """
    return kl.flatten(1).sum(-1).clamp_min(threshold)


_FLOORS: dict[FreeBits, Callable[[Tensor, float], Tensor]] = {
    "mask": mask_free_bits,
    "clamp": clamp_free_bits,
    "batch-mean": batch_mean_free_bits,
    "total": total_threshold,
}


@final
@dataclass(frozen=True)
class Objective:
    """The training loss: reconstruction + β(step) · floor(KL), nats per example.

    Arguments:
        schedule: β as a function of the step.
        free_bits: λ, nats per dimension, or in all for ``form="total"``; 0 turns the floor off.
        form: which floor; see the functions of this module.
        total_steps: length of the run in optimiser steps.
    """

    schedule: Schedule
    total_steps: int
    free_bits: float = 0.0
    form: FreeBits = "mask"

    def __post_init__(self) -> None:
        if not 0 <= self.free_bits < math.inf:
            raise ValueError(f"free_bits must be a number of nats ≥ 0, got {self.free_bits}")
        if self.form not in _FLOORS:
            raise ValueError(f"free_bits form must be one of {list(_FLOORS)}, got {self.form!r}")

    def beta(self, step: int) -> float:
        """β at ``step``."""
        return self.schedule(step, self.total_steps)

    def __call__(self, terms: Terms, step: int) -> Tensor:
        """The loss of every example, [N]. At β = 0 the KL is left out of the graph altogether."""
        beta = self.beta(step)
        if beta == 0:
            return terms.reconstruction
        if self.free_bits == 0:
            return terms.reconstruction + beta * terms.kl_total
        if self.form != "total" and terms.kl.shape[-1] == 1:
            raise ValueError(
                f"free bits per dimension ({self.form}) need a KL that splits over dimensions, "
                "which a single column does not; use form 'total', which is the same for it"
            )
        return terms.reconstruction + beta * _FLOORS[self.form](terms.kl, self.free_bits)
