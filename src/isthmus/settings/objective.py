"""Settings of the training loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isthmus.settings.ranges import AT_LEAST_ONE, FRACTION, NOT_NEGATIVE, check


@dataclass(frozen=True)
class ObjectiveSettings:
    """The training loss: reconstruction + β(step) · KL, the KL with a floor, and other terms."""

    schedule: Literal["constant", "linear", "cyclical", "zero-ramp"] = "zero-ramp"
    """How β changes during the run: constant (Higgins et al. 2017), linear (Bowman et al. 2016),
    cyclical (Fu et al. 2019) or zero-ramp (Optimus, Li et al. 2020)."""
    beta: float = 1.0
    """β, the weight of the KL term, at the end of every cycle."""
    cycles: int = 1
    """Number of cycles of the schedule."""
    zero: float = 0.5
    """Fraction of a cycle with β = 0 (zero-ramp only)."""
    ramp: float = 0.25
    """Fraction of a cycle over which β rises (all but constant)."""
    free_bits: float = 0.0
    """λ, nats of KL per dimension without a cost (with the form "total": nats in all)."""
    free_bits_form: Literal["mask", "clamp", "batch-mean", "total"] = "mask"
    """How free bits work: mask (Optimus 2020), clamp (Li et al. 2019, T5-VAE 2021), batch-mean
    (Kingma et al. 2016), or total, one floor for the sum."""
    classification: float = 1.0
    """α, weight of −log q(y|x) where the label is given; for pictures, of −log p(y|z) (ξ of Pu et
    al. 2016)."""
    label_nats: float = 0.0
    """γ: keep KL(q(y|x) ‖ p(y)) at this many nats instead of pushing it to 0. A value a little
    below ln C keeps all clusters in use (model.clusters)."""
    adversary: float = 1.0
    """Weight of the adversary's loss, and of the encoder's loss against it (model.adversary)."""
    caption: float = 1.0
    """Weight of a caption's nats in training (pictures with captions): a picture has hundreds of
    times as many. Reported bounds never include it."""
    feature: float = 0.0
    """λ_feat, weight of the distance between pictures and their reconstructions in the features of
    a frozen random network (pictures; Dosovitskiy & Brox 2016)."""
    balance: float = 0.0
    """Weight of KL(mean q(y|x) ‖ p(y)) over a batch, which keeps all clusters in use; for pictures
    the same with p(y|z)."""
    uncertainty: float = 0.0
    """Weight of the entropy of p(y|z) where the label is missing (pictures): it moves the borders
    of classes away from unlabelled examples (Grandvalet & Bengio 2005). With balance it maximises
    the mutual information of y and x (Krause et al. 2010)."""

    def __post_init__(self) -> None:
        check(
            "objective",
            self,
            {
                NOT_NEGATIVE: (
                    *("beta", "free_bits", "classification", "label_nats", "balance"),
                    *("adversary", "uncertainty", "caption", "feature"),
                ),
                AT_LEAST_ONE: ("cycles",),
                FRACTION: ("zero", "ramp"),
            },
        )
