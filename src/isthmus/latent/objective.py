"""The one place where a bound is weighted, floored or annealed for training.

Models return :class:`Terms` in nats, unweighted; evaluation reads those. What is done to them to
make training work happens here and nowhere else, so no training trick can reach a reported number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor

from isthmus.latent.schedule import Schedule

FreeBits = Literal["mask", "clamp", "batch-mean", "latent", "total"]


@final
@dataclass(frozen=True)
class Terms:
    """The terms of the negative ELBO of every example, and what training adds to it, in nats.

    Only training fills what follows the KL. A model with a label y that p(x|z, y) reads bounds
    log p(x, y) then; evaluation sums y out, see :mod:`isthmus.models.labels`.

    Args:
        reconstruction: −E_q[log p(x|z)], a sum over the predicted tokens, [N].
        kl: KL(q(z|x) ‖ p(z)), [N P] where it splits over dimensions, else [N 1].
        label: −log p(y) where y is given, KL(q(y|x) ‖ p(y)) where it is not, [N].
        shares: parts of ``reconstruction`` that have a weight of their own, [N] each.
        extra: terms outside the bound, [N] each.
    """

    reconstruction: Tensor
    kl: Tensor
    label: Tensor | None = None
    shares: Mapping[str, Tensor] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def kl_total(self) -> Tensor:
        """KL of every example, nats, [N]."""
        return self.kl.flatten(1).sum(-1)

    @property
    def negative_elbo(self) -> Tensor:
        """−ELBO of every example at β = 1, nats, [N]; of (x, y) with ``label``."""
        bound = self.reconstruction + self.kl_total
        return bound if self.label is None else bound + self.label

    @property
    def named(self) -> dict[str, Tensor]:
        """Every term but the reconstruction and the KL by its name in the log, [N] each."""
        label = {} if self.label is None else {"label": self.label}
        return {**label, **self.shares, **self.extra}


def mask_free_bits(kl: Tensor, free_bits: float) -> Tensor:
    """Optimus' form, Σ_j 1[kl_j > λ] · kl_j (Li et al. 2020, eq. 12 and its code).

    The gradient is that of :func:`clamp_free_bits`; the value is lower by λ for every masked
    dimension.

    Args:
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


def latent_threshold(kl: Tensor, threshold: float) -> Tensor:
    """Σ_k max(λ, Σ_j kl_kj): a floor for each of K latents, [N K P] → [N].

    That of Fleuret (2025, arXiv 2510.17504), whose κ is λ. A single latent [N P] is the total.
    """
    each = kl.sum(-1).unsqueeze(1) if kl.ndim == 2 else kl.sum(-1)
    return each.clamp_min(threshold).sum(-1)


def total_threshold(kl: Tensor, threshold: float) -> Tensor:
    """max(λ, Σ_j kl_j): a floor on the total of every example, [N P] → [N].

    The free bits of Kingma et al. (2016) with all dimensions as one group.
    """
    return kl.flatten(1).sum(-1).clamp_min(threshold)


_FLOORS: dict[FreeBits, Callable[[Tensor, float], Tensor]] = {
    "mask": mask_free_bits,
    "clamp": clamp_free_bits,
    "batch-mean": batch_mean_free_bits,
    "latent": latent_threshold,
    "total": total_threshold,
}


@final
@dataclass(frozen=True)
class Objective:
    """The training loss: reconstruction + β(step) · floor(KL) + Σ weight · term, nats per example.

    A label in the bound adds β(step) · |label − γ|. Yang et al. (2017, section 3.3) keep an
    unsupervised y in use by max(γ, label), which leaves a y that carries no information where it
    is; |label − γ| holds it at γ from both sides, as Burgess et al. (2018, arXiv 1804.03599) hold
    z. γ = 0 is the bound. A share of the reconstruction adds (weight − 1) · share, so that its
    weight in all is the given one (ξ of Pu et al. 2016).

    Args:
        schedule: β as a function of the step.
        total_steps: length of the run in optimiser steps.
        free_bits: λ, nats per dimension, of each latent for ``form="latent"``, or in all for
            ``form="total"``; 0 turns the floor off.
        form: which floor; see the functions of this module.
        label_nats: γ.
        weights: of the shares and extra terms by name; the loss adds them in this order. A term
            over the batch, like the floor on the batch mean, sees one micro-batch at a time.
    """

    schedule: Schedule
    total_steps: int
    free_bits: float = 0.0
    form: FreeBits = "mask"
    label_nats: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {"free_bits": self.free_bits, "label_nats": self.label_nats}
        for name, value in (own | dict(self.weights)).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number ≥ 0, got {value}")
        if self.form not in _FLOORS:
            raise ValueError(f"free_bits form must be one of {list(_FLOORS)}, got {self.form!r}")

    def beta(self, step: int) -> float:
        """β at ``step``."""
        return self.schedule(step, self.total_steps)

    def __call__(self, terms: Terms, step: int) -> Tensor:
        """The loss of every example, [N]. At β = 0 the KL is left out of the graph altogether."""
        loss = terms.reconstruction
        if beta := self.beta(step):
            loss = loss + beta * self._floored(terms)
            if terms.label is not None:
                loss = loss + beta * (terms.label - self.label_nats).abs()
        if missing := {*terms.shares, *terms.extra} - set(self.weights):
            raise ValueError(f"weights: {min(missing)} has none; expected one for every term")
        for name, weight in self.weights.items():
            if name in terms.shares:
                loss = loss + (weight - 1) * terms.shares[name]
            if name in terms.extra:
                loss = loss + weight * terms.extra[name]
        return loss

    def _floored(self, terms: Terms) -> Tensor:
        """The KL of z under its floor, [N]."""
        if self.free_bits == 0:
            return terms.kl_total
        if self.form != "total" and terms.kl[0].numel() == 1:
            raise ValueError(
                f"free bits per dimension ({self.form}) need a KL that splits over dimensions, "
                "which a single column does not; use form 'total', which is the same for it"
            )
        return _FLOORS[self.form](terms.kl, self.free_bits)


def charged(kl: Tensor, seen: Tensor | None) -> Tensor:
    """The KL [N K P] of the latents that the decoder sees: ``seen`` [N K 1] is 1 there, else 0.

    Under a prior without a closed form it is one column [N 1], whose parts are not known: that is
    charged whole. Without ``seen`` all of it is charged.
    """
    return kl if seen is None or kl.ndim < seen.ndim else kl * seen
