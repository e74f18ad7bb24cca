"""How well clusters agree with known classes, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.evaluation.probe import Features
from isthmus.evaluation.usage import Estimate
from isthmus.explore.walks import Clustering, cluster

SILHOUETTE_AT_MOST = 5000
"""Points that a silhouette is measured on: it takes the distances of all pairs."""


def clustering_metrics(labels: Sequence[str], clusters: Sequence[int]) -> dict[str, float]:
    """Accuracy under the best one-to-one matching (Hungarian), NMI, ARI, AMI and V-measure.

    Arguments:
        labels: the known class of each of N examples.
        clusters: its cluster.
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
    """What :func:`clustering_metrics` gives for the clusters of features, mean over the seeds.

    Labels have no part in the clusters; the best matching of clusters and classes is found on the
    same examples, so that accuracy is the usual one of unsupervised clustering (Li et al. 2019
    match on validation texts instead).

    Arguments:
        features: [N P]; k-means takes sparse ones too.
        labels: the known class of each of the N examples.
        clusters: how many.
        method: see :func:`isthmus.explore.walks.cluster`.
        seeds: how many starts, from 0.
        principal: cluster so many principal components; 0 for the features themselves.

    Returns:
        Metric → mean; the standard error is that over the seeds, and the count theirs.
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

    References:
        Rousseeuw (1987), Silhouettes.

    Arguments:
        features: [N P].
        groups: the group of each of the N examples, by any name.

    Returns:
        Between −1 and 1, over at most SILHOUETTE_AT_MOST random examples; none where there is one
        group only, or no group of two.
    """
    from sklearn.metrics import silhouette_samples

    chosen = np.random.default_rng(0).permutation(len(groups))[:SILHOUETTE_AT_MOST]
    names = np.asarray(groups)[chosen]
    if not 2 <= len(np.unique(names)) < len(names):
        return None
    return Estimate.mean_of(torch.from_numpy(silhouette_samples(features[chosen], names)))
