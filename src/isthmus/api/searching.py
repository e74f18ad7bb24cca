"""Search a space for texts of which an objective says the most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.api.given import Data, check_least, corpus_named
from isthmus.api.walking import with_latent
from isthmus.evaluation.searching import Searched
from isthmus.explore.objectives import Function, Objective
from isthmus.explore.optimise import optimise as search
from isthmus.progress import console, counting


def optimise(
    space: Any,
    objective: Function,
    data: Data = None,
    *,
    calls: int = 1000,
    seeds: int = 1,
    seed: int = 0,
    label: str = "",
    compare: bool = True,
    folder: str | Path | None = None,
) -> Searched:
    """Search a space for texts of which a function says the most; see docs/molecules.md.

    Args:
        space: A space or a model of texts.
        objective: Text → number, to be maximised; or, if its first parameter is annotated as a
            list, list of texts → list of numbers. Where it raises, or returns None or NaN, the
            text counts as failed. It is asked about a text once.
        data: Texts whose best the search starts from, as ``isthmus.read`` takes them; without any
            it starts from draws of the prior.
        calls: Different texts that each way asks about: the search, draws of the prior, and
            texts of the data.
        seeds: How many searches to make, with the seeds ``seed``, ``seed + 1``, …
        seed: Of the first.
        label: Under which to write, for a run with labels.
        compare: Take the other two ways as well.
        folder: Where calls are kept as JSON Lines. What is in it is not asked again.

    Returns:
        The calls, their best, figures and a picture.

    Examples:
        >>> found = isthmus.optimise(space, len, calls=500)  # doctest: +SKIP
        >>> found.best()[0].text  # doctest: +SKIP
    """
    model = with_latent(space)
    check_least(1, calls=calls, seeds=seeds)
    check_least(0, seed=seed)
    texts: Sequence[str] = () if data is None else list(map(str, corpus_named(model, data)[1]))
    place = None if folder is None else Path(folder)
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
    asked, runs = Objective(objective), []
    ways = 1 + compare * (1 + bool(texts))
    with counting(console(), "asking", seeds * ways * calls) as progress:
        for own in range(seed, seed + seeds):
            found = search(
                model, asked, calls, own, texts, label, place, compare, progress=progress
            )
            runs.append(found)
    return Searched(runs)
