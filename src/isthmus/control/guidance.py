"""One rule on logits, l + α (l⁺ − l⁻).

It is classifier-free guidance (l⁺ with the code, l = l⁻ without it; Sanchez et al. 2023), DExperts
(an expert and an anti-expert; Liu et al. 2021), GeDi (l⁺ − l⁻ = log p(c|x_≤t) by Bayes' rule over
the codes; Krause et al. 2020) and FUDGE (the same by a classifier of prefixes; Yang & Klein 2021).

All logits are raw, [... V], as the models return them. A constant added to l⁺ or l⁻ cancels in
the softmax, so log-probabilities serve as well for these two; l itself stays raw, because a
penalty applied afterwards (:mod:`isthmus.control.sampling`) may read its sign. Ban tokens after
steering, not before: −∞ − (−∞) is not a number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from isthmus.control.sampling import keep_nucleus
from isthmus.errors import IsthmusError

_SUM_TOLERANCE = 1e-4
_OUT_OF_REACH = 1e4


def steer(base: Tensor, towards: Tensor, away: Tensor, strength: float) -> Tensor:
    """l + α (l⁺ − l⁻), that is p(x) · (p⁺(x) / p⁻(x))^α before normalising.

    Args:
        base: l, [... V].
        towards: l⁺, [... V].
        away: l⁻, [... V].
        strength: α; 0 returns `base` itself.
    """
    return base if strength == 0 else base + strength * (towards - away)


def within(logits: Tensor, coded: Tensor, top_p: float) -> Tensor:
    """Steered logits with the tokens outside the nucleus of p(x|c) put out of reach.

    Strong steering lifts tokens that are improbable under the code and more so without it; this
    restricts it to tokens that the code would write by itself.

    References:
        Li et al. (2023), Contrastive Decoding: Open-ended Text Generation as Optimization,
        section 3.3, whose plausible set is {p ≥ α max p}; here it is the nucleus of Holtzman et
        al. (2020).

    Args:
        logits: l + α (l⁺ − l⁻), [N V].
        coded: l⁺, [N V].
        top_p: Of the nucleus; 1 returns `logits` itself.

    Returns:
        [N V]. Tokens outside are 10⁴ nats lower: of probability 0 as a float, but still in their
        order, in case all tokens inside are banned afterwards.
    """
    if top_p == 1:
        return logits
    inside = keep_nucleus(coded, top_p).isfinite()
    return torch.where(inside, logits, logits - _OUT_OF_REACH)


def mix(logits: Tensor, weights: Tensor) -> Tensor:
    """Several codes at once, Σ_k w_k l_k: a product of experts, p ∝ Π_k p_k^{w_k}.

    In log space, so each token has to suit every code and the text is of all of them. The
    arithmetic mean Σ_k w_k p_k lets each token come from one code or another; continued over a
    text by Bayes' rule, its weights converge to a single code within a few tokens. A weighted sum
    also keeps raw logits raw.

    Args:
        logits: Of the K codes, [K N V].
        weights: [K], above 0, with sum 1.

    Returns:
        [N V].

    Raises:
        IsthmusError: The weights are not above 0 with sum 1.
    """
    total = float(weights.sum())
    if not bool((weights > 0).all()) or not abs(total - 1) < _SUM_TOLERANCE:
        raise IsthmusError(
            f"weights of codes: got {[round(w, 4) for w in weights.tolist()]}, expected numbers "
            "above 0 with sum 1; divide them by their sum, and leave out codes of weight 0"
        )
    return torch.einsum("k,k...->...", weights.to(logits), logits)
