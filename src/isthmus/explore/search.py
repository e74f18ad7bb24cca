"""Texts at points of a space of summaries: many drafts, and the one whose own summary is nearest.

A decoder writes the words of the nearer end until half-way, and then those of the other: what it
writes for a point of a straight line jumps. So several latents near the point are decoded, with
more or fewer details, and what was written is encoded again. The model says by itself where each
draft lies; no other network is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from isthmus.explore.fitting import refitted
from isthmus.explore.walks import (
    Path,
    analogy,
    beginning,
    between,
    decode_as,
    interpolate,
    labels_between,
)
from isthmus.models.base import LatentModel, encode_examples, evaluating
from isthmus.models.codec import TextCodec
from isthmus.models.generation import Generation

PLACES: Final = 13
"""Summaries along the way that drafts have."""
SHARES: Final = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
"""Shares of the details of either end that drafts begin with; and none."""
ALONG_A_WALK: Final = 16.0
"""How much more a distance along the way counts than one away from it."""
MOVES: Final = (1.0, 1.5, 2.0, 2.5, 3.0)
"""How far drafts of a sum move the summary, in units of what is asked for."""
UNFIT: Final = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, math.inf)
"""Nats that a token loses by the move before its draft hides it."""
ALONG_A_SUM: Final = 4.0
"""The same weight for a sum, which keeps more of the text than it moves."""


def waypoints(
    model: LatentModel,
    start: Tensor,
    end: Tensor,
    steps: int,
    path: Path = "slerp",
    labels: Sequence[str] = (),
) -> Tensor:
    """Latents of a walk from one example to another, to be decoded greedily.

    Without a summary they are those of :func:`interpolate`. With one, the texts between are chosen
    from drafts: with s their summaries, a and b those of the ends, the place of a draft is
    t = ⟨s − a, b − a⟩ / |b − a|², and r² its squared distance from the line in units of |b − a|².
    The draft for the place u is that with the least r² + 16 (t − u)², and no two are the same.

    Args:
        model: any.
        start: [P], or [K P].
        end: the same shape.
        steps: points between the ends.
        path: of the summaries of the drafts; "lerp" or "slerp".
        labels: of the two ends, for a decoder that reads one.

    Returns:
        [steps + 2, P], or [steps + 2, K, P].
    """
    summary = model.config.summary
    straight = interpolate(start, end, steps, path, summary)
    a, b = start[:summary].flatten(), end[:summary].flatten()
    if not summary or not steps or torch.equal(a, b):
        return straight
    places = torch.linspace(0, 1, PLACES, dtype=torch.double)
    ways = between(start[:summary], end[:summary], places, path)
    parts = [torch.zeros_like(start[summary:])]
    parts += [beginning(one[summary:], share) for one in (start, end) for share in SHARES]
    drafts = torch.cat(
        [ways.repeat_interleave(len(parts), 0), torch.stack(parts).repeat(PLACES, 1, 1)], dim=1
    )
    along = places.repeat_interleave(len(parts)).tolist()
    texts = _written(model, drafts, labels_between(labels, along))
    place, aside = _places(_summaries(model, texts), a, b - a)
    chosen, used = [], {*_written(model, straight[[0, -1]], labels_between(labels, [0, 1]))}
    for wanted in torch.linspace(0, 1, steps + 2).tolist()[1:-1]:
        order = (aside + ALONG_A_WALK * (place - wanted).square()).argsort().tolist()
        best = next((one for one in order if texts[one] not in used), order[0])
        chosen.append(drafts[best])
        used.add(texts[best])
    return torch.stack([straight[0], *chosen, straight[-1]])


def arithmetic(
    model: LatentModel,
    texts: Sequence[str],
    a: Tensor,
    b: Tensor,
    c: Tensor,
    weight: float = 1.0,
    labels: Sequence[str] = (),
) -> Tensor:
    """Latents of c + weight · (b − a) for N texts with latents c, to be decoded greedily.

    Without a summary they are the sums. With one, drafts move the summary by more or less, and
    keep more or fewer of the details, see :func:`isthmus.explore.fitting.refitted`. Each text gets
    the draft whose own summary is nearest to the sum, as in :func:`waypoints`.

    Args:
        model: any.
        texts: those of c; read only for a model with a summary.
        a: [N P], or [N K P].
        b: the same shape.
        c: the same shape.
        weight: of the difference.
        labels: of the texts, for a decoder that reads one.
    """
    summary = model.config.summary
    target = analogy(a, b, c, weight, summary)
    way = weight * (b - a)[:, :summary].flatten(1)
    if not summary or not way.any():
        return target
    drafts = []
    for move in MOVES:
        far = analogy(a, b, c, move * weight, summary)
        drafts += refitted(model, texts, c, far, UNFIT)
    written = _written(model, torch.cat(drafts), list(labels) * len(drafts))
    found = _summaries(model, written).unflatten(0, (len(drafts), len(texts)))
    place, aside = _places(found, c[:, :summary].flatten(1), way)
    best = (aside + ALONG_A_SUM * (place - 1).square()).argmin(0)
    return torch.stack(drafts)[best, torch.arange(len(texts))]


def _places(summaries: Tensor, origin: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Places along a way, 0 to 1, and squared distances from it over its squared length."""
    from_origin, length = summaries - origin, way.square().sum(-1).clamp_min(1e-12)
    place = (from_origin * way).sum(-1) / length
    return place, (from_origin - place.unsqueeze(-1) * way).square().sum(-1) / length


def _written(model: LatentModel, z: Tensor, labels: Sequence[str]) -> list[str]:
    assert isinstance(model.codec, TextCodec)
    return decode_as(model, z, labels, Generation(max_new_tokens=model.codec.maximum_length))


def _summaries(model: LatentModel, texts: Sequence[str]) -> Tensor:
    """Their means as vectors [N G·P]; of an empty text too."""
    with evaluating(model):
        posterior = encode_examples(model, model.codec.prepare(texts))
    return posterior.mean[:, : model.config.summary].flatten(1)
