"""Walks in a space, one call each, from examples to examples."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

from isthmus.api.given import Data, check_least, corpus_named, examples_of, is_one, model_of
from isthmus.errors import IsthmusError
from isthmus.explore import search, walks
from isthmus.latent.distribution import Prior
from isthmus.models.base import LatentModel, summarised
from isthmus.models.generation import Generation
from isthmus.progress import console, counting


class Neighbour(NamedTuple):
    """An example of a corpus near a query."""

    distance: float
    place: int
    """In the corpus, from 0."""
    example: Any


class Exchanged(NamedTuple):
    """An example with some of its latents from another one."""

    latents: tuple[int, ...]
    """Those from the other one, from 0."""
    rise: float
    """By how many nats the original is less probable under these latents than under its own."""
    example: Any


def with_latent(space: Any) -> LatentModel:
    """The model of a space.

    Raises:
        IsthmusError: It has no latent.
    """
    model = model_of(space)
    if not math.prod(model.latent_shape):
        raise IsthmusError(
            "this model has no latent to move in; train a text-vae, picture-vae or "
            "pictures-with-captions"
        )
    return model


def means(space: Any, examples: Any) -> Tensor:
    """Posterior means [N P], or [N K P], of a space or a model with a latent.

    Raises:
        IsthmusError: A model without a latent.
    """
    model, examples = with_latent(space), examples_of(examples)
    count = len(examples) if hasattr(examples, "__len__") else 1
    with counting(console(), "encoding", count) as progress:
        return model.encode(examples, progress).mean


def interpolate(
    space: Any,
    start: Any,
    end: Any,
    steps: int = 5,
    path: walks.Path = "slerp",
    generation: Generation | None = None,
) -> list[Any]:
    """Decode points on the way from one example to another, both ends included.

    Args:
        space: A space, or any model with a latent.
        start: An example: a text, or a picture.
        end: Another.
        steps: Points between the ends.
        path: See :func:`isthmus.explore.interpolate`.
        generation: How to decode; greedy by default.

    Returns:
        steps + 2 examples.
    """
    model = model_of(space)
    first, last = means(model, [start, end])
    own = walks.likely_labels(model, [start, end])
    walk = search.waypoints(model, first, last, steps, path, own)
    labels = walks.labels_between(own, [place / (len(walk) - 1) for place in range(len(walk))])
    return walks.decode_as(model, walk, labels, generation)


def arithmetic(
    space: Any,
    examples: Any,
    plus: Any,
    minus: Any,
    weight: float = 1.0,
    generation: Generation | None = None,
) -> Any:
    """Move examples by a difference: decode z + weight · (mean z of plus − mean z of minus).

    Of a model with a summary the sum is of summaries, and details that still fit it stay.

    Args:
        space: A space, or any model with a latent.
        examples: One example, or several.
        plus: An example, or several: what the result should have more of.
        minus: The same: what it should have less of.
        weight: Of the difference.
        generation: How to decode; greedy by default.

    Returns:
        One example for one, a list for several.
    """
    model, examples = with_latent(space), examples_of(examples)
    one = is_one(model, examples)
    moved = [examples] if one else examples
    towards, away = (means(model, _several(model, side)) for side in (plus, minus))
    z = means(model, moved)
    start, end = (side.mean(0, keepdim=True).expand_as(z) for side in (away, towards))
    labels = walks.likely_labels(model, moved)
    target = search.arithmetic(model, moved, start, end, z, weight, labels)
    found = walks.decode_as(model, target, labels, generation)
    return found[0] if one else found


def _several(model: LatentModel, given: Any) -> Any:
    return [given] if is_one(model, given) else examples_of(given)


def analogy(
    space: Any,
    a: Any,
    b: Any,
    c: Any,
    weight: float = 1.0,
    generation: Generation | None = None,
) -> Any:
    """The example that is to ``c`` as ``b`` is to ``a``: decode z_c + weight · (z_b − z_a).

    Of a model with a summary the sum is of summaries, and details that still fit it stay.
    """
    model = model_of(space)
    first, second, third = means(model, [a, b, c])
    labels, rows = walks.likely_labels(model, [c]), (first[None], second[None], third[None])
    z = search.arithmetic(model, [c], *rows, weight, labels)
    [found] = walks.decode_as(model, z, labels, generation)
    return found


def exchange(space: Any, a: Any, b: Any, generation: Generation | None = None) -> list[Exchanged]:
    """What changes in ``a`` if one of its latents comes from ``b``?

    Args:
        space: A space or a model with K > 1 latents for each example.
        a: An example.
        b: Another.
        generation: How to decode; greedy by default.

    Returns:
        K + 2 rows: none from ``b``, each of the K by itself, all of them. Of a model with a
        summary: none, the summary with hidden details, each detail in use, all.
    """
    model = model_of(space)
    own, other = means(model, [a, b])
    chosen, z = walks.exchanges(own, other, model.config.summary)
    losses = walks.losses_under(model, [a] * len(z), z)
    labels = walks.likely_labels(model, [a]) * len(z)
    decoded = walks.decode_as(model, z, labels, generation)
    rises = (losses - losses[0]).tolist()
    return [Exchanged(*row) for row in zip(chosen, rises, decoded, strict=True)]


def neighbours(space: Any, data: Data, query: Any, count: int = 5) -> list[Neighbour]:
    """The ``count`` examples of ``data`` whose posterior means are nearest to the query's.

    Of a model with a summary, the means of the summary.
    """
    [found] = nearest(space, data, [query], count)
    return found


def nearest(space: Any, data: Data, queries: Any, count: int = 5) -> list[list[Neighbour]]:
    """The neighbours of several examples, see :func:`neighbours`."""
    check_least(1, count=count)
    model = model_of(space)
    _, corpus = corpus_named(model, data)
    with summarised(model):
        wanted, known = means(model, queries), means(model, corpus)
    found = []
    for distances, places in zip(*walks.neighbours(wanted, known, count), strict=True):
        rows = zip(distances.tolist(), places.tolist(), strict=True)
        found.append([Neighbour(distance, place, corpus[place]) for distance, place in rows])
    return found


def cluster(
    space: Any,
    data: Data,
    clusters: int,
    method: walks.Clustering = "kmeans",
    seed: int = 0,
) -> list[int]:
    """A cluster, from 0, for every example of ``data``, by its posterior mean.

    Of a model with a summary, by the mean of the summary.
    """
    check_least(1, clusters=clusters)
    check_least(0, seed=seed)
    model = model_of(space)
    _, corpus = corpus_named(model, data)
    with summarised(model):
        known = means(model, corpus)
    return list(walks.cluster(known, clusters, method, seed))


def sample(
    space: Any,
    count: int,
    seed: int = 0,
    generation: Generation | None = None,
    prior: Prior | None = None,
) -> list[Any]:
    """Texts or pictures of latents from the prior, see :func:`isthmus.explore.sample`."""
    return walks.sample(model_of(space), count, seed, generation, prior=prior)
