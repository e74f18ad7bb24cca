"""From data to a space in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from isthmus.api.given import Data, corpus_of_texts, vectors_of
from isthmus.api.space import Space
from isthmus.data import kinds
from isthmus.data.corpus import with_vectors
from isthmus.data.kind import Corpus, Splits, make_splits
from isthmus.data.vectors import Vectors
from isthmus.errors import IsthmusError
from isthmus.models.codec import short
from isthmus.models.stock import check_sources, with_own_options
from isthmus.progress import console, quiet
from isthmus.runs import bundle
from isthmus.settings import Settings, load_recipe, merged, with_changes
from isthmus.settings.trackers import check_trackers


def fit(
    data: Data,
    /,  # "data" is also a group of settings
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    *,
    minutes: float | None = None,
    labels: Sequence[str | None] | None = None,
    embeddings: Any = None,
    resume: bool = False,
    report_to: Sequence[str] = (),
    **changes: dict[str, Any],
) -> Space:
    """Train a model with a latent space; progress is shown on standard error.

    Args:
        data: What to train on. A part is held out for validation unless it has a valid split.
        out: The run directory to write, which :meth:`Space.load` reads. Without it nothing is
            kept but the space that is returned, which :meth:`Space.save` can write.
        recipe: A recipe of the package or a .toml file. Without one, settings are chosen for the
            data and this machine.
        minutes: How long it may take: by default 10 without a recipe, else as long as the recipe
            needs.
        labels: One label for each text of a sequence, None where it is missing; a table has its
            own in a column.
        embeddings: A vector for each text, on which the posterior's head then sits: a file, as
            for ``isthmus train --embeddings``; of a sequence of texts also an array.
        resume: Continue the unfinished run in ``out`` with the same arguments.
        report_to: Experiment trackers: "wandb", "mlflow", "trackio", "tensorboard".
        changes: Settings that differ from the recipe, by group as in a recipe:
            ``train={"steps": 500}, model={"latent_size": 16}``.

    Raises:
        IsthmusError: Data that cannot be read, settings that do not fit, a folder in use.

    Examples:
        >>> space = isthmus.fit("reviews.txt", minutes=5)  # doctest: +SKIP
        >>> space.interpolate("the food was cold", "what a lovely evening")  # doctest: +SKIP
    """
    from isthmus.training.clock import Clock
    from isthmus.training.run import train

    began = time.monotonic()
    check_trackers(report_to)
    quiet()
    log = console()
    if minutes is not None:
        changes = merged({"train": {"minutes": minutes}}, changes)
    vectors = None
    if embeddings is not None and isinstance(data, str | Path):
        changes = merged(changes, {"data": {"embeddings": _file_of(embeddings)}})
    elif embeddings is not None:
        vectors = vectors_of(embeddings)
    former = out if resume else None
    settings, splits = _settled(data, former, recipe, labels, vectors, changes)
    clock = Clock(settings.train.minutes, settings.train.fit_prior, began)
    log.print(splits.report(), markup=False)
    with TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        run = Path(folder) / "run" if out is None else Path(folder)
        model = train(
            settings,
            splits,
            run,
            resume=resume,
            console=log,
            clock=clock,
            report_to=report_to,
            temporary=out is None,
        )
        # Under torchrun the first process alone has a folder to keep nothing in.
        record = bundle.read_run(run) if (run / bundle.RUN_FILE).is_file() else {}
        return Space(model, record)


def _file_of(embeddings: Any) -> str:
    if not isinstance(embeddings, str | Path):
        raise IsthmusError(
            f"embeddings: got {short(embeddings)} for texts of a file, expected a file as well, "
            "or a list of texts"
        )
    return str(embeddings)


def _settled(
    data: Data,
    former: str | Path | None,
    recipe: str | Path | None,
    labels: Sequence[str | None] | None,
    vectors: Vectors | None,
    changes: dict[str, Any],
) -> tuple[Settings, Splits[Corpus]]:
    """The settings of a run, and the data that they read."""
    if recipe is None:
        from isthmus.training.defaults import without_recipe

        return without_recipe(
            kinds.of_data(str(data)) if isinstance(data, str | Path) else kinds.TEXT,
            lambda settings: _splits(data, labels, vectors, settings),
            changes,
            lambda line: console().print(line, markup=False),
            None if former is None else Path(former),
        )
    settings = with_own_options(load_recipe(str(recipe)), changes.get("model"))
    settings = with_changes(settings, changes, "fit")
    check_sources(settings)
    return settings, _splits(data, labels, vectors, settings)


def _splits(
    data: Data,
    labels: Sequence[str | None] | None,
    vectors: Vectors | None,
    settings: Settings,
) -> Splits[Corpus]:
    """The splits of data as a recipe reads it."""
    kind = kinds.of_settings(settings)
    if isinstance(data, str | Path):
        if labels is not None:
            raise IsthmusError("labels: expected with a sequence of texts; a file has its own")
        return kind.read_splits(str(data), settings)
    if getattr(settings.data, "streaming", False):
        raise IsthmusError(
            "data.streaming: got texts that are in memory already, expected the path of a file or "
            "folder, or a dataset's name; leave it out"
        )
    texts = corpus_of_texts(data, labels)
    texts = texts if vectors is None else with_vectors(texts, vectors)
    corpus = kind.of_texts(texts).limited(settings.data.limit or None)
    return make_splits(corpus, lambda name: None, seed=settings.train.seed)
