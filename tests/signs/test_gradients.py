"""Oriented gradients: where strokes run which way."""

from pathlib import Path

import numpy as np
import pytest
from planted import drawn

from isthmus.signs.gradients import CELLS, DIRECTIONS, oriented_gradients
from isthmus.signs.inscriptions import read
from isthmus.signs.normalise import normalise
from isthmus.signs.scores import pair_retrieval, principal

HANDWRITING = Path(__file__).parents[3] / "shared" / "data" / "signs" / "en_hand_test.npz"


def cells(pictures):
    return oriented_gradients(pictures).reshape(len(pictures), DIRECTIONS, CELLS, CELLS)


def bar():
    """An upright stroke left of the middle."""
    picture = np.zeros((1, 64, 64), dtype=np.float32)
    picture[0, 8:56, 20:24] = 1
    return picture


def test_an_upright_stroke_changes_across_and_stands_where_it_is():
    shares = cells(bar())[0] ** 2
    assert np.isclose(shares.sum(), 1)
    assert shares[0].sum() > 0.85  # the gradient of an upright stroke points across
    assert shares[0][:, 2:5].sum() > 0.8


def test_a_quarter_turn_turns_directions_and_cells():
    found = cells(np.rot90(bar(), axes=(1, 2)).copy())[0]
    expected = np.rot90(np.roll(cells(bar())[0], DIRECTIONS // 2, axis=0), axes=(1, 2))
    assert np.allclose(found, expected, atol=0.12)  # centres of cells are whole pixels
    assert np.allclose((found**2).sum((1, 2)), (expected**2).sum((1, 2)), atol=0.02)


def test_neither_contrast_nor_the_colour_of_the_ink_counts():
    pictures = drawn([0, 1, 2])
    inside = np.pad(pictures[:, 8:56, 8:56], ((0, 0), (8, 8), (8, 8)))
    assert np.allclose(oriented_gradients(0.3 * inside), oriented_gradients(inside), atol=1e-3)
    assert np.allclose(oriented_gradients(-inside), oriented_gradients(inside), atol=1e-3)


def test_an_empty_picture_is_zero():
    assert not oriented_gradients(np.zeros((2, 64, 64))).any()


@pytest.mark.skipif(not HANDWRITING.is_file(), reason="shared data not there")
def test_strokes_know_handwriting_better_than_pixels():
    signs = read(str(HANDWRITING))
    alike = normalise(signs.pictures, deslanted=True)

    def nearest(features):
        return pair_retrieval(principal(features, 64), signs.types())["top1"].value

    assert nearest(oriented_gradients(alike)) > nearest(alike) + 0.02
