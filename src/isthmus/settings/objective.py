"""Settings of the training loss."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from isthmus.settings.ranges import Fraction, Size, Weight


@dataclass(frozen=True)
class BoundSettings:
    """How training charges the KL: β(step) · floor(KL)."""

    schedule: Literal["constant", "linear", "cyclical", "zero-ramp"] = "zero-ramp"
    """How β changes during the run: constant (Higgins et al. 2017), linear (Bowman et al. 2016),
    cyclical (Fu et al. 2019) or zero-ramp (Optimus, Li et al. 2020)."""
    beta: Weight = 1.0
    """β, the weight of the KL, at the end of every cycle."""
    cycles: Size = 1
    """Number of cycles of the schedule."""
    zero: Fraction = 0.5
    """Fraction of a cycle with β = 0 (zero-ramp only)."""
    ramp: Fraction = 0.25
    """Fraction of a cycle over which β rises (all but constant)."""
    free_bits: Weight = 0.0
    """λ, nats of KL per dimension that cost nothing (with the form "total": nats in all)."""
    free_bits_form: Literal["mask", "clamp", "batch-mean", "total"] = "mask"
    """How free bits work: mask (Optimus 2020), clamp (Li et al. 2019, T5-VAE 2021), batch-mean
    (Kingma et al. 2016), or total, one floor for the sum."""
    label_nats: Weight = 0.0
    """γ: hold KL(q(y|x) ‖ p(y)) at γ nats instead of pressing it to 0. A value a little below ln C
    keeps clusters in use (model.clusters)."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms that models add to their bound in training, by the terms' names.

    The loss adds the terms in this order. A new term needs its weight here and nothing else.
    """

    classification: Weight = 1.0
    """α, weight of −log q(y|x) where the label y is given (model.labels); for pictures ξ, weight
    of −log p(y|z)."""
    balance: Weight = 0.0
    """Weight of KL(mean q(y|x) ‖ p(y)) over a batch, which keeps all clusters in use; for pictures
    the same with p(y|z)."""
    caption: Weight = 1.0
    """Weight of a caption's nats in training (pictures with captions): a picture has hundreds of
    times as many, so a shared encoder would learn the caption last. Reported bounds ignore it."""
    adversary: Weight = 1.0
    """Weight of the adversary's loss, and of the encoder's loss against it (model.adversary)."""
    uncertainty: Weight = 0.0
    """Weight of the entropy of p(y|z) where the label is missing (pictures): it keeps class
    borders away from unlabelled pictures (Grandvalet & Bengio 2005). Together with balance it
    maximises the mutual information of y and x (Krause et al. 2010)."""
    feature: Weight = 0.0
    """λ_feat, weight of the distance between pictures and their reconstructions in the features of
    a frozen random network (pictures; Dosovitskiy & Brox 2016). The distance to another, random
    picture is the number of values in a picture."""


@dataclass(frozen=True)
class ObjectiveSettings(TermWeights, BoundSettings):
    """The training loss: reconstruction + β(step) · floor(KL) + Σ weight · term."""

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term outside the bound, by the term's name."""
        bound = {own.name for own in fields(BoundSettings)}
        return {name: weight for name, weight in vars(self).items() if name not in bound}
