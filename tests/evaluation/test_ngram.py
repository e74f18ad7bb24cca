"""The n-gram judge: a distribution, by the formula, and no easier on nonsense than on texts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import IsthmusError
from isthmus.evaluation.ngram import NGrams

UNKNOWN = "?"


def p_next(judge: NGrams, history: list[str], symbol: str | None) -> float:
    """p of a symbol after a history, of the end for None."""
    text = " ".join([*history, symbol] if symbol else history)
    return math.exp(-judge.surprisals([text])[len(history)])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=5).map(" ".join), min_size=1, max_size=8),
    st.integers(1, 5),
    st.lists(st.sampled_from(["a", "b", UNKNOWN]), max_size=4),
)
def test_after_every_history_probabilities_sum_to_one(texts, order, history):
    judge = NGrams(texts, order=order)
    following = [*judge.symbols, UNKNOWN, None]
    assert math.isclose(sum(p_next(judge, history, one) for one in following), 1, rel_tol=1e-12)


def test_the_formula_by_hand():
    """a b / a b / a c, bigrams: the lower order counts contexts, not occurrences."""
    judge = NGrams(["a b", "a b", "a c"], order=2)
    # Bigrams: start a 3, a b 2, a c 1, b end 2, c end 1; D = n1 / (n1 + 2 n2) = 2 / (2 + 4).
    high = 2 / 6
    # Contexts of a: 1, b: 1, c: 1, end: 2; D = 3 / (3 + 2), uniform over a b c end unknown.
    low = 3 / 5
    of_b = (1 - low) / 5 + low * 4 / 5 / 5
    assert math.isclose(p_next(judge, ["a"], "b"), (2 - high) / 3 + high * 2 / 3 * of_b)
    unknown = low * 4 / 5 / 5
    assert math.isclose(p_next(judge, ["a"], UNKNOWN), high * 2 / 3 * unknown)
    assert math.isclose(p_next(judge, [UNKNOWN], "b"), of_b)


def test_nats_are_sums_of_surprisals_and_order_matters():
    judge = NGrams(["the food was good", "the staff was nice", "good food"] * 3)
    texts = ["the food was nice", "", "nice was food the"]
    nats = judge.nats(texts)
    parts = np.split(judge.surprisals(texts), np.cumsum(judge.counts(texts))[:-1])
    np.testing.assert_allclose(nats, [part.sum() for part in parts])
    assert nats[0] < nats[2]


def test_characters():
    judge = NGrams(["AGGA", "AGGT", "TGGA"], words=False)
    assert judge.order > 3
    [likely, unlikely] = judge.nats(["AGGA", "GGAT"])
    assert likely < unlikely
    assert judge.counts(["AG GA"]).tolist() == [6]


def test_without_texts_there_is_nothing_to_count():
    with pytest.raises(IsthmusError, match="got no texts"):
        NGrams([])
