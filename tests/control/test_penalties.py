"""Penalties, temperature and cuts: goldens, invariances, transformers' own processors."""

import itertools
import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from isthmus.control import sampling
from isthmus.control.sampling import (
    Penalty,
    ban,
    drawn,
    keep_nucleus,
    keep_top_k,
    penalise,
    seen,
    shaped,
    temper,
)
from isthmus.errors import IsthmusError

SCORES = torch.tensor([[2.0, -1.0, 0.5, -3.0, 0.0]])
SEEN = torch.tensor([[True, True, False, False, True]])
MODES = ("paper", "transformers", "additive")
ROWS = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12).map(
    lambda row: torch.tensor([row])
)


def kept(logits):
    return logits.isfinite().sum(-1).tolist()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("paper", [2 / 1.2, -1 / 1.2, 0.5, -3.0, 0.0]),
        ("transformers", [2 / 1.2, -1.2, 0.5, -3.0, 0.0]),
        ("additive", [2 - math.log(1.2), -1 - math.log(1.2), 0.5, -3.0, -math.log(1.2)]),
    ],
)
def test_each_mode(mode, expected):
    found = penalise(SCORES, SEEN, Penalty(1.2, mode))
    torch.testing.assert_close(found, torch.tensor([expected]))
    assert torch.equal(found[~SEEN], SCORES[~SEEN])
    assert penalise(SCORES, SEEN, Penalty(1.0, mode)) is SCORES


def test_the_paper_makes_a_seen_token_more_probable():
    """Token 1, of a negative logit: .035 becomes .052, and .036 in transformers' way."""
    assert SCORES.softmax(-1)[0, 1].item() == pytest.approx(0.035, abs=5e-4)
    for mode, expected in (("paper", 0.052), ("transformers", 0.036)):
        found = penalise(SCORES, SEEN, Penalty(1.2, mode)).softmax(-1)[0, 1].item()
        assert found == pytest.approx(expected, abs=5e-4)


def test_the_paper_warns_of_a_negative_logit_once(caplog):
    sampling._warn_of_negative_logits.cache_clear()
    with caplog.at_level(logging.WARNING):
        penalise(SCORES, SEEN, Penalty(1.2, "transformers"))
        penalise(SCORES, torch.tensor([[True, False, False, False, True]]), Penalty(1.2, "paper"))
        penalise(ban(SCORES, [1]), SEEN, Penalty(1.2, "paper"))
        assert not caplog.records
        for _ in range(3):
            penalise(SCORES, SEEN, Penalty(1.2, "paper"))
    [record] = caplog.records
    assert "negative logit" in record.message


@given(row=ROWS, strength=st.floats(0.25, 4), data=st.data())
def test_transformers_mode_is_that_of_transformers(row, strength, data):
    size = row.shape[-1]
    ids = torch.tensor([data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20))])
    ours = penalise(row, seen(ids, None, size), Penalty(strength))
    theirs = RepetitionPenaltyLogitsProcessor(strength)(ids, row.clone())
    torch.testing.assert_close(ours, theirs)


@given(row=ROWS, strength=st.floats(1, 4))
def test_seen_tokens_lose_in_two_modes(row, strength):
    marks = torch.ones_like(row, dtype=torch.bool)
    for mode in ("transformers", "additive"):
        assert (penalise(row, marks, Penalty(strength, mode)) <= row).all()
    raised = penalise(row, marks, Penalty(strength, "paper")) > row
    assert not (raised & (row >= 0)).any()


@given(row=ROWS, strength=st.floats(0.5, 3), shift=st.floats(-20, 20), data=st.data())
def test_the_additive_mode_has_no_zero_of_its_own(row, strength, shift, data):
    row, size = row.double(), row.shape[-1]
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    marks = torch.tensor([data.draw(flags)])
    penalty = Penalty(strength, "additive")
    plain = penalise(row, marks, penalty).softmax(-1)
    torch.testing.assert_close(penalise(row + shift, marks, penalty).softmax(-1), plain)
    divided = torch.where(marks, row.softmax(-1) / strength, row.softmax(-1))
    torch.testing.assert_close(plain, divided / divided.sum(-1, keepdim=True))


