"""Run directories that version 0.1.0 wrote still load, and give the numbers that they gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import isthmus
from isthmus.data.captioned import Example

RUNS = Path(__file__).with_name("written_by_0_1_0")
EXPECTED = json.loads((RUNS / "expected.json").read_text())


def examples(name: str) -> list[object]:
    """The two examples that the expected terms are of."""
    drawn = np.random.default_rng(0).integers(0, 255, (20, 6, 6, 1), dtype=np.uint8)
    pictures = drawn.transpose(0, 3, 1, 2)
    if name == "picture":
        return list(pictures[:2])
    if name == "joint":
        return [Example(pictures[0], "red cat"), Example(None, "blue dog")]
    return ["red blue", "the cat"]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_of_version_0_1_0_gives_its_terms(name):
    terms = isthmus.load(RUNS / name).terms(examples(name), seed=1)
    expected = EXPECTED[name]
    assert terms.reconstruction.tolist() == pytest.approx(expected["reconstruction"], rel=1e-5)
    found = terms.kl.flatten(1).sum(1).tolist()
    assert found == pytest.approx(expected["kl"], rel=1e-4, abs=1e-6)
