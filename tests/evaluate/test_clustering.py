"""Agreement of clusters and classes: a table counted by hand, and what must not matter."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.evaluate.clustering import clustering_metrics

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
