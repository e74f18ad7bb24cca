"""A probe finds what is planted, nothing in noise, and never looks at what it is judged on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from isthmus.errors import IsthmusError
from isthmus.evaluation.probe import accuracy, draws, majority, probe, ruler_features, share_out
from isthmus.evaluation.usage import Estimate


def planted(classes, distance=20.0, seed=0):
    """Features around one corner a class."""
    corners = distance * np.eye(max(classes) + 1)[classes]
    return corners + np.random.default_rng(seed).normal(size=corners.shape)


def names(classes):
    return [f"class {one}" for one in classes]


FOUR = np.random.default_rng(1).permutation(np.repeat(np.arange(4), 75))
TWO = np.random.default_rng(2).permutation(np.repeat(np.arange(2), [200, 100]))


def test_planted_classes_are_found_from_one_label_each():
    for features in (planted(FOUR), csr_array(planted(FOUR).round())):
        found = probe(features, names(FOUR), sizes=(4, 7, 60), seeds=2)
        assert {size: estimate.value for size, estimate in found.items()} == {4: 1, 7: 1, 60: 1}
        assert all(estimate.count == 2 for estimate in found.values())


def test_noise_stays_at_chance():
    features = np.random.default_rng(3).normal(size=(300, 8))
    for estimate in probe(features, names(FOUR), sizes=(20, 100), seeds=5).values():
        assert abs(estimate.value - 1 / 4) <= estimate.half_width
        assert estimate.half_width < 0.09


def test_permuted_labels_stay_at_chance():
    """The same features tell everything of the true labels."""
    permuted = np.random.default_rng(4).permutation(FOUR)
    [estimate] = probe(planted(FOUR), names(permuted), sizes=(100,), seeds=5).values()
    assert abs(estimate.value - 1 / 4) <= max(estimate.half_width, 0.03)


def test_more_labels_tell_more():
    found = probe(planted(FOUR, distance=1.5), names(FOUR), sizes=(4, 20, 180), seeds=3)
    few, some, many = (estimate.value for estimate in found.values())
    assert few < some < many < 1


@pytest.mark.parametrize("size", [2, 9, 60])
def test_held_out_and_untold_labels_have_no_part(size):
    features = planted(TWO, distance=1.0)
    for draw in draws(TWO, size, 2):
        before = accuracy(features, TWO, draw)
        untold = np.setdiff1d(draw.pool, draw.labelled)
        other = TWO.copy()
        other[untold] = 1 - other[untold]
        assert accuracy(features, other, draw) == before
        other[draw.held_out] = 1 - other[draw.held_out]
        assert accuracy(features, other, draw) == pytest.approx(1 - before)


def test_held_out_features_have_no_part_in_the_scale():
    features = planted(TWO, distance=1.0)
    [draw] = draws(TWO, 40, 1)
    before = accuracy(features, TWO, draw)
    strange = features.copy()
    strange[draw.held_out[0]] = 1e9
    assert accuracy(strange, TWO, draw) == pytest.approx(before, abs=1.01 / len(draw.held_out))
    assert accuracy(1000 * features - 7, TWO, draw) == before


def test_draws_are_stratified_and_apart():
    classes = np.repeat(np.arange(3), [80, 16, 4])
    first, second = draws(classes, 20, 2)
    assert np.bincount(classes[first.held_out]).tolist() == [27, 5, 1]
    assert np.bincount(classes[first.labelled]).tolist() == [16, 3, 1]
    assert set(first.labelled) <= set(first.pool)
    assert sorted([*first.pool, *first.held_out]) == list(range(100))
    assert set(first.labelled) != set(second.labelled)
    [again, _] = draws(classes, 20, 2)
    assert np.array_equal(first.labelled, again.labelled)


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_shares_are_whole_and_fair(counts, data):
    counts = np.asarray(counts)
    total = data.draw(st.integers(len(counts), int(counts.sum())))
    shares = share_out(counts, total)
    assert shares.sum() == total
    assert (shares >= 1).all()
    assert (shares <= counts).all()
    assert (shares <= np.maximum(1, np.ceil(total * counts / counts.sum()))).all()


def test_the_majority_by_hand():
    classes = np.repeat(np.arange(3), [70, 20, 10])
    found = majority(names(classes), sizes=(10, 40), seeds=4)
    assert found[10].value == pytest.approx(23 / 33)  # of 33 held out, 70 % to the nearest whole
    assert found[40] == Estimate(found[10].value, 0.0, 4)


def test_the_interval_covers_a_known_mean_as_often_as_it_says():
    values = 3 + 2 * torch.randn(4000, 5, generator=torch.Generator().manual_seed(0))
    estimates = [Estimate.mean_of(row) for row in values]
    inside = [abs(one.value - 3) <= one.half_width for one in estimates]
    assert np.mean(inside) == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 4000) ** 0.5)
    assert Estimate(1.0, 0.5, 5).half_width == pytest.approx(0.5 * 2.776445)  # a table of t
    assert Estimate.mean_of(values[0, :1]).half_width is None


def test_the_ruler_tells_topics_and_has_rows_of_length_one():
    topics = [("sea salt wave", "ship"), ("star moon sky", "night"), ("a b c", "?")]
    texts = [f"{topics[i % 3][0]} {i % 7} {topics[i % 3][1]}" for i in range(90)]
    features = ruler_features(texts)
    lengths = np.sqrt(features.multiply(features).sum(axis=1))
    np.testing.assert_allclose(lengths, 1)
    labels = [str(i % 3) for i in range(90)]
    assert probe(features, labels, sizes=(9,), seeds=2)[9].value == 1


@pytest.mark.parametrize(
    ("classes", "sizes", "seeds", "message"),
    [
        ([0] * 9, (3,), 5, "two classes or more, got one: class 0"),
        ([0] * 9 + [1], (3,), 5, "class 1 has one example; expected at least two"),
        ([0, 1, 2] * 10, (2,), 5, "got 2, expected a number from 3.* to 20"),
        ([0, 1, 2] * 10, (9, 21), 5, "got 21, .* to 20, the examples that are not held out"),
        ([0, 1, 2] * 10, (9,), 1, "seeds: got 1, expected at least 2 for a standard error"),
    ],
)
def test_what_cannot_be_probed_is_refused(classes, sizes, seeds, message):
    for function in (lambda *rest: probe(np.zeros((len(classes), 2)), *rest), majority):
        with pytest.raises(IsthmusError, match=message):
            function(names(classes), sizes, seeds)
