"""One rule on logits, l + α (l⁺ − l⁻), and the methods that are cases of it.

All logits are raw, [... V], as the models give them. A constant added to l⁺ or l⁻ falls out in
the softmax, so that log-probabilities do as well for these two; l itself stays raw, because a
penalty that comes after (:mod:`isthmus.control.sampling`) may read its sign. Tokens are banned
after steering, not before: −∞ − (−∞) is no number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from isthmus.control.sampling import keep_nucleus
from isthmus.errors import IsthmusError

_SUM_TOLERANCE = 1e-4
_OUT_OF_REACH = 1e4


def steer(base: Tensor, towards: Tensor, away: Tensor | float, strength: float) -> Tensor:
    """L + α (l⁺ − l⁻), that is p(x) · (p⁺(x) / p⁻(x))^α before normalising.

    Arguments:
        base: l, [... V].
        towards: l⁺, [... V].
        away: l⁻, [... V], or a number.
        strength: α; 0 returns `base` itself.
    """
    return base if strength == 0 else base + strength * (towards - away)


def guide(coded: Tensor, null: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, l_∅ + γ (l_c − l_∅).

    References:
        Sanchez et al. (2023), Stay on topic with Classifier-Free Guidance, section 2.2.

    Arguments:
        coded: l_c, with the code, [... V].
        null: l_∅, with the null code in its place, [... V].
        scale: γ; 1 returns `coded` itself, 0 `null` itself, above 1 goes beyond the code.
    """
    return coded if scale == 1 else steer(null, coded, null, scale)


def within(logits: Tensor, coded: Tensor, top_p: float) -> Tensor:
    """Steered logits, the tokens outside the nucleus of p(x|c) put out of reach.

    Steering far lifts tokens that are improbable under the code and more so without it; this
    keeps it to tokens that the code would write by itself.

    References:
        Li et al. (2023), Contrastive Decoding: Open-ended Text Generation as Optimization,
        section 3.3, whose plausible set is {p ≥ α max p}; here it is the nucleus of Holtzman et
        al. (2020).

    Arguments:
        logits: l + α (l⁺ − l⁻), [N V].
        coded: l⁺, [N V].
        top_p: of the nucleus; 1 returns `logits` itself.

    Returns:
        [N V]. Tokens outside are 10⁴ nats lower: of probability 0 as a float, but still in their
        order, should all tokens inside be banned afterwards.
    """
    if top_p == 1:
        return logits
    inside = keep_nucleus(coded, top_p).isfinite()
    return torch.where(inside, logits, logits - _OUT_OF_REACH)


def experts(base: Tensor, expert: Tensor, anti_expert: Tensor, strength: float) -> Tensor:
    """DExperts, l + α (l⁺ − l⁻) with two fine-tuned models, [... V].

    References:
        Liu et al. (2021), DExperts: Decoding-Time Controlled Text Generation, section 2.
    """
    return steer(base, expert, anti_expert, strength)


def gedi(
    base: Tensor,
    log_likelihoods_so_far: Tensor,
    next_log_probabilities: Tensor,
    code: int,
    strength: float,
    log_prior: Tensor | None = None,
) -> Tensor:
    """GeDi, l + α log p(c|x_≤t): Bayes' rule over the codes for every next token.

    log p(c|x_≤t) = log p(c) + log p(x_≤t|c) − log Σ_c' p(c') p(x_≤t|c'). The paper divides the
    log-likelihoods by the length of the text, which is a tempered posterior; this is the exact
    one, and whoever wants the paper's divides them first.

    References:
        Krause et al. (2020), GeDi: Generative Discriminator Guided Sequence Generation, section 3.

    Arguments:
        base: l, [N V].
        log_likelihoods_so_far: log p(x_<t|c), summed over tokens, [C N], nats.
        next_log_probabilities: log p(x_t|x_<t, c), normalised, [C N V], nats.
        code: the place c of the wanted code.
        strength: α.
        log_prior: log p(c), [C], nats; uniform without.
    """
    joint = log_likelihoods_so_far.unsqueeze(-1) + next_log_probabilities
    if log_prior is not None:
        joint = joint + log_prior.view(-1, 1, 1)
    return steer(base, joint[code], joint.logsumexp(0), strength)


def fudge(base: Tensor, log_attribute: Tensor, strength: float = 1.0) -> Tensor:
    """FUDGE, l + α log p(a|x_≤t), with a classifier of prefixes.

    References:
        Yang & Klein (2021), FUDGE: Controlled Text Generation With Future Discriminators,
        section 3.

    Arguments:
        base: l, [N V].
        log_attribute: log p(a|x_<t, x_t) of every next token, [N V], nats.
        strength: α; 1 is Bayes' rule.
    """
    return steer(base, log_attribute, 0.0, strength)


def mix(logits: Tensor, weights: Tensor) -> Tensor:
    """Several codes at once, Σ_k w_k l_k: a product of experts, p ∝ Π_k p_k^{w_k}.

    In log space, because a token has then to please every code: the text is of all of them. The
    arithmetic mean Σ_k w_k p_k lets each token come from one code or another; kept up over a
    text by Bayes' rule, the weights run to a single code within a few tokens. A weighted sum
    also leaves raw logits raw.

    Arguments:
        logits: of the K codes, [K N V].
        weights: [K], above 0, with sum 1.

    Returns:
        [N V].

    Raises:
        IsthmusError: The weights are not so.
    """
    total = float(weights.sum())
    if not bool((weights > 0).all()) or not abs(total - 1) < _SUM_TOLERANCE:
        raise IsthmusError(
            f"weights of codes: got {[round(w, 4) for w in weights.tolist()]}, expected numbers "
            "above 0 with sum 1; divide them by their sum, and leave out codes of weight 0"
        )
    return torch.einsum("k,k...->...", weights.to(logits), logits)
