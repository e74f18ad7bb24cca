"""Texts under another label: means that trade places, and every text at its first step."""

from __future__ import annotations

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.explore.transfer import Change, Step, label_means, least_change, move, shifted
from isthmus.explore.walks import decode_as
from isthmus.models.generation import Generation
from tiny import system

OWN = ["up", "down", "down", "up", "up", "down", "up", "down"]
OTHER = ["down" if label == "up" else "up" for label in OWN]
SHORT = Generation(max_new_tokens=6)


@pytest.fixture
def model():
    return system("labels-both")


@pytest.fixture
def z():
    return torch.randn(len(OWN), 3, generator=torch.Generator().manual_seed(4))


def test_means_of_labels_by_hand():
    means = label_means(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]), ["b", "a", "b"])
    assert {name: mean.tolist() for name, mean in means.items()} == {"a": [3, 4], "b": [3, 1]}


def test_means_trade_places_and_meet_half_way(z):
    means = label_means(z, OWN)
    across = label_means(shifted(z, Change(OWN, OTHER, means), 1.0), OWN)
    torch.testing.assert_close(across["up"], means["down"], atol=1e-6, rtol=0)
    torch.testing.assert_close(across["down"], means["up"], atol=1e-6, rtol=0)
    half = label_means(shifted(z, Change(OWN, OTHER, means), 0.5), OWN)
    torch.testing.assert_close(half["up"], half["down"], atol=1e-6, rtol=0)
    assert torch.equal(shifted(z, Change(OWN, OTHER, means), 0.0), z)
    assert torch.equal(shifted(z, Change(OWN, OWN, means), 3.0), z)


def test_what_is_no_label_stays(z):
    """Differences of latents within a label are those of before."""
    moved = shifted(z, Change(OWN, OTHER, label_means(z, OWN)), 2.0)
    rows = [row for row, label in enumerate(OWN) if label == "up"]
    torch.testing.assert_close(moved[rows] - moved[rows[0]], z[rows] - z[rows[0]])


def test_a_step_without_a_shift_is_guidance_away_from_the_own_label(model, z):
    means = label_means(z, OWN)
    found = move(model, z, Change(OWN, OTHER, means), Step(2.5), SHORT)
    for label in ("up", "down"):
        rows = [row for row, wanted in enumerate(OTHER) if wanted == label]
        asked = Generation(max_new_tokens=6, label=label, guidance=2.5)
        assert [found[row] for row in rows] == decode_as(
            model, z[rows], [OWN[row] for row in rows], asked
        )
    plain = move(model, z, Change(OWN, OTHER, means), Step(1.0, 0.7), SHORT)
    assert plain == decode_as(model, shifted(z, Change(OWN, OTHER, means), 0.7), OTHER, SHORT)


def test_every_text_stops_at_the_first_step_that_is_enough(model, z):
    change = Change(OWN, OTHER, label_means(z, OWN))
    steps = [Step(), Step(2.0), Step(4.0, 1.0), Step(8.0, 3.0)]
    every = [move(model, z, change, step, SHORT) for step in steps]
    places = torch.tensor([model.config.label_names.index(label) for label in OTHER])
    sure = torch.stack([model.classify(texts)[range(len(OWN)), places] for texts in every])
    values = sure.unique()
    between = ((values[1:] + values[:-1]) / 2)[values.diff() > 1e-4]
    stops = set()
    for certainty in [0.0, *between.tolist(), 1.0]:
        first = [
            next((n for n, value in enumerate(column) if value >= certainty), 0)
            for column in sure.T.tolist()
        ]
        stops |= set(first)
        wanted = [every[step][place] for place, step in enumerate(first)]
        assert least_change(model, z, change, steps, certainty, SHORT) == wanted
    assert stops == {0, 1, 2, 3}


def test_labels_that_are_not_known_are_named(model, z):
    means = label_means(z, OWN)
    with pytest.raises(IsthmusError, match="got up, expected down as well"):
        shifted(z, Change(OWN, OTHER, {"up": means["up"]}), 1.0)
    with pytest.raises(IsthmusError, match="sideways"):
        least_change(model, z, Change(OWN, ["sideways"] * len(OWN), means), [Step()])


def test_no_steps_are_refused(model, z):
    with pytest.raises(IsthmusError, match="steps: got none"):
        least_change(model, z, Change(OWN, OTHER, label_means(z, OWN)), [])
