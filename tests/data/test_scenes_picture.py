"""Pictures of scenes show every visible factor."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data import scenes
from isthmus.errors import IsthmusError

VALUES = {f.name: tuple(f.weights) for f in scenes.WORLD.factors if f.name in scenes.VISIBLE}
SCENE = {
    "place": "mountain",
    "count": "two",
    "size": "small",
    "colour": "red",
    "animal": "cat",
    "relation": "above",
    "landmark_colour": "blue",
    "landmark": "house",
}
RED, BLUE = (214, 40, 40), (45, 100, 220)


def changed_pixels(one, other):
    """Pixels of which some channel differs by more than an eighth of the scale."""
    return int((np.abs(one.astype(int) - other).max(-1) > 32).sum())


def where(picture, colour):
    return np.nonzero((picture == colour).all(-1))


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("factor", scenes.VISIBLE)
def test_the_values_of_a_factor_differ_from_each_other(factor, size):
    for base in (SCENE, SCENE | {"relation": "right", "count": "three", "size": "large"}):
        pictures = [scenes.render(base | {factor: value}, size) for value in VALUES[factor]]
        for one, other in itertools.combinations(pictures, 2):
            assert changed_pixels(one, other) >= 16


LEAST_CHANGE = {32: 6, 64: 24}
"""Pixels that the smallest difference changes, by size of the picture: see the test after next."""


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_two_scenes_that_differ_give_different_pictures(data):
    scene = {name: data.draw(st.sampled_from(values)) for name, values in VALUES.items()}
    names = scenes.VISIBLE if scene["relation"] != "alone" else scenes.VISIBLE[:6]
    changes = {
        name: data.draw(st.sampled_from(VALUES[name]))
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1))
    }
    different = scene | changes != scene
    for size, least in LEAST_CHANGE.items():
        pictures = [scenes.render(one, size) for one in (scene, scene | changes)]
        assert (changed_pixels(*pictures) >= least) == different


@pytest.mark.parametrize("size", LEAST_CHANGE)
def test_the_smallest_difference(size):
    """One small animal alone: all pairs of animals and of colours, in every place."""
    alone = {"count": "one", "size": "small", "relation": "alone"}
    smallest = []
    for place, colour, animal in itertools.product(
        VALUES["place"], VALUES["colour"], VALUES["animal"]
    ):
        scene = SCENE | alone | {"place": place, "colour": colour, "animal": animal}
        picture = scenes.render(scene, size)
        for factor in ("colour", "animal"):
            later = VALUES[factor][VALUES[factor].index(scene[factor]) + 1 :]
            smallest += [
                changed_pixels(picture, scenes.render(scene | {factor: value}, size))
                for value in later
            ]
    assert min(smallest) >= LEAST_CHANGE[size]


def test_style_tense_and_wording_do_not_show():
    text = "a blue house is below two little red cats on the mountain"
    picture = scenes.render(text, 64)
    np.testing.assert_array_equal(picture, scenes.render(SCENE, 64))
    other = scenes.counterpart(text, style="playful", tense="future")
    np.testing.assert_array_equal(picture, scenes.render(other, 64))


@pytest.mark.parametrize(
    ("relation", "axis", "sign"),
    [("above", 0, -1), ("below", 0, 1), ("left", 1, -1), ("right", 1, 1)],
)
def test_animals_stand_where_the_relation_says(relation, axis, sign):
    for count in VALUES["count"]:
        picture = scenes.render(SCENE | {"relation": relation, "count": count}, 64)
        animals, landmark = where(picture, RED)[axis], where(picture, BLUE)[axis]
        assert len(animals) > 20
        assert len(landmark) > 20
        if sign < 0:
            assert animals.max() < landmark.min()
        else:
            assert animals.min() > landmark.max()


@pytest.mark.parametrize("relation", VALUES["relation"])
def test_there_are_as_many_animals_as_counted(relation):
    axis = 0 if relation in ("left", "right") else 1
    for number, count in enumerate(("one", "two", "three"), start=1):
        picture = scenes.render(SCENE | {"relation": relation, "count": count}, 64)
        places = np.unique(where(picture, RED)[axis])
        assert 1 + (np.diff(places) > 3).sum() == number


def test_larger_animals_cover_more():
    areas = [
        len(where(scenes.render(SCENE | {"size": size}, 64), RED)[0])
        for size in ("small", "medium", "large")
    ]
    assert areas[0] * 1.5 < areas[1]
    assert areas[1] * 1.4 < areas[2]


def test_a_picture_does_not_change_the_next():
    first = scenes.render(SCENE)
    scenes.render(SCENE | {"animal": "frog"})[:] = 0
    np.testing.assert_array_equal(scenes.render(SCENE), first)


def test_bad_requests_are_refused():
    with pytest.raises(IsthmusError, match="at least 32 pixels, got 8"):
        scenes.render(SCENE, 8)
    with pytest.raises(IsthmusError, match=r"'colour' as one of .* got 'pink'"):
        scenes.render(SCENE | {"colour": "pink"})
    with pytest.raises(IsthmusError, match=r"'landmark' as one of .* got 'none'"):
        scenes.render(SCENE | {"landmark": "none"})
    with pytest.raises(IsthmusError, match="one derivation"):
        scenes.render("a photograph")
