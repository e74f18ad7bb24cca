"""How many signs there are: three kinds of evidence, and the interval that they leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError

STEPS = 14
"""Numbers that are tried, evenly spaced on a logarithmic scale."""
STRONG = 10.0
"""Difference of BIC that counts as very strong evidence (Kass and Raftery 1995)."""
REPEATS = 0.8
"""Agreement from which clusters count as found again (Tibshirani and Walther 2005)."""


@final
@dataclass(frozen=True)
class Evidence:
    """What one criterion says."""

    criterion: str
    """Its name."""
    low: int
    """From so many signs"""
    high: int
    """to so many."""
    reason: str
    """Why, in a sentence."""
    values: tuple[float, ...]
    """The criterion at every number that was tried."""
    decides: bool
    """Whether its best is within the search, not at an end: there it only says which way."""


@final
@dataclass(frozen=True)
class NumberOfSigns:
    """An interval for the number of signs, with its reasons."""

    tried: tuple[int, ...]
    """Numbers that were tried."""
    evidence: tuple[Evidence, ...]
    """Each criterion's interval."""

    @property
    def deciding(self) -> list[Evidence]:
        """The criteria that found something; those with their best at an end did not."""
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
        """Where clusters are cut if nobody says otherwise: √(low · high), no estimate."""
        return round(math.sqrt(self.low * self.high))

    def report(self) -> list[str]:
        """The interval and its reasons, a line each."""
        deciding = self.deciding
        if not deciding:
            verdict = "no criterion decides; these are the ends of the search"
        elif len(deciding) == 1:
            verdict = f"by {deciding[0].criterion} alone"
        elif max(each.low for each in deciding) <= min(each.high for each in deciding):
            verdict = f"{' and '.join(each.criterion for each in deciding)} overlap"
        else:
            verdict = f"{' and '.join(each.criterion for each in deciding)} contradict each other"
        lines = [f"between {self.low} and {self.high} signs: {verdict}"]
        for each in self.evidence:
            says = f"{each.low} to {each.high}" if each.decides else "does not decide"
            lines.append(f"{each.criterion}: {says}, {each.reason}")
        lines.append(
            "all three count shapes that lie apart: where most signs have one or two pictures, "
            "these are families of shapes, fewer than the signs"
        )
        return lines


def number_of_signs(
    codes: NDArray[Any],
    lowest: int = 2,
    highest: int = 0,
    seeds: int = 5,
    progress: Callable[[int], None] = lambda done: None,
) -> NumberOfSigns:
    """Try numbers of clusters with k-means, and let three criteria speak.

    A criterion's interval reaches to the next number tried on either side, since nothing between
    was looked at. All count shapes that lie apart: of a script with one drawing a sign they find
    families of shapes.

    Arguments:
        codes: [M P].
        lowest: smallest number tried.
        highest: largest; 0 takes half of the different codes.
        seeds: bootstraps and reference sets, two at least.
        progress: called with 1 after each number tried, STEPS times at most.

    Raises:
        IsthmusError: too few pictures, or bounds that leave nothing to try.
    """
    most = len(np.unique(codes, axis=0)) // 2
    highest = highest or most
    if seeds < 2 or not 1 <= lowest < highest <= most:
        raise IsthmusError(
            f"number of signs: got {lowest} to {highest} with {seeds} seeds; expected 1 ≤ lowest "
            f"< highest ≤ {most}, half of the different codes, and two seeds at least"
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

    return KMeans(clusters, n_init=1, random_state=seed).fit(codes)


def _fit(codes: NDArray[Any], clusters: int, seeds: int) -> tuple[float, tuple[float, float]]:
    """BIC of the best of so many starts; the gap and its standard error."""
    count, size = codes.shape
    best = min((_k_means(codes, clusters, s) for s in range(seeds)), key=lambda fit: fit.inertia_)
    within = max(float(best.inertia_), 1e-12 * float(codes.var()) * codes.size)
    # Round Gaussians of one common variance, every point its own cluster's: no variance can
    # vanish on a cluster of one picture, as those of a free mixture do.
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
    """As many points, even in the box around the codes along their principal axes."""
    shifted = codes - codes.mean(0)
    axes = np.linalg.svd(shifted, full_matrices=False)[2]
    turned = shifted @ axes.T
    draws = np.random.default_rng(seed).uniform(turned.min(0), turned.max(0), turned.shape)
    return np.asarray(draws @ axes + codes.mean(0))


def _stability(codes: NDArray[Any], clusters: int, seeds: int) -> tuple[float, float]:
    """Mean adjusted Rand index of pairs of k-means fitted to bootstraps, and its standard error.

    Pairs share bootstraps; the error counts only ⌊seeds / 2⌋ of them, which are independent.
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
    """From behind the number tried before the first chosen place to before that after the last."""
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
    """The largest number that repeats; a few coarse groups always do so best."""
    again = [place for place, (value, error) in enumerate(values) if value + error >= REPEATS]
    last = max(again, default=0)
    mean, error = values[last]
    says = (
        f"k-means on bootstraps repeats itself up to {tried[last]}, adjusted Rand index "
        f"{mean:.2f} ± {error:.2f}"
        if again
        else f"k-means on bootstraps repeats itself nowhere, adjusted Rand index < {REPEATS}"
    )
    reason = f"{says} (as prediction strength, Tibshirani and Walther 2005)"
    return _evidence("stability", tried, [last], reason, [value for value, _ in values])


def _by_gap(tried: Sequence[int], values: Sequence[tuple[float, float]]) -> Evidence:
    """Tibshirani et al. 2001: the first number that the next does not beat by an error."""
    enough = [
        place
        for place, ((gap, _), (after, error)) in enumerate(pairwise(values))
        if gap >= after - error
    ]
    first = enough[0] if enough else len(tried) - 1
    says = f"stops to rise at {tried[first]}" if enough else f"still rises at {tried[first]}"
    reason = f"the gap statistic {says} (Tibshirani et al. 2001)"
    return _evidence("gap", tried, [first], reason, [gap for gap, _ in values])
