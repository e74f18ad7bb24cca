"""Search a space for texts of which an objective says the most."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.explore.objectives import Objective, Value
from isthmus.explore.region import Region
from isthmus.explore.walks import drawing, mixture_of
from isthmus.explore.ways import Call, Way, evolution, listed, random
from isthmus.latent.distribution import Prior
from isthmus.models.base import LatentModel, summarised
from isthmus.models.codec import TextCodec
from isthmus.models.generation import Generation
from isthmus.models.labels import label_set
from isthmus.progress import Progress, no_progress
from isthmus.runs.folders import reading

SEARCH, RANDOM, DATA = "search", "random", "data"
"""The ways that are compared: the search, draws of the prior, and texts of the data."""
SCOUTS: Final = 100
"""Latents of a first look around, before the evolution strategy starts from the best."""
POSTERIORS: Final = 2_000
"""Texts, at most, that show where the space is populated if the prior does not."""
MOST_KNOWN: Final = 30
"""Proposals for each call, at most: so often may a text be written that was known before."""


def optimise(
    model: LatentModel,
    objective: Objective,
    calls: int,
    seed: int = 0,
    texts: Sequence[str] = (),
    label: str = "",
    folder: Path | None = None,
    compare: bool = True,
    progress: Progress = no_progress,
) -> dict[str, list[Call]]:
    """Search for the texts of which an objective says the most, and by chance as often.

    The search is :func:`isthmus.explore.ways.evolution` inside the :class:`Region` of the prior,
    or, if that is N(0, I) and there are texts, of a mixture that fits their posteriors. It first
    looks at the latents of random texts, or at draws if there are none.

    Args:
        model: a VAE of texts; of one with a summary the search is in the summaries.
        objective: shared between searches, it is asked about a text once.
        calls: different texts that each way may ask about.
        seed: of the draws.
        texts: of the data.
        label: under which to write, for a decoder that reads one.
        folder: where each way is logged, and taken again from its log.
        compare: take the other ways too.
        progress: called with the number of calls just made.

    Returns:
        The calls of the ways "search", "random" and, if there are texts, "data".

    Raises:
        IsthmusError: not such a model; no text had a value.
    """
    generation = _generation(model, label)
    log = lambda way: Log(None if folder is None else folder / f"{way}-{seed}.jsonl")  # noqa: E731
    asked = (objective, calls)
    with summarised(model):
        region = Region(_populated(model, texts, seed), seed, model.device)
        scouts = _scouts(model, region, texts, seed)
        ways = {SEARCH: evolution(region, scouts, seed)}
        if compare:
            ways |= {RANDOM: random(region, seed)}
            ways |= {DATA: listed(list(dict.fromkeys(texts)), seed)} if texts else {}
    write = lambda z: model.decode(z, generation)  # noqa: E731
    found = {}
    for name, way in ways.items():
        found[name] = follow(way, list if name == DATA else write, *asked, log(name), progress)
    if not any(call.value is not None for call in found[SEARCH]):
        first = next((call for call in found[SEARCH] if call.fault), found[SEARCH][0])
        raise IsthmusError(
            f"objective: no value for any of {len(found[SEARCH]):,} texts, the first of which is "
            f"{first.text[:80]!r} ({first.fault or 'it returned None or no finite number'})"
        )
    return found


def _generation(model: LatentModel, label: str) -> Generation:
    """How latents are written."""
    codec = model.codec
    if not isinstance(codec, TextCodec) or not math.prod(model.latent_shape):
        raise IsthmusError("optimise: expected a run of texts with a latent vector to search in")
    names = label_set(model).read_names
    if names and not label:
        raise IsthmusError(
            f"label: the decoder of this run reads one; give one of {', '.join(names)}"
        )
    whole = Generation(max_new_tokens=codec.maximum_length, label=label or None)
    return drawing(model, whole)


def _populated(model: LatentModel, texts: Sequence[str], seed: int) -> Prior:
    """The prior; where that is N(0, I), what fits the posteriors of texts, if there are any.

    Posteriors fill little of N(0, I). At its other draws a decoder may write anything, which is
    where an objective finds what fools it.
    """
    if not model.prior.is_standard_normal or not texts:
        return model.prior
    return mixture_of(model.encode(_some(texts, POSTERIORS, seed)), seed=seed)


def _scouts(model: LatentModel, region: Region, texts: Sequence[str], seed: int) -> Tensor:
    """Latents to look at first, [N P]: of random texts, or of the prior."""
    if not texts:
        return region.draw(SCOUTS, torch.Generator().manual_seed(seed))
    return model.encode(_some(texts, SCOUTS, seed)).mean


def _some(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """Random ones, in random order."""
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
    return [texts[row] for row in order[:count].tolist()]


@final
class Log:
    """The proposals of a way, a line of JSON each, so that it can be taken again.

    Args:
        path: the file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.place = path, 0
        self.lines: list[Call] = []
        if path is not None and path.is_file():
            with reading(path), path.open("r+b") as file:
                content = file.read()
                whole = content.rfind(b"\n") + 1  # a kill may have cut the last line short
                file.truncate(whole)
                for line in content[:whole].decode().split("\n")[:-1]:
                    self.lines.append(Call(**json.loads(line)))

    def recall(self, proposals: Sequence[Any]) -> list[Call]:
        """The lines of the next proposals, as many as there are.

        Raises:
            IsthmusError: they are of other proposals.
        """
        found = self.lines[self.place : self.place + len(proposals)]
        self.place += len(found)
        for call, asked in zip(found, proposals, strict=False):
            if asked is not None and not np.allclose(call.z, asked, atol=1e-4):
                raise IsthmusError(
                    f"{self.path}: the calls in it are of another search; it was written by "
                    "another version or on another machine; choose another folder with --out"
                )
        return found

    def add(self, call: Call) -> None:
        """Write a line."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(call._asdict(), ensure_ascii=False) + "\n")


def follow(
    way: Way,
    write: Callable[[Any], list[str]],
    objective: Objective,
    calls: int,
    log: Log,
    progress: Progress = no_progress,
) -> list[Call]:
    """Take a way until an objective was asked about a number of different texts.

    A text that comes again keeps its value and is no call. A way that is taken again with its log
    asks about nothing that is in it.

    Args:
        way: what is proposed.
        write: what is proposed → N texts.
        objective: what is asked.
        calls: different texts.
        log: of this way.
        progress: called with the number of calls just made.

    Returns:
        The calls in order, each text once; fewer if nothing new comes any more.
    """
    made: dict[str, Call] = {}
    proposals, z = 0, next(way)
    while True:
        answers = []
        for call in _answers(z, write, objective, log, calls, made):
            if call.text not in made:
                made[call.text] = call
                progress(1)
            answers.append(call)
        proposals += len(z)
        if len(made) == calls or proposals >= MOST_KNOWN * calls:
            return list(made.values())
        try:
            z = way.send(answers)
        except StopIteration:  # the data have no more
            return list(made.values())


def _answers(
    z: Any,
    write: Callable[[Any], list[str]],
    objective: Objective,
    log: Log,
    calls: int,
    made: dict[str, Call],
) -> Iterator[Call]:
    """The calls of proposals, the first of them as in the log, until there are enough."""
    places = z.tolist() if isinstance(z, Tensor) else [None] * len(z)
    known = log.recall(places)
    for call in known:
        objective.known.setdefault(call.text, Value(call.value, call.fault))
        if len(made) < calls:
            yield call
    if len(known) == len(z) or len(made) == calls:
        return
    texts = write(z)[len(known) :]
    left = calls - len(made)
    new = list(dict.fromkeys(text for text in texts if text not in made))
    if len(new) > left:  # the last calls
        texts = texts[: texts.index(new[left])]
    rows = zip(texts, objective.values(texts), places[len(known) :], strict=False)
    for text, found, place in rows:
        call = Call(text, found.value, found.fault, place)
        log.add(call)
        yield call
