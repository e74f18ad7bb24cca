"""How well clusters agree with known classes, and how well they are separated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.kind import sampled
from isthmus.evaluation.probe import Features
from isthmus.evaluation.usage import Estimate
from isthmus.explore.walks import Clustering, cluster

SILHOUETTE_AT_MOST = 5000
"""Points of a silhouette, which takes the distances of all pairs."""


def clustering_metrics(labels: Sequence[str], clusters: Sequence[int]) -> dict[str, float]:
    """Accuracy under the best one-to-one matching (Hungarian), NMI, ARI, AMI and V-measure.

    Args:
        labels: The known class of each of N examples.
        clusters: Its cluster.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn import metrics

    classes = np.unique(np.asarray(labels), return_inverse=True)[1]
    groups = np.unique(np.asarray(clusters), return_inverse=True)[1]
    table = np.zeros((groups.max() + 1, classes.max() + 1), dtype=np.int64)
    np.add.at(table, (groups, classes), 1)
    rows, columns = linear_sum_assignment(-table)
    return {
        "accuracy": float(table[rows, columns].sum() / len(classes)),
        "normalized_mutual_information": float(
            metrics.normalized_mutual_info_score(classes, groups)
        ),
        "adjusted_rand_index": float(metrics.adjusted_rand_score(classes, groups)),
        "adjusted_mutual_information": float(metrics.adjusted_mutual_info_score(classes, groups)),
        "v_measure": float(metrics.v_measure_score(classes, groups)),
    }


def cluster_scores(
    features: Features,
    labels: Sequence[str],
    clusters: int,
    method: Clustering = "kmeans",
    seeds: int = 5,
    principal: int = 0,
) -> dict[str, Estimate]:
    """:func:`clustering_metrics` of the clusters of features, mean over the seeds.

    Labels do not influence the clusters. Clusters and classes are matched on the same examples, as
    is usual in unsupervised clustering (Li et al. 2019 match on validation texts instead).

    Args:
        features: [N P]; k-means takes sparse ones too.
        labels: The known class of each of the N examples.
        clusters: Number of clusters.
        method: See :func:`isthmus.explore.walks.cluster`.
        seeds: Number of starts, from seed 0.
        principal: Number of principal components to cluster; 0 for the features themselves.

    Returns:
        Metric → mean, with its standard error over the seeds.
    """
    runs = [
        clustering_metrics(labels, cluster(features, clusters, method, seed, principal))
        for seed in range(seeds)
    ]
    return {
        name: Estimate.mean_of(torch.tensor([run[name] for run in runs], dtype=torch.double))
        for name in runs[0]
    }


def silhouette(features: NDArray[Any], groups: Sequence[Any]) -> Estimate | None:
    """Mean of (b − a) / max(a, b), a the mean distance to the own group, b to the nearest other.

    Args:
        features: [N P].
        groups: The group of each of the N examples, by any name.

    Returns:
        Between −1 and 1, over at most SILHOUETTE_AT_MOST random examples (Rousseeuw 1987); None if
        there is only one group, or no group of two.
    """
    from sklearn.metrics import silhouette_samples

    chosen = sampled(len(groups), SILHOUETTE_AT_MOST, 0)
    names = np.asarray(groups)[chosen]
    if not 2 <= len(np.unique(names)) < len(names):
        return None
    return Estimate.mean_of(torch.from_numpy(silhouette_samples(features[chosen], names)))
