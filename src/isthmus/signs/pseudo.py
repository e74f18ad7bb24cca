"""Labels that training makes itself, and the loss that pulls codes to them or pushes them away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.signs.merging import read_codes
from isthmus.signs.reading import means
from isthmus.signs.settings import PseudoKind


@final
@dataclass(frozen=True)
class PseudoLabels:
    """R clusterings of M pictures into K clusters."""

    centroids: Tensor
    """[R K P]."""
    targets: Tensor
    """[R M K] p(cluster | picture)."""
    features: Tensor
    """[R K F] profiles of the states; F = 0 for clusters of k-means."""


def cluster_labels(
    codes: NDArray[Any], counts: NDArray[np.int64], clusters: int, trials: int, seed: int
) -> PseudoLabels:
    """K-means of pictures weighted by their tokens, once per trial.

    Born et al. (2023): 100 clusters, three trials (their public training code).
    """
    found = [means(codes, counts, clusters, seed + trial) for trial in range(trials)]
    targets = [np.eye(len(centroids))[labels] for centroids, labels in found]
    centroids = _tensor([centroids for centroids, _ in found])
    return PseudoLabels(centroids, _tensor(targets), centroids[..., :0].clone())


def reading_labels(
    codes: NDArray[Any],
    counts: NDArray[np.int64],
    order: Sequence[NDArray[np.int64]],
    states: int,
    seed: int,
) -> PseudoLabels:
    """States of a reading, which uses the order as well as the looks."""
    found = read_codes(codes, counts, order, states, seed)
    arrays = found.centroids(codes, counts), found.states, found.profiles()
    return PseudoLabels(*(_tensor([array]) for array in arrays))


def state_chances(codes: NDArray[Any], labels: PseudoLabels) -> NDArray[np.float64]:
    """p(state | code), [M K], as in the loss of a reading."""
    distance = torch.cdist(torch.from_numpy(codes), labels.centroids[0].double())
    return (-0.5 * distance.square()).softmax(-1).numpy()


def _tensor(arrays: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float32))


def pseudo_label_loss(
    z: Tensor, pictures: Tensor, labels: PseudoLabels, kind: PseudoKind
) -> Tensor:
    """Σ over clusterings of the cross-entropy of each token's cluster, [C] nats.

    p(cluster | z) ∝ exp of a score, with d = ‖z − centroid‖. published: +d, so a cluster is more
    probable the further its centroid is, and codes are pushed *away* from their own. corrected:
    −d. reading: −d²/2, which is exact for normal clusters of variance 1.

    Args:
        z: [C P].
        pictures: [C] picture of each token.
        labels: Of the pictures.
        kind: Of the score.
    """
    distance = torch.cdist(z.expand(len(labels.centroids), -1, -1), labels.centroids)
    if kind == "reading":
        scores = -0.5 * distance.square()
    else:
        scores = distance if kind == "published" else -distance
    return -(labels.targets[:, pictures] * scores.log_softmax(-1)).sum((0, 2))
