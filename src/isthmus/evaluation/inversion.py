"""How well do texts come back from their vectors, and how much of a text is in its vector?

Three ways to a text are measured alike: correction by the encoder, the decoder's first draft, and
the nearest training text, which is what a search for the vector would find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from isthmus.evaluation.meaning import share_of_way
from isthmus.evaluation.measures import Metrics
from isthmus.evaluation.text import bleu, exact_match
from isthmus.evaluation.usage import Estimate, put
from isthmus.models.base import evaluating, over_batches
from isthmus.models.codec import Batch
from isthmus.models.inversion import Inverted, latents_of
from isthmus.models.text_model import TextModel

NEIGHBOURS: Final = 10
"""Neighbours of a vector of which the share that is kept is measured."""
SAME: Final = 0.999
"""From this mean cosine on the nearest training texts are the texts themselves: no way is left."""
_ROWS_AT_ONCE: Final = 20_000


@final
@dataclass(frozen=True)
class Known:
    """Training texts and their vectors, [M E], which may lie on the disk."""

    texts: Sequence[str]
    vectors: NDArray[Any]


def token_f1(texts: Sequence[str], others: Sequence[str]) -> Tensor:
    """F1 of the words of each pair of texts, in any order, from 0 to 1, [N].

    2 |A ∩ B| / (|A| + |B|) of their multisets of words between white space.
    """
    values = []
    for text, other in zip(texts, others, strict=True):
        a, b = Counter(text.split()), Counter(other.split())
        both = a.total() + b.total()
        values.append(2 * (a & b).total() / both if both else 1.0)
    return torch.tensor(values, dtype=torch.double)


def nearest(vectors: Tensor, rows: NDArray[Any], count: int = 1) -> Tensor:
    """Places of the rows whose cosine to each vector is largest, best first, [N count]."""
    count = min(count, len(rows))
    own = normalize(vectors.float(), dim=1)
    values, places = own.new_full((len(own), 0), 0), torch.zeros(len(own), 0, dtype=torch.long)
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        some = torch.from_numpy(np.array(rows[first : first + _ROWS_AT_ONCE], dtype=np.float32))
        cosines = own @ normalize(some, dim=1).T
        values = torch.cat([values, cosines], dim=1)
        here = torch.arange(first, first + len(some)).expand(len(own), -1)
        places = torch.cat([places, here], dim=1)
        best = values.topk(min(count, values.shape[1]), dim=1)
        values, places = best.values, places.gather(1, best.indices)
    return places


def inversion_metrics(
    model: TextModel,
    vectors: Tensor,
    found: Inverted,
    texts: Sequence[str] | None = None,
    known: Known | None = None,
) -> Metrics:
    """Figures of inverted vectors; what cannot be measured is left out.

    Args:
        model: that wrote the texts.
        vectors: as given, [N E].
        found: from :func:`isthmus.models.inversion.invert`.
        texts: those that the vectors stand for, carrying them, if they are known.
        known: the training texts, for the ruler and the neighbours.

    Returns:
        ``cosine``, ``bleu`` (0–100), ``exact_match`` and ``token_f1`` (0–1) of the corrected
        texts; the same with ``first_`` of first drafts and with ``nearest_`` of the nearest
        training texts; ``…_gain`` is the paired mean of what correction adds. ``way`` is the
        share of the way from the nearest training text's cosine to 1. ``neighbours_kept`` is the
        share of the 10 nearest training texts of a vector that are among those of its text, and
        ``neighbours_kept_by_z`` among those of its latent. ``nats`` is −E log p(x|z),
        ``nats_without`` that with a hidden latent, and ``nats_in_vector`` their difference.
    """
    metrics: Metrics = {"vectors": len(vectors)}
    ways = {"": found.texts}
    cosines = {"": found.cosines}
    if found.cosines is not None:
        ways["first_"], cosines["first_"] = found.first, found.first_cosines
    if known is not None:
        places = nearest(vectors, known.vectors)[:, 0].tolist()
        ways["nearest_"] = [str(known.texts[place]) for place in places]
        near = torch.from_numpy(np.array(known.vectors[places], dtype=np.float32))
        cosines["nearest_"] = torch.cosine_similarity(vectors.float(), near)
    for name, values in cosines.items():
        if values is not None:
            put(metrics, f"{name}cosine", Estimate.mean_of(values))
    ours, first, other = (cosines.get(name) for name in ("", "first_", "nearest_"))
    if ours is not None and first is not None:
        put(metrics, "cosine_gain", Estimate.mean_of((ours - first).double()))
    away = other is not None and len(vectors) > 1 and other.mean() < SAME
    if ours is not None and other is not None and away:
        put(metrics, "way", share_of_way(ours.double(), other.double()))
    if texts is not None:
        _put_texts(metrics, [str(text) for text in texts], ways)
        metrics |= _nats(model, texts)
    if known is not None and len(known.vectors) > NEIGHBOURS:
        metrics |= _neighbours(model, vectors, found, known)
    return metrics


def _put_texts(metrics: Metrics, texts: list[str], ways: dict[str, list[str]]) -> None:
    scores = {name: token_f1(texts, others) for name, others in ways.items()}
    for name, others in ways.items():
        put(metrics, f"{name}token_f1", Estimate.mean_of(scores[name]))
        put(metrics, f"{name}bleu", bleu(texts, others))
        put(metrics, f"{name}exact_match", exact_match(texts, others))
    for name, gain in (("first_", "token_f1_gain"), ("nearest_", "token_f1_over_nearest")):
        if name in scores:
            put(metrics, gain, Estimate.mean_of(scores[""] - scores[name]))


def _neighbours(model: TextModel, vectors: Tensor, found: Inverted, known: Known) -> Metrics:
    metrics: Metrics = {}
    own = nearest(vectors, known.vectors, NEIGHBOURS)
    if found.found is not None:
        put(
            metrics, "neighbours_kept", _kept(own, nearest(found.found, known.vectors, NEIGHBOURS))
        )
    z = latents_of(model, vectors.float()).cpu()
    rows = np.concatenate(
        [
            latents_of(model, torch.from_numpy(np.array(some, dtype=np.float32))).cpu().numpy()
            for some in np.array_split(known.vectors, max(1, len(known.vectors) // _ROWS_AT_ONCE))
        ]
    )
    put(metrics, "neighbours_kept_by_z", _kept(own, nearest(z, rows, NEIGHBOURS)))
    return metrics


def _kept(own: Tensor, others: Tensor) -> Estimate:
    """The share of places [N K] that are also among the others' places in the same row."""
    return Estimate.mean_of((own.unsqueeze(2) == others.unsqueeze(1)).any(2).double().mean(1))


@torch.no_grad()
def _nats(model: TextModel, texts: Sequence[str]) -> Metrics:
    """−log p of the texts with their vectors, and without."""
    metrics: Metrics = {}
    given = model.terms(texts).reconstruction.double()
    put(metrics, "nats", Estimate.mean_of(given))
    if not getattr(model.config, "latent_dropout", 0) or model.labels is not None:
        return metrics

    def without(batch: Batch) -> Tensor:
        z = torch.zeros(len(batch["targets"]), *model.latent_shape, device=model.device)
        return model.token_losses(z, None, batch).sum(-1)

    with evaluating(model):
        alone = over_batches(model, model.read(texts), without).double()
    put(metrics, "nats_without", Estimate.mean_of(alone))
    put(metrics, "nats_in_vector", Estimate.mean_of(alone - given))
    return metrics
