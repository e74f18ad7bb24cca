"""What a report shows in addition to figures: a map, reconstructions, a walk, samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.kind import sampled
from isthmus.explore import (
    cluster,
    decode_as,
    labels_between,
    likely_labels,
    sample,
    waypoints,
)
from isthmus.models.base import LatentModel, summary_of
from isthmus.models.generation import Generation
from isthmus.models.text_model import sample_labels
from isthmus.progress import Progress, no_progress
from isthmus.studio.projections import Plane

RETURNED = 12
"""How many examples of the corpus are reconstructed."""
STEPS = 5
"""Points between the two ends of the walk."""
SAMPLES = 12
CLUSTERS = 8
"""Colours of the map if the corpus has no labels."""
LONGEST = 64
"""Most tokens of a decoded text."""


@final
@dataclass(frozen=True)
class Excerpts:
    """Texts, pictures [C H W], or examples with both."""

    samples: Sequence[Any]
    originals: Sequence[Any] = ()
    returned: Sequence[Any] = ()
    walk: Sequence[Any] = ()
    walk_from: str = ""
    """The ends of the walk, in words; empty if there is no walk."""
    places: NDArray[np.float32] | None = None
    """[N 2], principal components of the posterior means."""
    groups: Sequence[str] = ()
    """Label or cluster of each of the N points."""
    groups_are: str = ""
    explained: tuple[float, ...] = ()
    """Shares of the variance along the two components."""
    skipped: list[str] = field(default_factory=list)
    """What cannot be shown and why."""


def excerpts(
    model: LatentModel,
    corpus: Any | None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Excerpts:
    """What the report of a model shows.

    Args:
        model: Any model.
        corpus: Texts or pictures; None leaves out what needs a corpus.
        seed: Of the samples and the clusters.
        progress: Called with the number just done, of :func:`work`.
    """
    greedy = Generation(max_new_tokens=LONGEST)
    has_space = math.prod(model.latent_shape) > 0
    drawn = Generation(max_new_tokens=LONGEST, sample=not has_space, seed=seed)
    samples = sample(model, SAMPLES, seed, drawn, progress)
    if not has_space:
        return Excerpts(samples, skipped=["a model without a latent vector has no space to show"])
    if corpus is None:
        generator = torch.Generator().manual_seed(seed)
        ends = model.prior.sample(2, generator)
        walk = _walk(model, ends, sample_labels(model, 2, generator), greedy, progress)
        note = "reconstructions and a map need texts: give a corpus with --data"
        return Excerpts(samples, walk=walk, walk_from="two draws from the prior", skipped=[note])
    examples = corpus.examples
    mean = model.encode(examples, progress).mean
    places = sampled(len(examples), RETURNED, seed)
    chosen = [examples[place] for place in places]
    labels = likely_labels(model, chosen)
    returned = decode_as(model, mean[places], labels, greedy, progress)
    ends = mean[places[:2]]
    walk = _walk(model, ends, labels[:2], greedy, progress) if len(places) > 1 else []
    about = summary_of(model, mean)
    plane = Plane.of(about)
    groups, kind = _groups(corpus, about, seed)
    return Excerpts(
        samples,
        chosen,
        returned,
        walk,
        f"the first two {corpus.kind.unit}s above" if walk else "",
        plane.places(about).numpy(),
        groups,
        kind,
        tuple(plane.explained),
    )


def work(examples: int) -> int:
    """The total that :func:`excerpts` reports progress on, for a corpus of this size."""
    walk = STEPS + 2
    if not examples:
        return SAMPLES + walk
    return SAMPLES + examples + min(RETURNED, examples) + (walk if examples > 1 else 0)


def _walk(
    model: LatentModel,
    ends: Tensor,
    labels: Sequence[str],
    greedy: Generation,
    progress: Progress,
) -> list[Any]:
    """Both ends and the points between."""
    points = waypoints(model, ends[0], ends[1], STEPS, labels=labels)
    own = labels_between(labels, [place / (len(points) - 1) for place in range(len(points))])
    return decode_as(model, points, own, greedy, progress)


def _groups(corpus: Any, mean: Tensor, seed: int) -> tuple[list[str], str]:
    if corpus.labels is not None:
        return list(corpus.labels), "label"
    chosen = min(CLUSTERS, len(mean))
    return [str(place) for place in cluster(mean, chosen, seed=seed)], "cluster (k-means)"
