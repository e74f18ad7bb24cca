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
    """β, the weight that the KL has reached at the end of every cycle."""
    cycles: Size = 1
    """Number of cycles of the schedule."""
    zero: Fraction = 0.5
    """Fraction of a cycle with β = 0 (zero-ramp only)."""
    ramp: Fraction = 0.25
    """Fraction of a cycle over which β rises (every schedule but constant)."""
    free_bits: Weight = 0.0
    """λ, the nats of KL in each dimension that cost nothing (with free-bits-form latent: in each
    of K latents; total: in all dimensions together)."""
    free_bits_form: Literal["mask", "clamp", "batch-mean", "latent", "total"] = "mask"
    """How free bits work: mask (Optimus 2020), clamp (Li et al. 2019, T5-VAE 2021), batch-mean
    (Kingma et al. 2016), latent (one floor for each of model.latents; Fleuret 2025), or total (one
    floor for the sum over dimensions)."""
    label_nats: Weight = 0.0
    """γ: hold KL(q(y|x) ‖ p(y)) at γ nats instead of minimising it. A value a little below ln C,
    for C labels or clusters, keeps all of them in use."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms that models add to their bound in training, by the terms' names.

    The loss adds the terms in this order. A new term needs its weight here and nothing else.
    """

    classification: Weight = 1.0
    """Weight of −log q(y|x) for examples with a label y (α; with model.labels given). For
    pictures, the weight of −log p(y|z) (ξ); for a language model, see model.rivals."""
    balance: Weight = 0.0
    """Weight of KL(q̄ ‖ p(y)), where q̄ is the mean of q(y|x) over a batch (for pictures, of
    p(y|z)). It keeps all labels or clusters in use."""
    caption: Weight = 1.0
    """Weight of a caption's nats in training (pictures with captions). A picture has hundreds of
    times as many nats, so at weight 1 the caption would be learned last. Reported bounds do not
    use this weight."""
    adversary: Weight = 1.0
    """Weight of both the adversary's loss and the encoder's loss against it (model.adversary)."""
    uncertainty: Weight = 0.0
    """Weight of the entropy of p(y|z) for pictures without a label. It keeps class boundaries away
    from these pictures (Grandvalet & Bengio 2005). Together with balance it maximises the mutual
    information of y and x (Krause et al. 2010)."""
    words: Weight = 0.0
    """Weight of −log p of a text's tokens in any order, predicted from its summary alone
    (model.summary; the bag-of-words loss of Zhao et al. 2017)."""
    summary_kl: Weight = 0.0
    """What the KL of the summary weighs beyond β (model.summary): a short summary is one that the
    prior can sample, while the details only have to bring the text back."""
    codebook: Weight = 1.0
    """Weight of what keeps a codebook and what the encoder predicts together, and all entries in
    use (model.posterior quantised)."""
    feature: Weight = 0.0
    """λ_feat, the weight of a feature loss: the distance between a picture and its reconstruction
    in the features of a frozen random network (Dosovitskiy & Brox 2016). It is scaled so that the
    mean distance between two random pictures is the number of values in a picture."""


@dataclass(frozen=True)
class ObjectiveSettings(TermWeights, BoundSettings):
    """The training loss: reconstruction + β(step) · KL above the free bits + Σ weight · term."""

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term outside the bound, by the term's name."""
        bound = {own.name for own in fields(BoundSettings)}
        return {name: weight for name, weight in vars(self).items() if name not in bound}
