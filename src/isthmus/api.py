"""What ``import isthmus`` offers: from data to a space, and what to do in it, one call each.

A space is a trained model (:class:`isthmus.models.base.LatentModel`). Where a function takes
``data``, it takes what the command line takes (a file, a folder, ``scenes``, a Hugging Face data
set name), or the examples themselves as a sequence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from torch import Tensor

from isthmus.data import kinds
from isthmus.data.corpus import TextCorpus, read
from isthmus.data.files import Rows
from isthmus.data.kind import Corpus, Splits, make_splits
from isthmus.errors import IsthmusError
from isthmus.evaluation import metrics
from isthmus.evaluation.meaning import find_encoder
from isthmus.evaluation.walkability import walkability
from isthmus.evaluation.walking import WHOLE, walked
from isthmus.explore import search, walks
from isthmus.models.base import LatentModel, summarised
from isthmus.models.codec import short
from isthmus.models.generation import Generation
from isthmus.models.stock import with_own_options
from isthmus.progress import console, counting, quiet
from isthmus.settings import Settings, load_recipe, merged, with_changes

Data = str | Path | Sequence[Any]


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


def fit(
    data: Data,
    /,  # "data" is also a group of settings
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    *,
    minutes: float | None = None,
    labels: Sequence[str | None] | None = None,
    resume: bool = False,
    **changes: dict[str, Any],
) -> LatentModel:
    """Train a model with a latent space; progress is shown on standard error.

    Args:
        data: What to train on. A part is held out for validation unless it has a valid split.
        out: The run directory to write, which :func:`isthmus.load` reads. Without it nothing is
            kept but the model that is returned.
        recipe: A recipe of the package or a .toml file. Without one, settings are chosen for the
            data and this machine.
        minutes: How long it may take: by default 10 without a recipe, else as long as the recipe
            needs.
        labels: One label for each text of a sequence, None where it is missing.
        resume: Continue the unfinished run in ``out`` with the same arguments.
        changes: Settings that differ from the recipe, by group as in a recipe:
            ``train={"steps": 500}, model={"latent_size": 16}``.

    Raises:
        IsthmusError: Data that cannot be read, settings that do not fit, a folder in use.

    Example:
        >>> space = isthmus.fit("reviews.txt", minutes=5)  # doctest: +SKIP
    """
    from isthmus.training.clock import Clock
    from isthmus.training.run import train

    began = time.monotonic()
    quiet()
    log = console()
    if minutes is not None:
        changes = merged({"train": {"minutes": minutes}}, changes)
    settings, splits = _settled(data, out if resume else None, recipe, labels, changes)
    clock = Clock(settings.train.minutes, settings.train.fit_prior, began)
    log.print(splits.report(), markup=False)
    with TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        run = Path(folder) / "run" if out is None else Path(folder)
        return train(settings, splits, run, resume=resume, console=log, clock=clock)


def _settled(
    data: Data,
    former: str | Path | None,
    recipe: str | Path | None,
    labels: Sequence[str | None] | None,
    changes: dict[str, Any],
) -> tuple[Settings, Splits[Corpus]]:
    """The settings of a run, and the data that they read."""
    if recipe is None:
        from isthmus.training.defaults import without_recipe

        return without_recipe(
            kinds.of_data(str(data)) if isinstance(data, str | Path) else kinds.TEXT,
            lambda settings: _splits(data, labels, settings),
            changes,
            lambda line: console().print(line, markup=False),
            None if former is None else Path(former),
        )
    settings = with_own_options(load_recipe(str(recipe)), changes.get("model"))
    settings = with_changes(settings, changes, "fit")
    return settings, _splits(data, labels, settings)


def _splits(data: Data, labels: Sequence[str | None] | None, settings: Settings) -> Splits[Corpus]:
    """The splits of data as a recipe reads it."""
    kind = kinds.of_settings(settings)
    if isinstance(data, str | Path):
        if labels is not None:
            raise IsthmusError("labels: expected with a sequence of texts; a file has its own")
        return kind.read_splits(str(data), settings)
    corpus = kind.of_texts(_corpus(data, labels)).limited(settings.data.limit or None)
    return make_splits(corpus, lambda name: None, seed=settings.train.seed)


def _corpus(texts: Sequence[Any], labels: Sequence[str | None] | None) -> TextCorpus:
    """A corpus of given texts; empty ones are skipped and counted, as those of a file are."""
    if isinstance(texts, dict | bytes | None) or not hasattr(texts, "__iter__"):
        raise IsthmusError(f"data: got {short(texts)}, expected a path or a list of texts")
    texts = list(texts)
    if labels is not None and len(labels) != len(texts):
        raise IsthmusError(
            f"labels: got {len(labels):,} for {len(texts):,} texts, expected one each"
        )
    rows = Rows("texts")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise IsthmusError(
                f"texts: number {number} is of type {type(text).__name__}, expected a str; give "
                "pictures as a folder or an .npz file"
            )
        rows.add(text, None if labels is None else labels[number - 1], number)
    if not rows.texts:
        raise IsthmusError(f"texts: got {len(texts):,}, none of which has a character")
    return TextCorpus(rows.texts, rows.labels(), rows.source, dict(rows.skipped), rows.notes)


def _corpus_of(space: LatentModel, data: Data) -> tuple[Corpus | None, Sequence[Any]]:
    """The corpus that ``data`` names, if it names one, and its examples."""
    _check_space(space)
    if not isinstance(data, str | Path):
        return None, data
    corpus = space.kind.read(str(data), space.config.to_dict())
    return corpus, corpus.examples


def _check_space(space: LatentModel) -> None:
    if not isinstance(space, LatentModel):
        raise IsthmusError(
            f"space: got {short(space)}, expected a model; isthmus.load reads one from a run"
        )


def _check_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise IsthmusError(f"{name}: got {short(value)}, expected a whole number ≥ {least}")


def evaluate(
    space: LatentModel,
    data: Data,
    *,
    samples: int = 100,
    texts: int = 1000,
    seed: int = 0,
    meaning: bool = False,
    training: Data = (),
) -> dict[str, Any]:
    """Every figure of ``isthmus evaluate``, in nats per example unless its name says otherwise.

    Args:
        space: Any model.
        data: What to measure it on.
        samples: K of the importance-weighted bound.
        texts: How many examples to decode for exact match, BLEU and diversity.
        seed: Of all noise.
        meaning: Also measure whether the space is worth walking in, as ``--meaning`` does.
        training: The training texts, for that; without them others of ``data`` take their place.

    Returns:
        The keys that docs/numbers.md explains; ``x_se`` is the standard error of ``x``.
    """
    _check_least(1, samples=samples)
    _check_least(0, texts=texts, seed=seed)
    corpus, given = _corpus_of(space, data)
    examples = space.read(given)
    with counting(console(), "evaluating", metrics.work(space, examples, texts)) as progress:
        found = metrics.evaluate(
            space,
            examples,
            samples=samples,
            texts=texts,
            seed=seed,
            labels=corpus.labels if corpus else None,
            floor=corpus.floor if corpus else None,
            progress=progress,
        )
    if not meaning:
        return found
    seen = read(training, split="train").texts if isinstance(training, str | Path) else training
    encoder, notes = find_encoder()
    with counting(console(), "walking", WHOLE.work(len(given))) as progress:
        there = walked(space, given, seen, seed=seed, progress=progress)
    figures, more = walkability(there, encoder, seed=seed)
    for note in notes + more:
        console().print(f"note: {note}", highlight=False, markup=False)
    return found | figures


def means(space: LatentModel, examples: Sequence[Any]) -> Tensor:
    """Posterior means [N P], or [N K P], of a model with a latent.

    Raises:
        IsthmusError: A model without a latent.
    """
    _check_space(space)
    if not math.prod(space.latent_shape):
        raise IsthmusError(
            "this model has no latent to move in; train a text-vae, picture-vae or "
            "pictures-with-captions"
        )
    count = len(examples) if hasattr(examples, "__len__") else 1
    with counting(console(), "encoding", count) as progress:
        return space.encode(examples, progress).mean


def interpolate(
    space: LatentModel,
    start: Any,
    end: Any,
    steps: int = 5,
    path: walks.Path = "slerp",
    generation: Generation | None = None,
) -> list[Any]:
    """Decode points on the way from one example to another, both ends included.

    Args:
        space: Any model with a latent.
        start: An example: a text, or a picture.
        end: Another.
        steps: Points between the ends.
        path: See :func:`isthmus.explore.interpolate`.
        generation: How to decode; greedy by default.

    Returns:
        steps + 2 examples.
    """
    first, last = means(space, [start, end])
    own = walks.likely_labels(space, [start, end])
    walk = search.waypoints(space, first, last, steps, path, own)
    labels = walks.labels_between(own, [place / (len(walk) - 1) for place in range(len(walk))])
    return walks.decode_as(space, walk, labels, generation)


def analogy(
    space: LatentModel,
    a: Any,
    b: Any,
    c: Any,
    weight: float = 1.0,
    generation: Generation | None = None,
) -> Any:
    """The example that is to ``c`` as ``b`` is to ``a``: decode z_c + weight · (z_b − z_a).

    Of a model with a summary the sum is of summaries, and details that still fit it stay.
    """
    first, second, third = means(space, [a, b, c])
    labels, rows = walks.likely_labels(space, [c]), (first[None], second[None], third[None])
    z = search.arithmetic(space, [c], *rows, weight, labels)
    [found] = walks.decode_as(space, z, labels, generation)
    return found


def exchange(
    space: LatentModel, a: Any, b: Any, generation: Generation | None = None
) -> list[Exchanged]:
    """What changes in ``a`` if one of its latents comes from ``b``?

    Args:
        space: A model with K > 1 latents for each example.
        a: An example.
        b: Another.
        generation: How to decode; greedy by default.

    Returns:
        K + 2 rows: none from ``b``, each of the K by itself, all of them. Of a model with a
        summary: none, the summary with hidden details, each detail in use, all.
    """
    own, other = means(space, [a, b])
    chosen, z = walks.exchanges(own, other, space.config.summary)
    losses = walks.losses_under(space, [a] * len(z), z)
    labels = walks.likely_labels(space, [a]) * len(z)
    decoded = walks.decode_as(space, z, labels, generation)
    rises = (losses - losses[0]).tolist()
    return [Exchanged(*row) for row in zip(chosen, rises, decoded, strict=True)]


def neighbours(space: LatentModel, data: Data, query: Any, count: int = 5) -> list[Neighbour]:
    """The ``count`` examples of ``data`` whose posterior means are nearest to the query's.

    Of a model with a summary, the means of the summary.
    """
    _check_least(1, count=count)
    _, corpus = _corpus_of(space, data)
    with summarised(space):
        query, known = means(space, [query]), means(space, corpus)
    distances, indices = walks.neighbours(query, known, count)
    rows = zip(distances[0].tolist(), indices[0].tolist(), strict=True)
    return [Neighbour(distance, index, corpus[index]) for distance, index in rows]


def cluster(
    space: LatentModel,
    data: Data,
    clusters: int,
    method: walks.Clustering = "kmeans",
    seed: int = 0,
) -> list[int]:
    """A cluster, from 0, for every example of ``data``, by its posterior mean.

    Of a model with a summary, by the mean of the summary.
    """
    _check_least(1, clusters=clusters)
    _check_least(0, seed=seed)
    _, corpus = _corpus_of(space, data)
    with summarised(space):
        known = means(space, corpus)
    return list(walks.cluster(known, clusters, method, seed))
