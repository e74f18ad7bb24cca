"""Clusters of codes of signs, how sure each picture's is, and Ward's tree of weighted points."""

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

    Arguments:
        codes: [M P].
        clusters: how many; HDBSCAN (Campello et al. 2013) finds its own number, and what it calls
            noise is here a cluster of one picture each.
        method: k-means, Gaussian mixture with diagonal covariances, Ward's hierarchy, HDBSCAN.
        seed: of the starts; Ward's hierarchy and HDBSCAN have none.
        weights: [M] tokens of each picture, to cluster tokens; each picture counts once if absent.
            A picture without tokens has no part in the clusters and joins the nearest one.

    Returns:
        [M] cluster, from 0 on.

    Raises:
        IsthmusError: more clusters than pictures, or none; HDBSCAN with weights,
            or weights that are all 0.
    """
    if not 1 <= clusters <= len(codes):
        raise IsthmusError(
            f"clusters must lie between 1 and {len(codes):,} pictures, got {clusters}"
        )
    if weights is None:
        return _consecutive(_of_points(codes, clusters, method, seed))
    if method == "hdbscan":
        # Copies have distance 0, infinite density: every repeated picture would be a cluster.
        raise IsthmusError("hdbscan: cannot weigh pictures by their tokens; leave weights out")
    there = np.flatnonzero(weights)
    if not there.size:
        raise IsthmusError("no picture has tokens to weigh it by; leave weights out")
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
    """Ward's hierarchy (Ward 1963) of M weighted points; every number of clusters is a cut of it.

    Two clusters of weights a and b merge at the cost 2ab / (a + b) · ‖centroid − centroid‖², the
    square of scikit-learn's Ward distance. **A point of weight w equals w copies of it**: copies
    are at distance 0 and costs never fall on the way up (the criterion is reducible), so all
    merges of copies can come first; they leave M clusters of these weights, and Lance and
    Williams' update knows a cluster by its weight and distances alone. Cuts are those of the
    copies, apart from ties, as long as no more clusters are asked for than there are points.
    """

    merges: NDArray[np.int64]
    """[M − 1, 2] a point of each of the two clusters that merge, cheapest first."""

    @classmethod
    def of(cls, codes: NDArray[Any], weights: NDArray[Any] | None = None) -> WardTree:
        """The tree by chains of nearest neighbours (Murtagh 1983): O(M²) time and memory.

        Arguments:
            codes: [M P].
            weights: [M], positive; 1 if absent.
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
            # On a tie the one before, or the chain would walk in a circle.
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
        """[M] cluster of every point, with so many clusters."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        count = len(self.merges) + 1
        left, right = self.merges[: count - clusters].T
        links = coo_array((np.ones(len(left)), (left, right)), shape=(count, count))
        return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _merge(cost: NDArray[np.float64], size: NDArray[np.float64], kept: int, gone: int) -> None:
    """Lance and Williams' update for Ward's criterion, in place; ``gone`` is at ∞ afterwards."""
    a, b = size[kept], size[gone]
    both = (a + size) * cost[kept] + (b + size) * cost[gone] - size * cost[kept, gone]
    row = both / (a + b + size)
    row[[kept, gone]] = np.inf
    cost[kept] = cost[:, kept] = row
    cost[gone] = cost[:, gone] = np.inf
    size[kept] = a + b


def confidence(reference: Labels, others: Sequence[Labels]) -> NDArray[np.float64]:
    """How far other clusterings put each picture together with the same pictures.

    The mean over the others of |A ∩ B| / |A ∪ B|, where A and B are the clusters that hold the
    picture in the two (Jaccard; Hennig 2007 judges whole clusters so). 1 where all agree. Counted
    from the table of the two clusterings, so that no matrix of all pairs is made.

    Arguments:
        reference: [M].
        others: clusterings of the same pictures; none gives NaN.

    Returns:
        [M] in (0, 1].
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
    """Which of several clusterings agrees best with the others, by the adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    agreement = [sum(adjusted_rand_score(one, other) for other in labelings) for one in labelings]
    return int(np.argmax(agreement))
