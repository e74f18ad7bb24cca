"""Clusters of codes of signs, the confidence of each picture, Ward's tree of weighted points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError
from isthmus.explore.walks import cluster

Method = Literal["kmeans", "gmm", "ward", "hdbscan"]
Labels = NDArray[np.int64]


def assign(
    codes: NDArray[Any],
    clusters: int,
    method: Method = "kmeans",
    seed: int = 0,
    weights: NDArray[Any] | None = None,
) -> Labels:
    """A cluster for every picture.

    Args:
        codes: [M P].
        clusters: Number of clusters. HDBSCAN (Campello et al. 2013) finds its own; each picture
            that it calls noise becomes a cluster of one.
        method: k-means, Gaussian mixture with diagonal covariances, Ward's hierarchy, HDBSCAN.
        seed: Of the starts, for k-means and the mixture.
        weights: Tokens of each picture, [M], to cluster tokens; without it each picture counts
            once. A picture without tokens does not influence the clusters and joins the nearest.

    Returns:
        Clusters from 0, [M].

    Raises:
        IsthmusError: A number of clusters outside 1 … M, HDBSCAN with weights, or no tokens.
    """
    if not 1 <= clusters <= len(codes):
        raise IsthmusError(
            f"clusters: got {clusters}, expected a number from 1 to {len(codes):,}, the pictures"
        )
    if weights is None:
        return _consecutive(_of_points(codes, clusters, method, seed))
    if method == "hdbscan":
        # Copies are at distance 0, so every repeated picture would be a cluster of its own.
        raise IsthmusError("hdbscan: cannot weight pictures by their tokens; leave out --by-token")
    there = np.flatnonzero(weights)
    if not there.size:
        raise IsthmusError("no picture has tokens to weight it by; leave out --by-token")
    if method == "ward":
        found = WardTree.of(codes[there], weights[there]).cut(min(clusters, len(there)))
    else:
        rows = np.repeat(there, weights[there])
        first = np.cumsum(weights[there]) - weights[there]
        found = _of_points(codes[rows], min(clusters, len(there)), method, seed)[first]
    centroids = np.stack([codes[there][found == group].mean(0) for group in np.unique(found)])
    everywhere = squared_distances(codes, centroids).argmin(1)
    everywhere[there] = _consecutive(found)
    return np.asarray(everywhere, dtype=np.int64)


def _of_points(points: NDArray[Any], clusters: int, method: Method, seed: int) -> Labels:
    if method == "ward":
        return WardTree.of(points).cut(clusters)
    if method == "hdbscan":
        from sklearn.cluster import HDBSCAN

        found = HDBSCAN(min_cluster_size=2, copy=True).fit_predict(points)
        alone = found < 0
        found[alone] = found.max() + 1 + np.arange(alone.sum())
        return np.asarray(found, dtype=np.int64)
    return np.asarray(cluster(points, clusters, method, seed), dtype=np.int64)


def _consecutive(labels: NDArray[Any]) -> Labels:
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def squared_distances(points: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """‖a − b‖² of all pairs, [N M]."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(points, others, "sqeuclidean"))


@final
@dataclass(frozen=True)
class WardTree:
    """Ward's hierarchy (Ward 1963) of M weighted points; each number of clusters is a cut of it.

    Two clusters of weights a and b merge at the cost 2ab / (a + b) · ‖centroid − centroid‖², the
    square of scikit-learn's Ward distance. **A point of weight w equals w copies of it**: copies
    are at distance 0 and costs never decrease (the criterion is reducible), so all merges of
    copies can come first. They leave M clusters of these weights, and Lance and Williams' update
    needs only weights and distances. Up to M clusters, cuts equal those of the copies, apart from
    ties.
    """

    merges: NDArray[np.int64]
    """A point of each of the two clusters that merge, cheapest first, [M − 1, 2]."""

    @classmethod
    def of(cls, codes: NDArray[Any], weights: NDArray[Any] | None = None) -> WardTree:
        """The tree by chains of nearest neighbours (Murtagh 1983): O(M²) time and memory.

        Codes are [M P], weights [M] and positive; all 1 if absent.
        """
        count = len(codes)
        size = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
        cost = squared_distances(codes, codes)
        cost *= 2 * size[:, None] * size / (size[:, None] + size)
        np.fill_diagonal(cost, np.inf)
        alive, size = np.ones(count, dtype=bool), size.copy()
        merges: list[tuple[int, int]] = []
        heights: list[float] = []
        chain: list[int] = []
        while len(merges) < count - 1:
            if not chain:
                chain = [int(alive.argmax())]
            last = chain[-1]
            nearest = int(cost[last].argmin())
            # On a tie take the previous one, or the chain would run in a circle.
            if len(chain) > 1 and cost[last, chain[-2]] <= cost[last, nearest]:
                nearest = chain[-2]
                del chain[-2:]
                merges.append((nearest, last))
                heights.append(float(cost[last, nearest]))
                _merge(cost, size, nearest, last)
                alive[last] = False
            else:
                chain.append(nearest)
        cheapest = np.argsort(heights, kind="stable")
        return cls(np.asarray(merges, dtype=np.int64).reshape(-1, 2)[cheapest])

    def cut(self, clusters: int) -> Labels:
        """The cluster of every point, [M], for this number of clusters."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        count = len(self.merges) + 1
        left, right = self.merges[: count - clusters].T
        links = coo_array((np.ones(len(left)), (left, right)), shape=(count, count))
        return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _merge(cost: NDArray[np.float64], size: NDArray[np.float64], kept: int, gone: int) -> None:
    """Lance and Williams' update for Ward's criterion, in place; ``gone`` ends up at ∞."""
    a, b = size[kept], size[gone]
    both = (a + size) * cost[kept] + (b + size) * cost[gone] - size * cost[kept, gone]
    row = both / (a + b + size)
    row[[kept, gone]] = np.inf
    cost[kept] = cost[:, kept] = row
    cost[gone] = cost[:, gone] = np.inf
    size[kept] = a + b


def confidence(reference: Labels, others: Sequence[Labels]) -> NDArray[np.float64]:
    """How consistently other clusterings group each picture with the same pictures.

    The mean over the others of |A ∩ B| / |A ∪ B|, where A and B are the clusters that hold the
    picture in the two (Jaccard; Hennig 2007 does so for whole clusters). Counted from the
    contingency table, which avoids a matrix of all pairs.

    Args:
        reference: [M].
        others: Clusterings of the same pictures; none gives NaN.

    Returns:
        [M] in (0, 1], 1 where all agree.
    """
    if not others:
        return np.full(len(reference), np.nan)
    a = _consecutive(reference)
    total = np.zeros(len(a))
    for labels in others:
        b = _consecutive(labels)
        table = np.zeros((a.max() + 1, b.max() + 1))
        np.add.at(table, (a, b), 1)
        shared = table[a, b]
        total += shared / (table.sum(1)[a] + table.sum(0)[b] - shared)
    return total / len(others)


def most_central(labelings: Sequence[Labels]) -> int:
    """Index of the clustering with the best agreement with all others (adjusted Rand index)."""
    from sklearn.metrics import adjusted_rand_score

    agreement = [sum(adjusted_rand_score(one, other) for other in labelings) for one in labelings]
    return int(np.argmax(agreement))
