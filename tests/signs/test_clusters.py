"""Clusters: Ward's tree of weighted points is scikit-learn's of their copies."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from isthmus.errors import IsthmusError
from isthmus.signs.clusters import WardTree, assign, confidence, most_central
from isthmus.signs.number import number_of_signs


def blobs(groups, each, size=6, spread=0.05, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(groups, size))
    truth = np.repeat(np.arange(groups), each)
    return centres[truth] + generator.normal(0, spread, (len(truth), size)), truth


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 25), st.integers(1, 5), st.data())
def test_a_weight_equals_copies(seed, count, largest, data):
    generator = np.random.default_rng(seed)
    codes = generator.normal(size=(count, 3))
    weights = generator.integers(1, largest + 1, count)
    clusters = data.draw(st.integers(1, count))
    rows = np.repeat(np.arange(count), weights)
    expected = AgglomerativeClustering(clusters).fit_predict(codes[rows]) if len(rows) > 1 else [0]
    found = WardTree.of(codes, weights).cut(clusters)
    assert len(np.unique(found)) == clusters
    assert adjusted_rand_score(expected, found[rows]) == 1


def test_the_prepared_tokens_have_the_clusters_of_scikit_learn(shared_data):
    from isthmus.signs.inscriptions import read
    from isthmus.signs.scores import principal

    signs = read(str(shared_data / "signs" / "en_hand_test.npz"))
    codes = principal(signs.pictures, 16)
    tree = WardTree.of(codes, signs.counts)
    for clusters in (30, 45, 60):
        expected = AgglomerativeClustering(clusters).fit_predict(codes[signs.tokens])
        assert adjusted_rand_score(expected, tree.cut(clusters)[signs.tokens]) == 1


@pytest.mark.parametrize(
    ("method", "per_token"),
    [*((m, per) for m in ("kmeans", "gmm", "ward") for per in (False, True)), ("hdbscan", False)],
)
def test_every_method_finds_groups_that_lie_apart(method, per_token):
    codes, truth = blobs(5, 8)
    weights = np.random.default_rng(0).integers(0, 4, len(codes)) if per_token else None
    found = assign(codes, 5, method, weights=weights)
    assert adjusted_rand_score(truth, found) > (0.9 if method == "hdbscan" else 0.999)


def test_tokens_pull_clusters():
    """Two clusters of four points on a line: a heavy pair is parted, the light ones joined."""
    codes = np.asarray([[0.0], [1.0], [2.1], [3.2]])
    assert assign(codes, 2, "ward").tolist() == [0, 0, 1, 1]
    heavy = assign(codes, 2, "ward", weights=np.asarray([100, 100, 1, 1]))
    assert heavy[0] != heavy[1] == heavy[2] == heavy[3]


def test_density_knows_no_copies():
    with pytest.raises(IsthmusError, match="leave out --by-token"):
        assign(np.zeros((3, 2)), 1, "hdbscan", weights=np.ones(3, dtype=np.int64))


def test_too_many_clusters():
    with pytest.raises(IsthmusError, match="from 1 to 3"):
        assign(np.zeros((3, 2)), 4)


def test_confidence_by_hand():
    reference = np.asarray([0, 0, 0, 1, 1])
    same = np.asarray([4, 4, 4, 2, 2])
    moved = np.asarray([0, 0, 1, 1, 1])
    # {0, 1} of {0, 1, 2}; {2} of {0, …, 4}; {3, 4} of {2, 3, 4}
    jaccard = np.asarray([2 / 3, 2 / 3, 1 / 5, 2 / 3, 2 / 3])
    assert confidence(reference, [same]) == pytest.approx(np.ones(5))
    assert confidence(reference, [same, moved]) == pytest.approx((1 + jaccard) / 2)
    assert np.isnan(confidence(reference, [])).all()


def test_confidence_equals_the_sets_of_partners():
    generator = np.random.default_rng(3)
    reference, *others = generator.integers(0, 6, (4, 50))

    def sets(labels):
        return [set(np.flatnonzero(labels == own).tolist()) for own in labels]

    one = sets(reference)
    expected = [
        np.mean([len(one[i] & sets(o)[i]) / len(one[i] | sets(o)[i]) for o in others])
        for i in range(50)
    ]
    assert confidence(reference, others) == pytest.approx(expected)


def test_the_most_central_clustering_is_no_outlier():
    truth = blobs(5, 8)[1]
    near = truth.copy()
    near[0] = 1
    outlier = np.random.default_rng(0).permutation(truth)
    assert most_central([outlier, truth, near]) in (1, 2)


@pytest.mark.parametrize("groups", [6, 15])
def test_the_interval_covers_the_planted_number(groups):
    codes, _ = blobs(groups, 12, size=8, spread=0.15)
    found = number_of_signs(codes, seeds=3)
    assert found.low <= groups <= found.high
    assert found.low > 1
    assert found.high < len(codes) / 4
    [bic] = [each for each in found.evidence if each.criterion == "BIC"]
    assert bic.decides
    assert bic.low <= groups <= bic.high


def test_bic_and_gap_of_one_group_and_of_two_that_lie_apart():
    generator = np.random.default_rng(1)
    codes = generator.normal(size=(30, 3))
    codes[:10] += 50
    found = number_of_signs(codes, lowest=1, highest=2, seeds=2)
    values = {each.criterion: each.values for each in found.evidence}
    for groups, bic in zip(([30], [10, 20]), values["BIC"], strict=True):
        parts = np.split(codes, np.cumsum(groups)[:-1])
        centred = np.concatenate([part - part.mean(0) for part in parts])
        variance = (centred**2).sum() / (3 * (30 - len(groups)))
        likelihood = norm(0, variance**0.5).logpdf(centred).sum()
        likelihood += sum(size * math.log(size / 30) for size in groups)
        assert bic == pytest.approx(-2 * likelihood + 4 * len(groups) * math.log(30))
    assert values["gap"][1] > values["gap"][0] + 1


def test_without_groups_the_gap_finds_one_and_nothing_repeats():
    noise = np.random.default_rng(0).uniform(size=(150, 8))
    found = number_of_signs(noise, lowest=1, seeds=4)
    gap = next(each for each in found.evidence if each.criterion == "gap")
    assert not gap.decides
    assert gap.low == 1
    assert "does not decide" in "\n".join(found.report())


def test_too_few_to_ask():
    with pytest.raises(IsthmusError, match="half of the different codes"):
        number_of_signs(np.zeros((40, 2)))
