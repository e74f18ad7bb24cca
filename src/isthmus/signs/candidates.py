"""Candidates for an expert: names that may be one sign, and names that may be several."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.signs.clusters import Labels, squared_distances
from isthmus.signs.inscriptions import Signs, base


@final
@dataclass(frozen=True)
class Merge:
    """Two or three working names with pictures in one cluster."""

    pictures: tuple[int, ...]
    """One picture of each name: the nearest to one another."""
    cluster: int
    distance: float
    """Between the codes of two pictures; the largest of three."""


@final
@dataclass(frozen=True)
class Split:
    """A working name with pictures in several clusters."""

    name: str
    parts: dict[int, list[int]]
    """Cluster → its pictures of that name, the largest first."""


def working_names(signs: Signs, fold_variants: bool = False) -> list[str]:
    """The working name of every picture; its file name if it has none.

    ``fold_variants``: see :func:`isthmus.signs.inscriptions.base`.
    """
    named = zip(signs.names, signs.files, strict=True)
    names = [file if name is None else name for name, file in named]
    return [base(name) for name in names] if fold_variants else names


def merge_candidates(names: Sequence[str], clusters: Labels, codes: NDArray[Any]) -> list[Merge]:
    """Pairs and triplets of different names within a cluster, nearest first.

    A triplet is a picture with the two nearest of other names; a large cluster would have too
    many triplets to look at.

    Args:
        names: Working names, [M].
        clusters: [M].
        codes: [M P].
    """
    best: dict[tuple[int, frozenset[str]], Merge] = {}

    def offer(pictures: tuple[int, ...], cluster: int, distance: float) -> None:
        key = (cluster, frozenset(names[picture] for picture in pictures))
        if key not in best or distance < best[key].distance:
            best[key] = Merge(pictures, cluster, distance)

    for cluster in np.unique(clusters).tolist():
        members = np.flatnonzero(clusters == cluster).tolist()
        distance = np.sqrt(squared_distances(codes[members], codes[members]))
        for i, j in combinations(range(len(members)), 2):
            if names[members[i]] != names[members[j]]:
                offer((members[i], members[j]), cluster, float(distance[i, j]))
        for i, row in enumerate(distance):
            trio, seen = [i], {names[members[i]]}
            for j in np.argsort(row, kind="stable").tolist():
                if len(trio) < 3 and names[members[j]] not in seen:
                    trio.append(j)
                    seen.add(names[members[j]])
            if len(trio) == 3:
                widest = float(distance[np.ix_(trio, trio)].max())
                offer(tuple(sorted(members[j] for j in trio)), cluster, widest)
    return sorted(best.values(), key=lambda merge: (merge.distance, merge.pictures))


def merge_agreement(merges: Sequence[Merge], clusterings: Sequence[Labels]) -> NDArray[np.float64]:
    """For each candidate, the share of clusterings that put all its pictures into one cluster.

    With several seeds or several codes, a chance candidate of one clustering is in few others.
    """

    def together(merge: Merge, labels: Labels) -> bool:
        return len(np.unique(labels[list(merge.pictures)])) == 1

    return np.asarray(
        [np.mean([together(merge, labels) for labels in clusterings]) for merge in merges],
        dtype=np.float64,
    )


def split_candidates(names: Sequence[str], clusters: Labels) -> list[Split]:
    """Names in more than one cluster, starting with the largest second part."""
    parts: dict[str, dict[int, list[int]]] = {}
    for picture, (name, cluster) in enumerate(zip(names, clusters.tolist(), strict=True)):
        parts.setdefault(name, {}).setdefault(cluster, []).append(picture)
    found = [
        Split(name, dict(sorted(each.items(), key=lambda part: (-len(part[1]), part[0]))))
        for name, each in parts.items()
        if len(each) > 1
    ]
    return sorted(
        found, key=lambda split: (-sorted(map(len, split.parts.values()))[-2], split.name)
    )


@final
class Contexts:
    """The left and right neighbours of pictures in the inscriptions."""

    def __init__(self, order: Sequence[NDArray[np.int64]]) -> None:
        self.before: dict[int, Counter[int]] = defaultdict(Counter)
        self.after: dict[int, Counter[int]] = defaultdict(Counter)
        for sequence in order:
            for left, right in pairwise(sequence.tolist()):
                self.before[right][left] += 1
                self.after[left][right] += 1

    def left(self, picture: int, count: int = 3) -> list[tuple[int, int]]:
        """The most frequent pictures before it, with their counts."""
        return self.before[picture].most_common(count)

    def right(self, picture: int, count: int = 3) -> list[tuple[int, int]]:
        """The most frequent pictures after it, with their counts."""
        return self.after[picture].most_common(count)