def test_the_other_modes_have_one():
    """Adding −10 to all: the paper's rule takes token 0 to .751, transformers' to .443."""
    assert SCORES.softmax(-1)[0, 0].item() == pytest.approx(0.707, abs=5e-4)
    for shift, mode, expected in (
        (-10, "paper", 0.751),
        (-10, "transformers", 0.443),
        (10, "paper", 0.337),
        (10, "transformers", 0.337),
    ):
        found = penalise(SCORES + shift, SEEN, Penalty(1.2, mode)).softmax(-1)[0, 0].item()
        assert found == pytest.approx(expected, abs=5e-4), (shift, mode)


@pytest.mark.parametrize(("probability", "expected"), [(0.9, 0.898), (0.99, 0.990)])
def test_on_log_probabilities_a_sure_token_stays_sure(probability, expected):
    rest = (1 - probability) / 9
    scores = torch.tensor([[probability, *[rest] * 9]]).log()
    lowered = penalise(scores, seen(torch.tensor([[0]]), None, 10), Penalty(1.2)).softmax(-1)
    assert lowered[0, 0].item() == pytest.approx(expected, abs=5e-4)
    raw = penalise(scores + 10, seen(torch.tensor([[0]]), None, 10), Penalty(1.2)).softmax(-1)
    assert raw[0, 0] < lowered[0, 0] - 0.03


@given(data=st.data())
def test_seen_is_the_set_of_what_counts(data):
    rows = data.draw(st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=1))
    flags = st.lists(st.booleans(), min_size=5, max_size=5)
    masks = [data.draw(flags) for _ in rows]
    exempt = data.draw(st.sets(st.integers(0, 6)))
    found = seen(torch.tensor(rows), torch.tensor(masks), 7, exempt)
    for row, mask, marks in zip(rows, masks, found.tolist(), strict=True):
        expected = set(itertools.compress(row, mask)) - exempt
        assert {place for place, mark in enumerate(marks) if mark} == expected


def test_padding_is_told_by_its_place():
    """Id 0 pads on the left, and is also a word of the second text."""
    ids = torch.tensor([[0, 0, 3], [1, 0, 3]])
    mask = torch.tensor([[False, False, True], [True, True, True]])
    assert seen(ids, mask, 4).tolist() == [[False, False, False, True], [True, True, False, True]]
    assert seen(ids, None, 4)[0, 0]


@pytest.mark.parametrize("strength", [0, -1.2, math.inf, math.nan])
def test_a_strength_that_is_none(strength):
    with pytest.raises(IsthmusError, match=r"penalty\.strength: got"):
        Penalty(strength)


def test_a_mode_that_is_none():
    with pytest.raises(IsthmusError, match=r"penalty\.mode: got 'hf', expected one of paper"):
        Penalty(1.2, "hf")


FOUR = torch.tensor([[2.0, 1.0, 0.0, -1.0]])


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(0, [1, 0, 0, 0]), (0.01, [1, 0, 0, 0]), (1, [0.644, 0.237, 0.087, 0.032])],
)
def test_temperature(temperature, expected):
    found = temper(FOUR, temperature).softmax(-1)
    torch.testing.assert_close(found, torch.tensor([expected]).float(), atol=5e-4, rtol=0)


def test_temperature_flattens_and_one_changes_nothing():
    assert torch.equal(temper(FOUR, 1.0), FOUR)
    torch.testing.assert_close(
        temper(FOUR, 1000).softmax(-1), torch.full((1, 4), 0.25), atol=1e-2, rtol=0
    )


@given(row=ROWS)
def test_temperature_zero_is_the_first_largest(row):
    found = temper(row, 0)
    values = row[0].tolist()
    assert found[0].isfinite().nonzero().flatten().tolist() == [values.index(max(values))]


@pytest.mark.parametrize("temperature", [-1, math.inf, math.nan])
def test_a_temperature_that_is_none(temperature):
    with pytest.raises(IsthmusError, match="temperature: got"):
        temper(FOUR, temperature)


@pytest.mark.parametrize(("p", "count"), [(0.4, 1), (0.6, 2), (0.9, 3), (0.96, 4), (1, 4)])
def test_the_nucleus_has_the_token_that_crosses(p, count):
    assert kept(keep_nucleus(torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log(), p)) == [count]


