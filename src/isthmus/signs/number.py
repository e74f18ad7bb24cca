"""The number of signs: three criteria, and the interval that they leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError
from isthmus.explore.walks import equal_points

STEPS = 14
"""Numbers that are tried, evenly spaced on a logarithmic scale."""
STRONG = 10.0
"""A BIC difference that is very strong evidence (Kass and Raftery 1995)."""
REPEATS = 0.8
"""Agreement from which clusters count as reproduced (Tibshirani and Walther 2005)."""


@final
@dataclass(frozen=True)
class Evidence:
    """What one criterion says: between ``low`` and ``high`` signs."""

    criterion: str
    low: int
    high: int
    reason: str
    values: tuple[float, ...]
    """The criterion at every number tried."""
    decides: bool
    """Whether its best is inside the search; at an end it shows only a direction."""


@final
@dataclass(frozen=True)
class NumberOfSigns:
    """An interval for the number of signs, with its reasons."""

    tried: tuple[int, ...]
    evidence: tuple[Evidence, ...]

    @property
    def deciding(self) -> list[Evidence]:
        """The criteria whose best is not at an end of the search."""
        return [each for each in self.evidence if each.decides]

    @property
    def low(self) -> int:
        """The smallest number that a deciding criterion allows; all numbers tried if none does."""
        return min([each.low for each in self.deciding] or [self.tried[0]])

    @property
    def high(self) -> int:
        """The largest one."""
        return max([each.high for each in self.deciding] or [self.tried[-1]])

    @property
    def middle(self) -> int:
        """The default number of clusters: √(low · high). Not an estimate."""
        return round(math.sqrt(self.low * self.high))

    def report(self) -> list[str]:
        """The interval and its reasons, one per line."""
        deciding = self.deciding
        if not deciding:
            verdict = "no criterion decides; these are the limits of the search"
        elif len(deciding) == 1:
            verdict = f"by {deciding[0].criterion} alone"
        elif max(each.low for each in deciding) <= min(each.high for each in deciding):
            verdict = f"{' and '.join(each.criterion for each in deciding)} overlap"
        else:
            *others, last = (each.criterion for each in deciding)
            verdict = f"{', '.join(others)} and {last} disagree"
        lines = [f"between {self.low} and {self.high} signs: {verdict}"]
        for each in self.evidence:
            says = f"{each.low} to {each.high}" if each.decides else "does not decide"
            lines.append(f"{each.criterion}: {says}, {each.reason}")
        lines.append(
            "all three count distinct shapes: if most signs have only one or two pictures, these "
            "are families of shapes, fewer than the signs"
        )
        return lines


def number_of_signs(
    codes: NDArray[Any],
    lowest: int = 2,
    highest: int = 0,
    seeds: int = 5,
    progress: Callable[[int], None] = lambda done: None,
) -> NumberOfSigns:
    """Try numbers of clusters with k-means, and judge them by three criteria.

    A criterion's interval extends to the next number tried on either side. All three count
    distinct shapes: in a script with one drawing per sign they find families of shapes.

    Args:
        codes: [M P].
        lowest: Smallest number tried.
        highest: Largest number tried; 0 for half of the different codes.
        seeds: Bootstraps and reference sets, at least 2.
        progress: Called with 1 after each number tried, at most STEPS times.

    Raises:
        IsthmusError: Too few pictures, or bounds that leave nothing to try.
    """
    most = len(np.unique(codes, axis=0)) // 2
    highest = highest or most
    if seeds < 2 or not 1 <= lowest < highest <= most:
        raise IsthmusError(
            f"number of signs: got {lowest} to {highest} with {seeds} seeds; expected 1 ≤ lowest "
            f"< highest ≤ {most}, half of the different codes, and at least two seeds"
        )
    tried = np.unique(np.geomspace(lowest, highest, STEPS).round().astype(int)).tolist()
    found = []
    for clusters in tried:
        found.append((*_fit(codes, clusters, seeds), _stability(codes, clusters, seeds)))
        progress(1)
    bic, gap, stable = zip(*found, strict=True)
    return NumberOfSigns(
        tuple(tried), (_by_bic(tried, bic), _by_stability(tried, stable), _by_gap(tried, gap))
    )


def _k_means(codes: NDArray[Any], clusters: int, seed: int) -> Any:
    from sklearn.cluster import KMeans

    with equal_points():
        return KMeans(clusters, n_init=1, random_state=seed).fit(codes)


def _fit(codes: NDArray[Any], clusters: int, seeds: int) -> tuple[float, tuple[float, float]]:
    """BIC of the best of ``seeds`` starts; the gap and its standard error."""
    count, size = codes.shape
    best = min((_k_means(codes, clusters, s) for s in range(seeds)), key=lambda fit: fit.inertia_)
    within = max(float(best.inertia_), 1e-12 * float(codes.var()) * codes.size)
    # Round Gaussians with one common variance and hard assignment: unlike in a free mixture, no
    # variance can vanish on a cluster of one picture.
    variance = within / (size * (count - clusters))
    sizes = np.bincount(best.labels_)
    likelihood = float((sizes * np.log(sizes / count)).sum())
    likelihood -= count * size / 2 * np.log(2 * np.pi * variance) + size * (count - clusters) / 2
    bic = -2 * likelihood + (clusters * (size + 1)) * np.log(count)
    logs = np.asarray(
        [np.log(_k_means(_reference(codes, s), clusters, s).inertia_) for s in range(seeds)]
    )
    error = float(logs.std() * np.sqrt(1 + 1 / seeds))
    return float(bic), (float(logs.mean() - np.log(within)), error)


def _reference(codes: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """As many points, uniform in the box around the codes along their principal axes."""
    shifted = codes - codes.mean(0)
    axes = np.linalg.svd(shifted, full_matrices=False)[2]
    turned = shifted @ axes.T
    draws = np.random.default_rng(seed).uniform(turned.min(0), turned.max(0), turned.shape)
    return np.asarray(draws @ axes + codes.mean(0))


def _stability(codes: NDArray[Any], clusters: int, seeds: int) -> tuple[float, float]:
    """Mean adjusted Rand index of pairs of k-means fitted to bootstraps, and its standard error.

    Pairs share bootstraps; the error counts the ⌊seeds / 2⌋ pairs that are independent.
    """
    from sklearn.metrics import adjusted_rand_score

    labelings = []
    for seed in range(seeds):
        rows = np.random.default_rng(seed).integers(len(codes), size=len(codes))
        labelings.append(_k_means(codes[rows], clusters, seed).predict(codes))
    scores = [adjusted_rand_score(one, other) for one, other in combinations(labelings, 2)]
    return float(np.mean(scores)), float(np.std(scores) / (seeds // 2) ** 0.5)


def _evidence(
    criterion: str,
    tried: Sequence[int],
    chosen: Sequence[int],
    reason: str,
    values: Sequence[float],
) -> Evidence:
    """The interval up to, but excluding, the numbers tried before and after the chosen places."""
    first, last = min(chosen), max(chosen)
    inside = first > 0 and last + 1 < len(tried)
    low = tried[first - 1] + 1 if first else tried[0]
    high = tried[last + 1] - 1 if last + 1 < len(tried) else tried[-1]
    return Evidence(criterion, low, high, reason, tuple(values), inside)


def _by_bic(tried: Sequence[int], values: Sequence[float]) -> Evidence:
    chosen = [place for place, value in enumerate(values) if value <= min(values) + STRONG]
    reason = (
        f"BIC of round Gaussians of one variance is lowest at {tried[int(np.argmin(values))]} "
        "(Pelleg and Moore 2000)"
    )
    return _evidence("BIC", tried, chosen, reason, values)


def _by_stability(tried: Sequence[int], values: Sequence[tuple[float, float]]) -> Evidence:
    """The largest number that is reproduced; a few coarse groups always are."""
    again = [place for place, (value, error) in enumerate(values) if value + error >= REPEATS]
    last = max(again, default=0)
    mean, error = values[last]
    says = (
        f"k-means on bootstraps is reproducible up to {tried[last]}, adjusted Rand index "
        f"{mean:.2f} ± {error:.2f}"
        if again
        else f"k-means on bootstraps is never reproducible, adjusted Rand index < {REPEATS}"
    )
    reason = f"{says} (like prediction strength, Tibshirani and Walther 2005)"
    return _evidence("stability", tried, [last], reason, [value for value, _ in values])


def _by_gap(tried: Sequence[int], values: Sequence[tuple[float, float]]) -> Evidence:
    """The first number that the next does not beat by an error (Tibshirani et al. 2001)."""
    enough = [
        place
        for place, ((gap, _), (after, error)) in enumerate(pairwise(values))
        if gap >= after - error
    ]
    first = enough[0] if enough else len(tried) - 1
    says = f"stops rising at {tried[first]}" if enough else f"still rises at {tried[first]}"
    reason = f"the gap statistic {says} (Tibshirani et al. 2001)"
    return _evidence("gap", tried, [first], reason, [gap for gap, _ in values])
