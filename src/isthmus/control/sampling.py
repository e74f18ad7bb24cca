"""Penalties on repetition, temperature, and cuts: from logits to what may be sampled.

The order is: raw logits (steered, see :mod:`isthmus.control.guidance`), :func:`penalise`,
:func:`ban`, :func:`shaped`. The penalty reads raw logits in every decoding mode. On
log-probabilities, which beam search and guidance of transformers pass to it, its mode
``transformers`` is p → p^θ and hardly affects a token of high probability (0.9 → 0.898).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Literal, final, get_args

import torch
from torch import Tensor

from isthmus.errors import IsthmusError

_log = logging.getLogger(__name__)

Mode = Literal["paper", "transformers", "additive"]


@final
@dataclass(frozen=True)
class Penalty:
    """How much less probable tokens that were seen become; θ = 1 is no penalty.

    ``paper``: x/θ (Keskar et al. 2019, section 4.1), which *raises* negative logits for θ > 1.
    ``transformers``: x·θ where x < 0, x/θ elsewhere. ``additive``: x − ln θ, that is p/θ before
    normalising. Only the last does not change with a constant added to all logits, as the
    softmax does not: the other two depend on where the zero of a model's logits happens to be.

    Attributes:
        strength: θ, above 0; the paper's is 1.2.
        mode: One of the three.
        prompt: Count tokens of the prompt as seen.

    Raises:
        IsthmusError: A field is out of range.
    """

    strength: float = 1.0
    mode: Mode = "transformers"
    prompt: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.strength < math.inf:
            raise IsthmusError(
                f"penalty.strength: got {self.strength}, expected a number above 0; 1 turns it "
                "off, 1.2 is the paper's"
            )
        if self.mode not in get_args(Mode):
            raise IsthmusError(
                f"penalty.mode: got {self.mode!r}, expected one of {', '.join(get_args(Mode))}"
            )


def seen(
    ids: Tensor, mask: Tensor | None, vocabulary_size: int, exempt: Collection[int] = ()
) -> Tensor:
    """Which tokens of the vocabulary occur in each text, once or more.

    Args:
        ids: [N T].
        mask: [N T] bool, the positions that count; None = all. Padding is identified by position
            and never by its id, which may also be a word's.
        vocabulary_size: V.
        exempt: Ids that are never penalised, such as the newline or the code.

    Returns:
        [N V] bool.
    """
    places = ids if mask is None else ids.masked_fill(~mask, vocabulary_size)
    # One more column, for positions that do not count.
    found = torch.zeros(len(ids), vocabulary_size + 1, dtype=torch.bool, device=ids.device)
    found.scatter_(1, places, True)
    found[:, list(exempt)] = False
    return found[:, :vocabulary_size]


@cache
def _warn_of_negative_logits() -> None:
    """Once in a process."""
    _log.warning(
        "penalty mode 'paper' divides a negative logit, which makes a seen token more probable "
        "instead of less; use mode 'transformers' or 'additive' for this model"
    )


def penalise(logits: Tensor, seen: Tensor, penalty: Penalty) -> Tensor:
    """Lower the logits of seen tokens, each once; the others do not change.

    Args:
        logits: Raw, [N V].
        seen: [N V] bool, from :func:`seen`.
        penalty: θ and its mode.
    """
    strength = penalty.strength
    if strength == 1:
        return logits
    if penalty.mode == "additive":
        lowered = logits - math.log(strength)
    elif penalty.mode == "paper":
        lowered = logits / strength
        if bool((seen & (logits < 0) & logits.isfinite()).any()):
            _warn_of_negative_logits()
    else:
        lowered = torch.where(logits < 0, logits * strength, logits / strength)
    return torch.where(seen, lowered, logits)


def ban(logits: Tensor, ids: Collection[int]) -> Tensor:
    """Logits [N V] with −∞ at these tokens.

    Raises:
        IsthmusError: No token would be left.
    """
    if len(set(ids)) >= logits.shape[-1]:
        raise IsthmusError(
            f"banned tokens: got all {logits.shape[-1]:,}, expected at least one left"
        )
    banned = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    banned[list(ids)] = True
    return logits.masked_fill(banned, -math.inf)


def temper(logits: Tensor, temperature: float) -> Tensor:
    """Logits / T, so that p ∝ exp(x/T); T = 0 is greedy: −∞ everywhere but at the largest.

    T = 1 leaves the model's distribution as it is and T → ∞ makes it uniform.

    Raises:
        IsthmusError: The temperature is below 0 or infinite.
    """
    if not 0 <= temperature < math.inf:
        raise IsthmusError(f"temperature: got {temperature}, expected a number ≥ 0; 0 is greedy")
    return keep_top_k(logits, 1) if temperature == 0 else logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The k largest logits of [N V], −∞ elsewhere; ties go to the smaller ids.

    k = 0, or above V, keeps all.

    References:
        Fan et al. (2018), Hierarchical Neural Story Generation.

    Raises:
        IsthmusError: k is below 0.
    """
    if k < 0:
        raise IsthmusError(f"top_k: got {k}, expected a number ≥ 0; 0 keeps all")
    if k == 0:
        return logits
    order = logits.argsort(dim=-1, descending=True, stable=True)
    return _only(logits, order, torch.arange(logits.shape[-1], device=logits.device) < k)


def keep_nucleus(logits: Tensor, p: float) -> Tensor:
    """The fewest tokens of [N V] whose total probability is at least p, −∞ elsewhere.

    The token that crosses p is one of them, so the nucleus is never empty. (The code of CTRL
    leaves it out, contrary to its paper.) Ties go to the smaller ids.

    References:
        Holtzman et al. (2020), The Curious Case of Neural Text Degeneration, section 3.1.

    Raises:
        IsthmusError: p is not in (0, 1].
    """
    if not 0 < p <= 1:
        raise IsthmusError(f"top_p: got {p}, expected above 0 and at most 1; 1 keeps all")
    if p == 1:
        return logits
    order = logits.argsort(dim=-1, descending=True, stable=True)
    mass = logits.double().softmax(-1).gather(-1, order).cumsum(-1)
    before = torch.cat([torch.zeros_like(mass[..., :1]), mass[..., :-1]], dim=-1)
    return _only(logits, order, before < p)


def _only(logits: Tensor, order: Tensor, kept: Tensor) -> Tensor:
    """Keep the tokens of an order [N V] whose rank is marked [… V], −∞ elsewhere."""
    marks = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, kept.expand_as(order))
    return logits.masked_fill(~marks, -math.inf)


def shaped(
    logits: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Temperature, then the k largest, then the nucleus of what is left, [N V].

    Penalties and bans come before, see the docstring of this module.
    """
    return keep_nucleus(keep_top_k(temper(logits, temperature), top_k), top_p)


def drawn(probabilities: Tensor) -> Tensor:
    """An id of each row, [N 1], drawn with its probabilities [N V].

    The first id whose cumulative probability exceeds a uniform number, the inverse of the
    distribution function: one random number a row, where torch.multinomial draws V. Ids of
    probability 0 are never drawn.
    """
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    whole = cumulative[:, -1:]
    uniform = torch.rand_like(whole) * whole
    below = torch.nextafter(whole, torch.zeros_like(whole))  # the product may round up
    return torch.searchsorted(cumulative, uniform.minimum(below), right=True)
