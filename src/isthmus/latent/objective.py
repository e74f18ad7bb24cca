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
    """The terms of the negative ELBO of every example, in nats, as they are.

    What follows the KL is there only in the training of a model with a label y: one beside z,
    whose reconstruction is then −E_q[log p(x|z, y)], and evaluation sums y out, see
    :mod:`isthmus.models.labels`; or one told from z, whose −log p(y|z) is the classification, see
    :mod:`isthmus.models.pictures.label_heads`.

    Arguments:
        reconstruction: −E_q[log p(x|z)], a sum over the predicted tokens, [N].
        kl: KL(q(z|x) ‖ p(z)), [N P] where it splits over dimensions, else [N 1].
        label: −log p(y) of a label that is given, KL(q(y|x) ‖ p(y)) where none is, [N].
        classification: −log q(y|x) of a label that is given, else 0, [N]. Not part of the bound.
        balance: KL(mean_n q(y|x_n) ‖ p(y)) over the batch, in each of N places. Nor is this.
        adversary: loss of an adversary that tells y from z, and of its victim, [N]. Nor is this.
        uncertainty: entropy of p(y|z) where no label is given, else 0, [N]. Nor is this.
        caption: the share of a caption in ``reconstruction``, of examples with several parts, [N].
        feature: distance of what is decoded in a frozen network, [N]. Nor is this; it is there in
            the training of a model of pictures, see :mod:`isthmus.models.pictures.comparators`.
    """

    reconstruction: Tensor
    kl: Tensor
    label: Tensor | None = None
    classification: Tensor | None = None
    balance: Tensor | None = None
    adversary: Tensor | None = None
    uncertainty: Tensor | None = None
    caption: Tensor | None = None
    feature: Tensor | None = None

    @property
    def kl_total(self) -> Tensor:
        """KL of every example, nats, [N]."""
        return self.kl.flatten(1).sum(-1)

    @property
    def negative_elbo(self) -> Tensor:
        """−ELBO of every example at β = 1, nats, [N]; of (x, y) where the label is given."""
        bound = self.reconstruction + self.kl_total
        return bound if self.label is None else bound + self.label


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

_WEIGHTS = (
    "free_bits",
    "classification",
    "label_nats",
    "balance",
    "adversary",
    "uncertainty",
    "caption",
    "feature",
)


@final
@dataclass(frozen=True)
class Objective:
    """The training loss: reconstruction + β(step) · floor(KL), nats per example.

    With a label y beside z it is reconstruction + β(step) · (floor(KL) + |label − γ|) +
    α · classification + weight · balance (Kingma et al. 2014, eq. 9). γ keeps an unsupervised y
    in use: Yang et al. 2017, section 3.3, leave up to γ nats free, max(γ, label), where a y that
    says nothing may stay so; here y is held at γ from both sides (as Burgess et al. 2018, arXiv
    1804.03599, hold z), which for γ = 0 is the bound.

    Arguments:
        schedule: β as a function of the step.
        free_bits: λ, nats per dimension, or in all for ``form="total"``; 0 turns the floor off.
        form: which floor; see the functions of this module.
        total_steps: length of the run in optimiser steps.
        classification: α.
        label_nats: γ, of KL(q(y|x) ‖ p(y)).
        adversary: weight of the adversary's loss.
        uncertainty: weight of the entropy of p(y|z) where no label is given.
        caption: weight of −log p(caption|z) beside that of a picture, whose thousands of nats
            would otherwise teach a shared encoder first (ξ of Pu et al. 2016).
        feature: λ_feat of Dosovitskiy & Brox (2016), weight of the feature term.
        balance: weight of the term that keeps all labels in use. Like the floor on the batch
            mean, that term sees one micro-batch at a time.
    """

    schedule: Schedule
    total_steps: int
    free_bits: float = 0.0
    form: FreeBits = "mask"
    classification: float = 1.0
    label_nats: float = 0.0
    balance: float = 0.0
    adversary: float = 1.0
    uncertainty: float = 0.0
    caption: float = 1.0
    feature: float = 0.0

    def __post_init__(self) -> None:
        for name in _WEIGHTS:
            if not 0 <= (value := getattr(self, name)) < math.inf:
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
        if terms.classification is not None:
            loss = loss + self.classification * terms.classification
        if terms.balance is not None:
            loss = loss + self.balance * terms.balance
        if terms.caption is not None:
            loss = loss + (self.caption - 1) * terms.caption
        if terms.adversary is not None:
            loss = loss + self.adversary * terms.adversary
        if terms.uncertainty is not None:
            loss = loss + self.uncertainty * terms.uncertainty
        if terms.feature is not None:
            loss = loss + self.feature * terms.feature
        return loss

    def _floored(self, terms: Terms) -> Tensor:
        """The KL of z under its floor, [N]."""
        if self.free_bits == 0:
            return terms.kl_total
        if self.form != "total" and terms.kl.shape[-1] == 1:
            raise ValueError(
                f"free bits per dimension ({self.form}) need a KL that splits over dimensions, "
                "which a single column does not; use form 'total', which is the same for it"
            )
        return _FLOORS[self.form](terms.kl, self.free_bits)
