"""Corruption: rates, what is never touched, and purity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.denoise import Denoising, delete, replace
from isthmus.errors import IsthmusError
from isthmus.latent.noise import CORRUPTION, generators


def generator(index=0, seed=0, epoch=0):
    return next(generators(seed, epoch, [index], CORRUPTION))


@given(st.lists(st.integers(5, 99), max_size=30), st.floats(0, 0.999), st.integers(0, 2**31))
def test_deletion_keeps_an_ordered_part_with_at_least_one_token(ids, rate, index):
    ids = np.array(ids, dtype=np.int32)
    left = delete(ids, rate, generator(index)).tolist()
    rest = iter(ids.tolist())
    assert all(token in rest for token in left)  # a subsequence: `in` consumes the iterator
    assert bool(left) == bool(len(ids))


@given(st.lists(st.integers(5, 99), max_size=30), st.floats(0, 1), st.integers(0, 2**31))
def test_replacement_changes_tokens_to_one_id_only(ids, rate, index):
    ids = np.array(ids, dtype=np.int32)
    before = ids.copy()
    new = replace(ids, rate, 4, generator(index))
    assert new.dtype == ids.dtype
    assert set(new[new != ids]) <= {4}
    np.testing.assert_array_equal(ids, before)


def test_rates_are_met():
    ids = np.arange(5, 40_005, dtype=np.int32)
    tolerance = 4 * (0.3 * 0.7 / len(ids)) ** 0.5
    assert len(delete(ids, 0.3, generator())) / len(ids) == pytest.approx(0.7, abs=tolerance)
    assert (replace(ids, 0.3, 4, generator()) == 4).mean() == pytest.approx(0.3, abs=tolerance)
    assert (replace(ids, 1.0, 4, generator()) == 4).all()
    assert len(delete(ids, 0.0, generator())) == len(ids)


def test_the_token_that_stays_is_not_always_the_same():
    ids = np.array([5, 6, 7], dtype=np.int32)
    kept = {tuple(delete(ids, 0.999, generator(index))) for index in range(100)}
    assert {(5,), (6,), (7,)} <= kept


def test_corruption_differs_between_examples_epochs_and_seeds():
    ids = np.full(200, 5, dtype=np.int32)
    draws = [generator(), generator(index=1), generator(epoch=1), generator(seed=1)]
    patterns = {tuple(replace(ids, 0.5, 4, next_draw)) for next_draw in draws}
    assert len(patterns) == 4
    first, again = replace(ids, 0.5, 4, generator(3)), replace(ids, 0.5, 4, generator(3))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", ["deletion", "masking", "word_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_outside_0_to_1_are_refused(name, rate):
    with pytest.raises(IsthmusError, match=f"{name} must lie between 0 and 1"):
        Denoising(**{name: rate})


def test_nothing_to_read_is_refused():
    with pytest.raises(IsthmusError, match="deletion must be below 1"):
        Denoising(deletion=1.0)
    assert Denoising(masking=1.0, word_dropout=1.0).deletion == 0