@given(row=ROWS, p=st.floats(0.001, 0.999))
def test_the_nucleus_is_the_smallest_set_of_that_mass(row, p):
    probabilities = row.double().softmax(-1)[0]
    inside = keep_nucleus(row, p).isfinite()[0]
    mass = probabilities[inside].sum().item()
    assert inside.any()
    assert mass >= p - 1e-12
    # No set of fewer tokens has as much: the largest of them have not.
    fewer = probabilities.sort(descending=True).values[: int(inside.sum()) - 1].sum().item()
    assert fewer < p + 1e-12
    assert probabilities[inside].min() >= (probabilities[~inside].max() if (~inside).any() else 0)


def test_ties_are_cut_at_the_smaller_ids():
    """Stable also over many equal ones, where an unstable sort is not."""
    flat = torch.zeros(2, 1000)
    for found in (keep_top_k(flat, 3), keep_nucleus(flat, 0.0025)):
        assert found.isfinite().nonzero()[:, 1].tolist() == [0, 1, 2] * 2


def test_a_nucleus_after_bans_is_not_empty():
    scores = torch.tensor([[9.0, 8.0, -4.0, -5.0]])
    assert kept(keep_nucleus(ban(scores, [0, 1]), 0.01)) == [1]
    assert keep_nucleus(ban(scores, [0, 1]), 0.01)[0, 2] == -4
    assert kept(keep_nucleus(ban(scores, [0, 1]), 0.99999)) == [2]
    with pytest.raises(IsthmusError, match="banned tokens: got all 4"):
        ban(scores, [3, 0, 1, 2])
    assert torch.equal(ban(scores, []), scores)


def test_cuts_are_those_of_transformers_where_nothing_is_equal():
    scores = torch.randn(8, 40, generator=torch.Generator().manual_seed(0))
    ids = torch.zeros(8, 1, dtype=torch.long)
    for k in (1, 5, 40, 99):
        assert torch.equal(keep_top_k(scores, k), TopKLogitsWarper(k)(ids, scores))
    for p in (0.05, 0.5, 0.9, 0.99):
        assert torch.equal(keep_nucleus(scores, p), TopPLogitsWarper(p)(ids, scores))
    theirs = TopPLogitsWarper(0.8)(
        ids, TopKLogitsWarper(7)(ids, TemperatureLogitsWarper(1.7)(ids, scores))
    )
    ours = shaped(scores, temperature=1.7, top_k=7, top_p=0.8)
    torch.testing.assert_close(ours, theirs)
    reversed_order = temper(keep_top_k(keep_nucleus(scores, 0.8), 7), 1.7)
    assert not torch.equal(ours.isfinite(), reversed_order.isfinite())


def test_nothing_asked_for_changes_nothing():
    assert torch.equal(shaped(FOUR), FOUR)
    assert torch.equal(shaped(FOUR, temperature=0, top_k=3, top_p=0.9), temper(FOUR, 0))


@pytest.mark.parametrize("p", [0, -0.1, 1.1, math.nan])
def test_cuts_that_are_none(p):
    with pytest.raises(IsthmusError, match="top_p: got"):
        keep_nucleus(FOUR, p)
    with pytest.raises(IsthmusError, match="top_k: got -1"):
        keep_top_k(FOUR, -1)


def test_ids_are_drawn_with_their_probabilities():
    row = torch.tensor([0, 0.1, 0.2, 0, 1e-9, 0.7, 0, 0])
    count = 200_000
    torch.manual_seed(0)
    ids = drawn(row.expand(count, -1))
    assert ids.shape == (count, 1)
    found = torch.bincount(ids[:, 0], minlength=len(row)) / count
    assert ((found - row).abs() <= 5 * (row * (1 - row) / count).sqrt()).all()


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53, 1.0])
def test_what_is_impossible_is_never_drawn(monkeypatch, uniform):
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, uniform))
    rows = torch.tensor([[0, 0.3, 0, 0.7, 0], [0, 0, 1, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3, 0]])
    assert (rows.gather(1, drawn(rows)) > 0).all()
