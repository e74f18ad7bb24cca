"""The analysis of a script: clusters, candidates for merges and splits, the number of signs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.data.pictures.arrays import load_arrays
from isthmus.errors import IsthmusError
from isthmus.signs import scores
from isthmus.signs.candidates import (
    Merge,
    Split,
    merge_agreement,
    merge_candidates,
    split_candidates,
    working_names,
)
from isthmus.signs.clusters import Labels, Method, assign, confidence, most_central
from isthmus.signs.drawing import positions
from isthmus.signs.inscriptions import Signs
from isthmus.signs.number import STEPS, NumberOfSigns, number_of_signs

SEARCH_SIZE = 16
"""Principal components in which numbers of signs are tried: in more dimensions all distances
become alike and the criteria weaker."""
PIECES = STEPS + 4
"""Pieces of work without those of the seeds: numbers tried, and rows of the table of scores."""


@final
@dataclass(frozen=True)
class Report:
    """Everything that a report shows on M pictures."""

    signs: Signs
    names: list[str]
    """Working names, [M]."""
    codes_from: str
    """A description of the codes."""
    number: NumberOfSigns | None
    """None if there are too few pictures."""
    clusters: Labels
    """[M]."""
    confidence: NDArray[np.float64]
    """[M], see :func:`isthmus.signs.clusters.confidence`."""
    seeds: int
    others: tuple[str, ...]
    """Descriptions of further codes, used to measure agreement."""
    merges: list[Merge]
    agreement: NDArray[np.float64]
    """Of each merge, see :func:`isthmus.signs.candidates.merge_agreement`."""
    splits: list[Split]
    places: NDArray[np.int64]
    """Cells on the map, [M 2]."""
    table: list[scores.Row]
    """Empty if no known type has two pictures."""


def read_codes(path: Path, pictures: int) -> NDArray[np.float64]:
    """``codes`` [M P] of an ``.npz`` file.

    Raises:
        IsthmusError: The file has none, or not one for each picture.
    """
    codes = load_arrays(path, ("codes",))["codes"]
    if codes.dtype.kind not in "fiu" or codes.ndim != 2 or len(codes) != pictures:
        raise IsthmusError(
            f"{path}: codes are {codes.dtype} {codes.shape}, expected numbers [{pictures} P], a "
            "row for each picture that was read, in the same order"
        )
    found = codes.astype(np.float64)
    if not np.isfinite(found).all():
        raise IsthmusError(f"{path}: codes are not all finite; was the training cut short?")
    return found


def analyse(
    signs: Signs,
    codes: NDArray[np.float64],
    codes_from: str,
    clusters: int = 0,
    method: Method = "kmeans",
    seeds: int = 5,
    fold_variants: bool = False,
    by_token: bool = False,
    others: Mapping[str, NDArray[np.float64]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Cluster pictures and find candidates for an expert.

    Args:
        signs: M pictures and their order.
        codes: [M P].
        codes_from: A description of the codes.
        clusters: Number of clusters; 0 for the middle of the interval for the number of signs.
        method: Of the clusters shown, see :func:`isthmus.signs.clusters.assign`.
        seeds: Runs to measure confidence with: of the mixture, otherwise of k-means with equally
            many clusters. The run that agrees best with the others is shown, or the only result
            of a method without seeds.
        fold_variants: M157-A and M157-B count as M157.
        by_token: Weight each picture by its tokens.
        others: Further codes of the same pictures, of other seeds or networks: description →
            [M P]. Each is clustered as often as ``codes``, contributes equally to agreement and
            confidence, and has a row in the table of scores.
        progress: Called with 1 after each piece of work; there are at most PIECES + (``seeds`` +
            1) · (1 + the number of others).
    """
    if seeds < 2:
        raise IsthmusError(f"seeds: got {seeds}, expected at least 2 for a confidence")
    names = working_names(signs, fold_variants)
    number = _number(codes, seeds, progress)
    chosen = clusters or (number.middle if number else 1)
    weights = signs.counts if by_token else None
    further = dict(others or {})
    every = [codes, *further.values()]
    shown, runs = _clusterings(every, chosen, method, seeds, weights, progress)
    merges = merge_candidates(names, shown, codes)
    return Report(
        signs,
        names,
        codes_from,
        number,
        shown,
        confidence(shown, runs),
        seeds,
        tuple(further),
        merges,
        merge_agreement(merges, [shown, *runs]),
        split_candidates(names, shown),
        positions(codes),
        _scores(signs, {codes_from: codes, **further}, fold_variants, progress),
    )


def _clusterings(
    every: Sequence[NDArray[np.float64]],
    clusters: int,
    method: Method,
    seeds: int,
    weights: NDArray[np.int64] | None,
    progress: Callable[[int], None],
) -> tuple[Labels, list[Labels]]:
    """The clusters of the first codes to show, and the others to compare them with."""
    if method in ("ward", "hdbscan"):
        shown = assign(every[0], clusters, method, weights=weights)
        clusters = int(shown.max()) + 1  # HDBSCAN chooses its own number
    again: Method = "gmm" if method == "gmm" else "kmeans"
    runs = []
    for place, points in enumerate(every):
        for seed in range(seeds):
            runs.append(assign(points, clusters, again, seed, weights))
            progress(1)
        if place == 0 and method in ("kmeans", "gmm"):
            shown = runs.pop(most_central(runs))
    return shown, runs


def _number(
    codes: NDArray[np.float64], seeds: int, progress: Callable[[int], None]
) -> NumberOfSigns | None:
    if len(np.unique(codes, axis=0)) < 6:
        return None
    size = min(SEARCH_SIZE, *codes.shape)
    from sklearn.decomposition import PCA

    small = PCA(size, random_state=0).fit_transform(codes)
    return number_of_signs(np.asarray(small), seeds=seeds, progress=progress)


def _scores(
    signs: Signs,
    codes: Mapping[str, NDArray[np.float64]],
    fold_variants: bool,
    progress: Callable[[int], None],
) -> list[scores.Row]:
    types = signs.types(fold_variants)
    if types is None or not 1 < len(set(types)) < len(types) or not len(signs.tokens):
        return []
    rows = {**scores.rulers(signs.pictures), **codes}
    return scores.score_table(rows, types, signs.counts, progress)


def summary(report: Report) -> dict[str, Any]:
    """Counts, the interval for the number of signs, and the scores."""
    number = report.number
    return {
        "source": report.signs.source,
        "pictures": len(report.signs.pictures),
        "tokens": len(report.signs.tokens),
        "sequences": len(report.signs.order),
        "skipped": dict(report.signs.skipped),
        "working_names": len(set(report.names)),
        "codes": report.codes_from,
        "clusters": int(report.clusters.max() + 1),
        "further_codes": list(report.others),
        "seeds": report.seeds,
        "mean_confidence": float(report.confidence.mean()),
        "number_of_signs": number and {"low": number.low, "high": number.high, **asdict(number)},
        "merge_candidates": len(report.merges),
        "split_candidates": len(report.splits),
        "scores": [asdict(row) for row in report.table],
    }
