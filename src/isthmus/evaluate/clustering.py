"""How well clusters agree with known classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
