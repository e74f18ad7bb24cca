"""Normalising: what must not change a sign, and what must be undone."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from isthmus.signs.normalise import (
    crop,
    deslant,
    ink_is_one,
    normalise,
    rescale,
    slant,
)

levels = st.sampled_from([0.0, 0.1, 0.3, 0.8, 1.0]).map(np.float32)
pictures = arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=levels)


def bar(lean, width=3, size=64):
    """A bar of height 40 whose rows move by ``lean`` columns each."""
    picture = np.zeros((size, size), dtype=np.float32)
    for row in range(12, 52):
        left = round(size / 2 + lean * (row - size / 2)) - width // 2
        picture[row, left : left + width] = 1
    return picture


@settings(deadline=None)
@given(pictures)
def test_cropping_again_changes_nothing(picture):
    once = crop(picture)
    assert np.array_equal(crop(once), once)
    if (picture > 0.2).any():  # every side of the box has ink
        assert all((side > 0.2).any() for side in (once[0], once[-1], once[:, 0], once[:, -1]))
        assert (once > 0.2).sum() == (picture > 0.2).sum()


@settings(deadline=None)
@given(pictures, st.integers(0, 6), st.integers(0, 6))
def test_place_does_not_matter_after_cropping(picture, down, right):
    def placed(top, left):
        canvas = np.zeros((15, 15), dtype=np.float32)
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return rescale(crop(canvas))

    if (picture > 0.2).any():
        assert np.array_equal(placed(down, right), placed(0, 0))
        assert placed(0, 0).shape == (64, 64)


@settings(deadline=None)
@given(arrays(np.float32, (6, 6), elements=levels))
@example(np.ones((6, 6), np.float32))  # more ink than ground
def test_the_negative_of_a_sign_is_the_sign(inside):
    picture = np.pad(inside, 1)
    assert np.array_equal(ink_is_one(picture), picture)
    assert ink_is_one(1 - picture) == pytest.approx(picture, abs=1e-7)
    assert np.array_equal(ink_is_one(ink_is_one(picture)), ink_is_one(picture))


@pytest.mark.parametrize("lean", [-0.6, -0.25, 0.25, 0.6])
def test_a_sheared_bar_is_straightened(lean):
    assert slant(bar(lean)) == pytest.approx(lean, abs=0.02)
    straight = deslant(bar(lean))
    assert abs(slant(straight)) < 0.02
    # As narrow as the bar that never leaned, but for the blur of half a pixel on either side.
    assert crop(straight).shape[1] <= 3 + 2
    assert straight.sum() == pytest.approx(bar(lean).sum(), rel=1e-3)


def test_no_ink_is_lost_at_the_edges():
    picture = np.zeros((64, 64), dtype=np.float32)
    for row in range(64):
        left = round(0.4 * row)
        picture[row, left : left + 39] = 1
    assert picture[0, 0] == picture[63, 63] == 1
    corners = picture.copy()
    corners[:3, 61:] = corners[61:, :3] = 1
    assert slant(corners) > 0.3
    assert deslant(corners).sum() == pytest.approx(corners.sum(), rel=1e-3)
    straight = deslant(picture)
    assert straight.sum() == pytest.approx(picture.sum(), rel=1e-3)
    assert crop(straight).shape[1] <= 39 + 2


def test_upright_signs_and_diagonal_strokes_stay():
    assert np.array_equal(deslant(bar(0)), bar(0))
    steep = np.eye(64, dtype=np.float32)[:, ::-1] + np.eye(64, k=30, dtype=np.float32)
    wide = np.repeat(np.eye(20, dtype=np.float32), 3, axis=1)  # leans 3 columns a row
    assert np.array_equal(deslant(wide), wide)
    assert np.isfinite(deslant(steep)).all()


def test_rescaling_keeps_proportions():
    wide = np.ones((10, 40), dtype=np.float32)
    found = rescale(wide, margin=2)
    assert found.shape == (64, 64)
    assert crop(found).shape == (15, 60)
    assert found.sum() == pytest.approx(15 * 60)


def test_place_size_and_polarity_are_gone_after_normalising():
    sign = np.kron(np.asarray([[1, 0, 1], [1, 1, 1], [0, 1, 0]]), np.ones((5, 5)))
    here, there = np.zeros((2, 64, 64), dtype=np.float32)
    here[3:18, 5:20] = sign
    there[20:50, 30:60] = np.kron(sign, np.ones((2, 2)))
    one, two, negative = normalise(np.stack([here, there, 1 - here]))
    assert np.abs(one - two).mean() < 0.03
    assert negative == pytest.approx(one, abs=1e-6)
