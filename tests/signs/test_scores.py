"""Scores: scikit-learn's values, the public protocol, and rows that show what chance gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.cluster import AgglomerativeClustering

from isthmus.errors import IsthmusError
from isthmus.signs.inscriptions import read
from isthmus.signs.scores import (
    agreement,
    at_types,
    jackknife,
    official,
    official_numbers,
    pair_retrieval,
    rulers,
    score_table,
)

pairs = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), min_size=1, max_size=30)


@settings(deadline=None)
@given(pairs)
def test_scores_are_those_of_scikit_learn(pairs):
    labels, clusters = map(list, zip(*pairs, strict=True))
    found = agreement(labels, clusters)
    h, c, v = metrics.homogeneity_completeness_v_measure(labels, clusters)
    assert (found["homogeneity"], found["completeness"]) == pytest.approx((h, c))
    assert found["v_measure"] == pytest.approx(v)
    rand = metrics.adjusted_rand_score(labels, clusters)
    assert found["adjusted_rand_index"] == pytest.approx(rand)
    mutual = metrics.adjusted_mutual_info_score(labels, clusters)
    assert found["adjusted_mutual_information"] == pytest.approx(mutual)
    most = [max(sum(p == (l, c) for p in pairs) for l in "abcd") for c in set(clusters)]  # noqa: E741
    assert found["purity"] == pytest.approx(sum(most) / len(pairs))
    assert found["accuracy"] <= found["purity"] + 1e-12


def test_retrieval_by_hand():
    codes = np.asarray([[0.0], [1.0], [5.0], [6.5], [20.0]])
    found = pair_retrieval(codes, ["a", "b", "a", "a", "alone"])
    # 0 is nearest to b; 5 and 6.5 to each other; b and "alone" have no partner.
    assert found["top1"].value == pytest.approx(2 / 3)
    assert found["top1"].count == 3
    assert found["top5"].value == 1
    assert found["top1"].standard_error == pytest.approx((2 / 9 / 2) ** 0.5)
    with pytest.raises(IsthmusError, match="no type has two"):
        pair_retrieval(codes, list("abcde"))


def test_the_official_numbers_of_clusters():
    assert official_numbers(45, 1000) == [30, 35, 40, 45, 50, 55, 60]
    assert official_numbers(6, 12) == [1, 6, 11]


def test_the_official_mean_is_that_over_tokens():
    generator = np.random.default_rng(0)
    codes, types = generator.normal(size=(60, 4)), [str(k % 20) for k in range(60)]
    counts = generator.integers(0, 4, 60)
    tokens = np.repeat(np.arange(60), counts)
    names = [types[token] for token in tokens]
    expected = [
        metrics.v_measure_score(names, AgglomerativeClustering(k).fit_predict(codes[tokens]))
        for k in range(len(set(names)) - 15, len(set(names)) + 16, 5)
    ]
    found = official(codes, types, counts)
    assert found["v_measure"].value == pytest.approx(np.mean(expected))
    of_tokens = official(codes[tokens], names)  # codes of tokens, which may all differ
    assert of_tokens["v_measure"].value == pytest.approx(np.mean(expected), abs=0.01)


def test_the_error_of_a_proportion():
    """Accuracy of fixed clusters is a mean over pictures: the jackknife gives its plain error."""
    generator = np.random.default_rng(0)
    names = generator.choice(["a", "b"], 1000)
    right = generator.random(1000) < 0.9
    clusters = np.where(right, names == "a", names == "b").astype(np.int64)
    found = jackknife(names, [clusters], np.ones(1000, dtype=np.int64))["accuracy"]
    assert found.value == pytest.approx(right.mean())
    # Ten groups know an error to about √(1 / 18) of itself.
    assert found.standard_error == pytest.approx((0.09 / 1000) ** 0.5, rel=0.6)


def test_noise_on_many_types_with_few_pictures(shared_data):
    """The V-measure alone would call random codes good: .794 in the reference, AMI .003."""
    signs = read(str(shared_data / "signs" / "proto_elamite.npz"))
    noise = at_types(rulers(signs.pictures)["noise"], signs.types(fold_variants=True))
    assert noise["v_measure"].value > 0.75
    assert abs(noise["adjusted_mutual_information"].value) < 0.01


def test_reference_figures_on_handwriting(shared_data):
    """Measured before this code was written, with scikit-learn's Ward on tokens."""
    signs = read(str(shared_data / "signs" / "en_hand_test.npz"))
    types = signs.types()
    table = {row.name: row for row in score_table(rulers(signs.pictures), types, signs.counts)}
    token_v = {name: row.tokens["v_measure"].value for name, row in table.items()}
    assert token_v == pytest.approx({"noise": 0.183, "PCA16": 0.618, "PCA64": 0.638}, abs=0.006)
    wanted = ("v_measure", "adjusted_rand_index", "adjusted_mutual_information", "accuracy")
    found = [table["PCA64"].pictures[metric].value for metric in wanted]
    assert found == pytest.approx([0.664, 0.316, 0.582, 0.459], abs=0.002)
    assert table["PCA64"].retrieval["top1"].value == pytest.approx(0.766, abs=0.001)
    assert table["PCA64"].retrieval["top5"].value == pytest.approx(0.929, abs=0.001)
