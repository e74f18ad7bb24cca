"""Candidates on planted scripts, contexts counted by hand."""

import numpy as np
import pytest
from planted import muddled, script

from isthmus.signs.candidates import (
    Contexts,
    Merge,
    merge_agreement,
    merge_candidates,
    split_candidates,
    working_names,
)
from isthmus.signs.clusters import assign
from isthmus.signs.scores import principal


@pytest.fixture(scope="module")
def found():
    signs = muddled()
    codes = principal(signs.pictures, 10)
    clusters = assign(codes, 6)
    names = working_names(signs)
    return signs, merge_candidates(names, clusters, codes), split_candidates(names, clusters)


def test_two_names_of_one_shape_are_found(found):
    signs, merges, _ = found
    [only] = merges
    assert {signs.names[picture] for picture in only.pictures} == {"one", "two"}


def test_the_pictures_of_a_merge_are_the_nearest(found):
    signs, [merge], _ = found
    codes = principal(signs.pictures, 10)
    one, two = ([k for k, n in enumerate(signs.names) if n == name] for name in ("one", "two"))
    nearest = min(np.linalg.norm(codes[i] - codes[j]) for i in one for j in two)
    assert merge.distance == pytest.approx(nearest)
    assert np.linalg.norm(np.subtract(*codes[list(merge.pictures)])) == pytest.approx(nearest)


def test_one_name_of_two_shapes_is_found(found):
    _, _, splits = found
    [only] = splits
    assert only.name == "split"
    assert sorted(only.parts.values()) == [list(range(6, 12)), list(range(12, 18))]


def test_three_names_of_one_shape_are_a_triplet():
    codes = np.asarray([[0.0], [1.0], [3.0], [50.0]])
    merges = merge_candidates(["a", "b", "c", "d"], np.asarray([0, 0, 0, 1]), codes)
    assert [(merge.pictures, merge.distance) for merge in merges] == [
        ((0, 1), 1.0),
        ((1, 2), 2.0),
        ((0, 1, 2), 3.0),
        ((0, 2), 3.0),
    ]


def test_folded_variants_are_one_name():
    signs = script(["M1-A", "M1-B", None], [0, 0, 1])
    assert working_names(signs) == ["M1-A", "M1-B", "drawing002"]
    names = working_names(signs, fold_variants=True)
    assert names == ["M1", "M1", "drawing002"]
    assert merge_candidates(names, np.asarray([0, 0, 1]), np.zeros((3, 2))) == []


def test_contexts_do_not_cross_sequences():
    contexts = Contexts([np.asarray([1, 2, 1, 2]), np.asarray([3, 2]), np.asarray([4])])
    assert contexts.left(2) == [(1, 2), (3, 1)]
    assert contexts.right(2) == [(1, 1)]
    assert contexts.left(4) == contexts.right(4) == contexts.left(3) == []


def test_agreement_is_the_share_of_clusterings_that_keep_a_candidate_together():
    pair, triple = Merge((0, 2), 0, 1.0), Merge((0, 1, 3), 0, 1.0)
    clusterings = [
        np.array(labels) for labels in ([0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 2, 1], [5, 5, 1, 5])
    ]
    assert merge_agreement([pair, triple], clusterings).tolist() == [2 / 4, 2 / 4]
    alone = merge_agreement([pair, triple], clusterings[2:])
    assert alone.tolist() == [0, 1 / 2]
    assert merge_agreement([], clusterings).tolist() == []
