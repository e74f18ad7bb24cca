"""Texts under another label: means that trade places, and every text at its first step."""

from __future__ import annotations

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.explore import decode_as
from isthmus.models.generation import Generation
from isthmus.transfer import Change, Step, label_means, least_change, move, shifted
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


@pytest.mark.parametrize("certainty", [0.0, 0.5, 0.6, 1.0])
def test_every_text_stops_at_the_first_step_that_is_enough(model, z, certainty):
    means = label_means(z, OWN)
    steps = [Step(), Step(2.0), Step(4.0, 1.0), Step(8.0, 3.0)]
    every = [move(model, z, Change(OWN, OTHER, means), step, SHORT) for step in steps]
    names = model.config.label_names
    sure = [
        [
            row[names.index(label)].item()
            for row, label in zip(model.classify(t), OTHER, strict=True)
        ]
        for t in every
    ]
    wanted = []
    for place in range(len(OWN)):
        column = [values[place] for values in sure]
        enough = [number for number, value in enumerate(column) if value >= certainty]
        chosen = enough[0] if enough else column.index(max(column))
        wanted.append(every[chosen][place])
    assert least_change(model, z, Change(OWN, OTHER, means), steps, certainty, SHORT) == wanted
    assert certainty > 0 or wanted == every[0]
    assert certainty == 0 or wanted not in every  # a planted "all at once" would be found


def test_no_steps_are_refused(model, z):
    with pytest.raises(IsthmusError, match="steps: got none"):
        least_change(model, z, Change(OWN, OTHER, label_means(z, OWN)), [])
