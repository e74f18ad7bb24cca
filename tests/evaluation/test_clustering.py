"""Agreement of clusters and classes: a table counted by hand, and what must not matter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from isthmus.errors import IsthmusError
from isthmus.evaluation.clustering import cluster_scores, clustering_metrics, silhouette
from isthmus.evaluation.usage import Estimate

LABELS = ["x", "x", "x", "y", "y", "z"]
CLUSTERS = [0, 0, 1, 1, 1, 1]
pairs = st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 3)), min_size=1, max_size=30)


def test_values_by_hand():
    metrics = clustering_metrics(LABELS, CLUSTERS)
    assert metrics["accuracy"] == pytest.approx(4 / 6)  # 0 ↔ x (2), 1 ↔ y (2), z is left over
    # Pairs: 7 together in clusters, 4 in classes, 2 in both, of 15.
    assert metrics["adjusted_rand_index"] == pytest.approx((2 - 28 / 15) / (5.5 - 28 / 15))

    def entropy(*counts):
        return -sum(n / 6 * math.log(n / 6) for n in counts)

    information = entropy(3, 2, 1) + entropy(2, 4) - entropy(2, 1, 2, 1)
    expected = information / ((entropy(3, 2, 1) + entropy(2, 4)) / 2)
    assert metrics["normalized_mutual_information"] == pytest.approx(expected)
    assert metrics["v_measure"] == pytest.approx(expected)  # the same by another road
    assert metrics["adjusted_mutual_information"] < expected


def test_accuracy_matches_one_to_one():
    """A majority vote would say 1: every cluster is pure."""
    assert clustering_metrics(["x"] * 4, [0, 1, 2, 3])["accuracy"] == 1 / 4
    # The greedy choice, 0 ↔ x, would leave one: 3 + 0 < 2 + 2.
    labels = ["x"] * 3 + ["y"] * 2 + ["x"] * 2
    assert clustering_metrics(labels, [0, 0, 0, 0, 0, 1, 1])["accuracy"] == pytest.approx(4 / 7)


@settings(deadline=None)
@given(pairs, st.permutations(range(4)))
def test_names_of_clusters_and_classes_do_not_matter(pairs, names):
    labels, clusters = map(list, zip(*pairs, strict=True))
    one = clustering_metrics(labels, clusters)
    renamed = clustering_metrics(
        [{"x": "c", "y": "a", "z": "b"}[label] for label in labels], [names[c] for c in clusters]
    )
    assert renamed == pytest.approx(one, abs=1e-9)
    assert 1 / len(labels) <= one["accuracy"] <= 1


@settings(deadline=None)
@given(pairs)
def test_classes_found_exactly_are_perfect(pairs):
    labels = [label for label, _ in pairs]
    metrics = clustering_metrics(labels, ["zyx".index(label) for label in labels])
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))


KINDS = np.repeat(np.arange(3), 40)


def blobs(distance, size=3):
    generator = np.random.default_rng(0)
    return distance * np.eye(size)[KINDS] + generator.normal(size=(len(KINDS), size))


@pytest.mark.parametrize("method", ["kmeans", "gmm", "gmm-full", "ward"])
def test_a_planted_mixture_is_found_from_every_start(method):
    scores = cluster_scores(blobs(30), [f"kind {kind}" for kind in KINDS], 3, method, seeds=3)
    for estimate in scores.values():
        assert (estimate.value, estimate.standard_error) == (pytest.approx(1), pytest.approx(0))
        assert estimate.count == 3


def test_sparse_features_give_the_same_k_means():
    points = blobs(3).round()
    dense, sparse = (cluster_scores(x, KINDS, 3, seeds=2) for x in (points, csr_array(points)))
    assert sparse == dense
    assert dense["accuracy"].value < 1


def test_scores_are_means_over_the_starts():
    points = np.random.default_rng(1).normal(size=(60, 2))
    labels = [str(number % 4) for number in range(60)]
    scores = cluster_scores(points, labels, 4, "gmm", seeds=4)
    alone = [cluster_scores(points, labels, 4, "gmm", seeds=count) for count in (1, 2, 3)]
    sums = [one["accuracy"].value * (count + 1) for count, one in enumerate(alone)]
    parts = [sums[0], *np.diff([*sums, 4 * scores["accuracy"].value])]
    assert scores["accuracy"].standard_error == pytest.approx(np.std(parts, ddof=1) / 2)
    assert scores["accuracy"].standard_error > 0, "all starts agree: the test shows nothing"


def test_labels_have_no_part_in_the_clusters():
    points, other = blobs(2), np.random.default_rng(2).permutation(KINDS)
    renamed = [{0: "b", 1: "c", 2: "a"}[kind] for kind in KINDS]
    scores = cluster_scores(points, KINDS, 3, seeds=2)
    for name, estimate in cluster_scores(points, renamed, 3, seeds=2).items():
        assert estimate.value == pytest.approx(scores[name].value)
    chance = cluster_scores(points, other, 3, seeds=2)
    assert chance["adjusted_rand_index"].value == pytest.approx(0, abs=0.03)
    assert chance["adjusted_mutual_information"].value == pytest.approx(0, abs=0.03)


def test_full_covariances_see_long_clusters_that_lie_side_by_side():
    generator = np.random.default_rng(3)
    kinds = np.repeat([0, 1], 150)
    along, across = generator.normal(size=(2, 300)) * [[3.0], [0.3]]
    turned = np.stack([along + across, along - across + 3 * kinds], axis=1)
    found = {
        method: cluster_scores(turned, kinds, 2, method, seeds=2)["accuracy"].value
        for method in ("gmm-full", "gmm", "kmeans")
    }
    assert found["gmm-full"] > 0.99
    assert max(found["gmm"], found["kmeans"]) < 0.7


def test_principal_components_leave_out_what_varies_little():
    """Sixty faint dimensions more make full covariances of 40 points impossible to estimate."""
    faint = 0.5 * np.random.default_rng(4).normal(size=(120, 60))
    wide = np.concatenate([blobs(8), faint], axis=1)
    some = cluster_scores(wide, KINDS, 3, "gmm-full", seeds=2, principal=2)
    same = cluster_scores(wide, KINDS, 3, "kmeans", seeds=2, principal=63)
    assert some["accuracy"].value == 1
    assert same == cluster_scores(wide, KINDS, 3, "kmeans", seeds=2)  # a rotation is no change
    with pytest.raises(IsthmusError, match=r"principal must lie between 0 and 63 .* got 64"):
        cluster_scores(wide, KINDS, 3, principal=64)


def test_silhouette_by_hand():
    points = np.asarray([[0.0], [1.0], [10.0], [12.0]])
    own, other = [1, 1, 2, 2], [11, 10, 9.5, 11.5]
    values = [1 - a / b for a, b in zip(own, other, strict=True)]
    found = silhouette(points, ["x", "x", "y", "y"])
    assert found == Estimate(
        pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1) / 2), 4
    )
    assert silhouette(points, [7, 7, 3, 3]) == found
    assert silhouette(points, [0, 0, 0, 0]) is None
    assert silhouette(points, [0, 1, 2, 3]) is None
