"""Ways through a space that a search may take: each proposes latents and hears of their values."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.explore.region import Region

AT_ONCE: Final = 50
"""Latents of the prior that are proposed at a time."""
POPULATION: Final = 20
"""Latents of a generation of the evolution strategy."""
STEP: Final = 0.3
"""Its first standard deviation, in units of the prior's."""
PATIENCE: Final = 8
"""Generations without anything better before it starts from another text."""


class Call(NamedTuple):
    """A latent that was proposed, or a text of some data, with what was said of it."""

    text: str
    value: float | None
    """None where the objective failed or gave no finite number."""
    fault: str = ""
    z: Any = None
    """[P] or [K P] as lists of numbers; None of a text of data."""


Way = Generator[Any, Sequence[Call], None]
"""Proposes latents [N P], or N texts, and is sent their calls, in order."""


def listed(texts: Sequence[str], seed: int) -> Way:
    """Given texts in random order."""
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
    for part in order.split(AT_ONCE):
        yield [texts[row] for row in part.tolist()]


def random(region: Region, seed: int) -> Way:
    """Draws of the prior."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield region.draw(AT_ONCE, generator)


def evolution(
    region: Region,
    scouts: Tensor,
    seed: int,
    *,
    step: float = STEP,
    population: int = POPULATION,
    patience: int = PATIENCE,
) -> Way:
    """CMA-ES from the best of some latents, and again from the next best text when it gets stuck.

    The covariance matrix adaptation evolution strategy (Hansen 2016, arXiv 1604.00772) of the
    package cma, with a diagonal covariance, whose memory and learning time grow with D and not
    with its square. It works in the coordinates of the region. What it proposes outside the region
    is pulled back towards the start before anyone sees it, and it is told the place that was used.

    Args:
        region: where to search.
        scouts: latents [N P] to look at first.
        seed: of the strategy.
        step: first standard deviation.
        population: latents of a generation.
        patience: generations without anything better before the next start.
    """
    draws = np.random.default_rng(seed)
    best: dict[str, tuple[float, Tensor]] = {}  # of each text, for the next start
    used: set[str] = set()
    chance = torch.Generator().manual_seed(seed)
    yield from _look(region, scouts, best)
    while True:
        known = len(best)
        left = [text for text in best if text not in used]
        if left:
            text = max(left, key=lambda one: best[one][0])
            used.add(text)
            value, start = best[text]
            place = region.coordinates(start.unsqueeze(0))[0]
            strategy = _strategy(place, step, population, draws)
            yield from _descent(region, strategy, start, value, best, patience)
        if len(best) == known:  # all that is near is known
            yield from _look(region, region.draw(AT_ONCE, chance), best)


def _look(region: Region, z: Tensor, best: dict[str, tuple[float, Tensor]]) -> Way:
    """Latents [N P] as they are, if they are inside the region."""
    for part in region.pulled(z, region.densest).split(AT_ONCE):
        _remember(best, part, (yield part))


def _descent(
    region: Region,
    strategy: Any,
    start: Tensor,
    value: float,
    best: dict[str, tuple[float, Tensor]],
    patience: int,
) -> Way:
    """A strategy from one latent [P] with its value, until it gets stuck."""
    idle = 0
    while idle < patience and not strategy.stop():
        asked = torch.from_numpy(np.stack(strategy.ask()))
        z = region.pulled(region.latents(asked), start)
        calls = yield z
        _remember(best, z, calls)
        strategy.tell(list(region.coordinates(z).numpy()), _losses(calls))
        highest = max((call.value for call in calls if call.value is not None), default=value)
        idle = 0 if highest > value else idle + 1
        value = max(value, highest)


def _strategy(start: Tensor, step: float, population: int, draws: np.random.Generator) -> Any:
    try:
        from cma import CMAEvolutionStrategy
    except ImportError:
        raise IsthmusError(
            "optimise: needs the package cma, which is not installed; "
            "run: pip install 'isthmus[optimise]'"
        ) from None
    options = {
        "popsize": population,
        "CMA_diagonal": True,
        "randn": lambda *shape: draws.standard_normal(shape),
        "seed": math.nan,  # it would seed all of numpy
        "verbose": -10,  # no lines, no files, no file of signals
    }
    return CMAEvolutionStrategy(start.numpy(), step, options)


def _losses(calls: Sequence[Call]) -> list[float]:
    """What CMA-ES minimises; what has no value comes after everything that has one."""
    known = [-call.value for call in calls if call.value is not None]
    worst = max(known, default=0.0) + 1
    return [worst if call.value is None else -call.value for call in calls]


def _remember(best: dict[str, tuple[float, Tensor]], z: Tensor, calls: Sequence[Call]) -> None:
    """Keep what has a value, for the next start."""
    for latent, call in zip(z, calls, strict=True):
        if call.value is not None and call.text not in best:
            best[call.text] = (call.value, latent)
