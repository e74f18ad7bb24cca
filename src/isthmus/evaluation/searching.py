"""What searches found, beside chance and the data, and a picture of their way."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.evaluation.plots import COLOURS, charts
from isthmus.evaluation.usage import Estimate
from isthmus.explore.optimise import DATA, RANDOM, SEARCH
from isthmus.explore.ways import Call

TEN: Final = 10
"""The best texts that are averaged and shown."""
NAMES: Final = {SEARCH: "the search", RANDOM: "random search", DATA: "texts of the data"}


@final
@dataclass(frozen=True)
class Searched:
    """Searches that differ in their seeds.

    Args:
        runs: of each seed, the calls of each way as :func:`isthmus.explore.optimise.optimise`
            returns them.
    """

    runs: Sequence[Mapping[str, Sequence[Call]]]

    def best(self, count: int = TEN) -> list[Call]:
        """The best different texts that the search wrote, the best first."""
        calls = {call.text: call for run in self.runs for call in run[SEARCH]}
        known = [call for call in calls.values() if call.value is not None]
        return heapq.nlargest(count, known, key=lambda call: call.value or 0.0)

    def figures(self) -> dict[str, Any]:
        """For each way, over seeds: the best value, the mean of the ten best, calls and failures.

        With several seeds each has a standard error ``…_se``, and ``gain_over_WAY`` is the mean
        over seeds of how much higher the mean of the ten best of the search is.
        """
        found: dict[str, Any] = {"seeds": len(self.runs)}
        tens = {way: [mean_of_best(run[way]) for run in self.runs] for way in self.runs[0]}
        for way in self.runs[0]:
            calls = [run[way] for run in self.runs]
            rows: dict[str, Sequence[float]] = {
                "best": [mean_of_best(one, 1) for one in calls],
                "ten_best": tens[way],
                "calls": [len(one) for one in calls],
                "failed": [sum(call.value is None for call in one) for one in calls],
            }
            for name, values in rows.items():
                _put(found, f"{way}_{name}", values)
            if way != SEARCH:
                pairs = zip(tens[SEARCH], tens[way], strict=True)
                _put(found, f"gain_over_{way}", [own - other for own, other in pairs])
        return found

    def draw(self, picture: Path, what: str) -> None:
        """A picture of the way: best so far, and mean of the ten best so far, over calls.

        Bands are ± one standard error over seeds.
        """
        titles = {1: "Best so far", TEN: "Mean of the ten best so far"}
        with charts(picture, len(titles)) as axes:
            for axis, (count, title) in zip(axes, titles.items(), strict=True):
                lowest = math.inf
                for way, colour in zip(self.runs[0], COLOURS, strict=False):
                    curves = [best_so_far(run[way], count) for run in self.runs]
                    length = min(map(len, curves))
                    rows = np.stack([curve[:length] for curve in curves])
                    place, mean = np.arange(1, length + 1), rows.mean(0)
                    axis.plot(place, mean, color=colour, label=NAMES[way])
                    if len(rows) > 1:
                        error = rows.std(0, ddof=1) / math.sqrt(len(rows))
                        axis.fill_between(
                            place, mean - error, mean + error, color=colour, alpha=0.2, lw=0
                        )
                    known = mean[length // 20 :][~np.isnan(mean[length // 20 :])]
                    lowest = min([lowest, *known[:1]])
                if math.isfinite(lowest):
                    axis.set_ylim(bottom=lowest)
                axis.set(title=title, xlabel="calls of the objective", ylabel=what)
            axes[-1].legend(loc="lower right")


def best_so_far(calls: Sequence[Call], count: int) -> NDArray[np.float64]:
    """The mean of the ``count`` best values after each call, [N]; NaN while there are fewer."""
    best: list[float] = []
    found = np.full(len(calls), np.nan)
    for place, call in enumerate(calls):
        if call.value is not None:
            (heapq.heappush if len(best) < count else heapq.heappushpop)(best, call.value)
        if len(best) == count:
            found[place] = sum(best) / count
    return found


def mean_of_best(calls: Sequence[Call], count: int = TEN) -> float:
    """The mean of the ``count`` best values, of all if there are fewer; NaN without any."""
    best = heapq.nlargest(count, (call.value for call in calls if call.value is not None))
    return sum(best) / len(best) if best else math.nan


def _put(found: dict[str, Any], name: str, values: Sequence[float]) -> None:
    """The mean over seeds, with its standard error if there are several."""
    estimate = Estimate.mean_of(torch.tensor(values, dtype=torch.double))
    found[name] = estimate.value
    if len(values) > 1:
        found[f"{name}_se"] = estimate.standard_error
