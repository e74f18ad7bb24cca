"""How well codes of signs agree with known types, always compared with noise and raw pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError
from isthmus.evaluation.clustering import clustering_metrics
from isthmus.evaluation.usage import Estimate
from isthmus.signs.clusters import Labels, WardTree, squared_distances
from isthmus.signs.normalise import Picture

OFFSETS = range(-15, 16, 5)
"""Numbers of clusters of the official protocol, relative to the number of types."""
GROUPS = 10
"""Groups of pictures for the jackknife."""
NOISE_SIZE = 16


def agreement(labels: Sequence[str], clusters: Sequence[int]) -> dict[str, float]:
    """Homogeneity, completeness, V-measure, ARI, AMI, accuracy (Hungarian), purity.

    Purity is the share of the most frequent type of each cluster. It is 1 if every picture is a
    cluster, and the V-measure is then near 1 too; AMI and ARI are 0 by chance.

    Args:
        labels: The known type of each of N pictures or tokens.
        clusters: Its cluster.
    """
    from sklearn.metrics import homogeneity_completeness_v_measure
    from sklearn.metrics.cluster import contingency_matrix

    homogeneity, completeness, _ = homogeneity_completeness_v_measure(labels, clusters)
    found = clustering_metrics(labels, clusters)
    del found["normalized_mutual_information"]  # the V-measure by another name
    purity = contingency_matrix(labels, clusters).max(0).sum() / len(labels)
    return {
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
        **found,
        "purity": float(purity),
    }


def pair_retrieval(codes: NDArray[Any], labels: Sequence[str]) -> dict[str, Estimate]:
    """How often a picture's nearest neighbour, or one of its five nearest, is of the same type.

    Over pictures that share their type; standard errors are those of a proportion.

    Args:
        codes: [M P].
        labels: Type of each picture, [M].

    Raises:
        IsthmusError: No type has two pictures.
    """
    import torch

    types, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)[1:]
    paired = counts[types] > 1
    if not paired.any():
        raise IsthmusError("pair retrieval: no type has two pictures; try --fold-variants")
    distance = squared_distances(codes, codes)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, : min(5, len(codes) - 1)]
    right = torch.from_numpy((types[nearest] == types[:, None])[paired])
    return {
        "top1": Estimate.mean_of(right[:, 0].double()),
        "top5": Estimate.mean_of(right.any(1).double()),
    }


def official_numbers(types: int, points: int) -> list[int]:
    """Numbers of clusters over which the official V-measure is a mean."""
    return [types + more for more in OFFSETS if 1 <= types + more <= points]


def official(
    codes: NDArray[Any], labels: Sequence[str], counts: NDArray[Any] | None = None
) -> dict[str, Estimate]:
    """Metrics of the public scorer of Born et al. 2023: Ward on token codes, mean over seven k.

    k = number of types + {−15, −10, …, 15}. The public scorer wraps its batches round before the
    last sequence, so that it scores the last 50 of 3,000 tokens with codes of the first; here
    every token has its own code.

    Args:
        codes: Codes of pictures, shared by all tokens of a picture, [M P]; or of tokens, [N P].
        labels: The type of each.
        counts: Tokens of each picture, [M]; absent for codes of tokens.

    Returns:
        The means of :func:`agreement`, with errors by the :func:`jackknife`.
    """
    weights = np.ones(len(codes), dtype=np.int64) if counts is None else counts
    there = np.flatnonzero(weights)
    weights, names = weights[there], np.asarray(labels)[there]
    tree = WardTree.of(codes[there], weights)
    cuts = [tree.cut(k) for k in official_numbers(len(np.unique(names)), len(there))]
    return jackknife(names, cuts, weights)


def at_types(codes: NDArray[Any], labels: Sequence[str]) -> dict[str, Estimate]:
    """Metrics of Ward's clusters of pictures [M P], one cluster per type."""
    clusters = WardTree.of(codes).cut(len(set(labels)))
    return jackknife(np.asarray(labels), [clusters], np.ones(len(codes), dtype=np.int64))


def jackknife(
    names: NDArray[Any], cuts: Sequence[Labels], counts: NDArray[Any]
) -> dict[str, Estimate]:
    """Means over clusterings of :func:`agreement`; errors from leaving out groups of pictures.

    The error is √((G − 1)/G Σ (θ₋g − mean)²) over G random groups (Efron and Tibshirani 1993).
    The clusters stay fixed: the error leaves out how other pictures would change them.

    Args:
        names: Types, [M].
        cuts: Clusterings, each [M].
        counts: How often each picture counts, [M].
    """

    def means(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        tokens = np.repeat(rows, counts[rows])
        each = [agreement(names[tokens].tolist(), cut[tokens].tolist()) for cut in cuts]
        table = np.asarray([list(one.values()) for one in each], dtype=np.float64)
        return np.asarray(table.mean(0))

    everything = np.arange(len(names))
    keys = agreement(["x"], [0])
    whole = means(everything)
    groups = min(GROUPS, len(names))
    group = np.random.default_rng(0).permutation(len(names)) % groups
    if groups < 3:
        return {
            key: Estimate(float(v), None, len(names)) for key, v in zip(keys, whole, strict=True)
        }
    without = np.stack([means(everything[group != g]) for g in range(groups)])
    errors = np.sqrt((groups - 1) * without.var(0))
    each = zip(keys, whole, errors, strict=True)
    return {key: Estimate(float(v), float(error), len(names)) for key, v, error in each}


@final
@dataclass(frozen=True)
class Row:
    """A row of the table of scores: one kind of codes."""

    name: str
    pictures: dict[str, Estimate]
    """One cluster per type, each picture counted once."""
    tokens: dict[str, Estimate]
    """The official protocol."""
    retrieval: dict[str, Estimate]
    """Nearest pictures."""


def rulers(pictures: Picture, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Baselines for pictures [M 64 64]: noise, and principal components of the pixels."""
    noise = np.random.default_rng(seed).standard_normal((len(pictures), NOISE_SIZE))
    return {"noise": noise, **{f"PCA{size}": principal(pictures, size) for size in (16, 64)}}


def principal(features: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Principal components [M P] of pictures or other features [M …]; at most M.

    Raises:
        IsthmusError: There is only one picture.
    """
    from sklearn.decomposition import PCA

    if len(features) < 2:
        raise IsthmusError(f"signs: got {len(features)} picture, expected at least two")
    pixels = features.reshape(len(features), -1).astype(np.float64)
    return np.asarray(PCA(min(size, *pixels.shape), random_state=0).fit_transform(pixels))


def score_table(
    codes: Mapping[str, NDArray[Any]],
    labels: Sequence[str],
    counts: NDArray[Any],
    progress: Callable[[int], None] = lambda done: None,
) -> list[Row]:
    """Scores of several codes of the same pictures.

    Args:
        codes: Name → [M P], including :func:`rulers`.
        labels: Known types, some with two pictures, [M].
        counts: Tokens of each picture, [M].
        progress: Called with 1 after each row.
    """
    rows = []
    for name, points in codes.items():
        tokens = official(points, labels, counts)
        rows.append(Row(name, at_types(points, labels), tokens, pair_retrieval(points, labels)))
        progress(1)
    return rows
