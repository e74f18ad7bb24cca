"""Work in parts: an example has the same numbers, whichever part it is in."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch

from isthmus.commands.on_ray import plan
from isthmus.commands.space import decoded, encoded, reconstructed
from isthmus.data.captioned import Example
from isthmus.evaluation.attribution import log_likelihoods
from isthmus.evaluation.metrics import evaluate
from isthmus.models.generation import Generation
from isthmus.models.workers import HERE, Workers, prepared
from tiny import TEXTS, joint, make, picture

MANY = [f"{a} {b}" for a in TEXTS for b in TEXTS]


class InParts(Workers):
    """Parts computed here, the last one first, from what would be sent to workers elsewhere."""

    def __init__(self, cut=plan):
        self.cut, self.parts_done = cut, 0

    def parts(self, work, model, examples, given, progress):
        places = self.cut(examples)
        raw = getattr(examples, "raw", examples)
        for part in reversed(places):
            columns = (None if one is None else some(one, part) for one in given)
            sent = pickle.loads(pickle.dumps((some(raw, part), part, *columns)))
            self.parts_done += 1
            yield part, work(model, *sent, progress=progress)


def some(values, part):
    return [values[place] for place in part] if isinstance(values, list) else values[list(part)]


def unequal(examples):
    """Parts of 1, 2, 3 … examples, in a random order."""
    order = np.random.default_rng(0).permutation(len(examples)).tolist()
    ends = np.cumsum(np.arange(1, len(order) + 1))
    return [part.tolist() for part in np.split(np.array(order), ends[ends < len(order)])]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Windows of 8 examples, and parts as large."""
    for module in ("data.batches", "explore.walks", "commands.on_ray"):
        monkeypatch.setattr(f"isthmus.{module}.WINDOW", 8)
    monkeypatch.setattr("isthmus.commands.on_ray.PART", 8)


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            close(found[name], value)
        elif isinstance(value, float | list):
            assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-6), name
        else:
            assert found[name] == value, name


SUMMARY = partial(
    make, "llama", "aligned", pooling="blocks", encoder="modernbert", latents=7, summary=2
)


@pytest.mark.parametrize(
    ("build", "refine", "cut"),
    [
        (partial(make, prior="vamp"), 2, unequal),
        (SUMMARY, 0, plan),
        (partial(make, labels="given"), 0, plan),
    ],
)
def test_an_evaluation_in_parts_is_that_of_the_whole(build, refine, cut):
    model, workers = build().double(), InParts(cut)  # to see more than rounding
    examples = model.codec.prepare(MANY)
    labels = ["up", "down"] * (len(MANY) // 2) if model.config.labels else None
    how = {"samples": 3, "texts": 4, "refine_steps": refine, "labels": labels, "seed": 5}
    close(evaluate(model, examples, workers=workers, **how), evaluate(model, examples, **how))
    assert workers.parts_done > 8


def test_modalities_in_parts_are_those_of_the_whole():
    model, workers = joint().double(), InParts(unequal)
    draw = np.random.default_rng(0)
    given = [
        Example(
            picture=draw.integers(0, 256, (1, 4, 5), np.uint8) if place % 3 else None,
            caption=text if place % 4 or not place % 3 else None,
        )
        for place, text in enumerate(MANY)
    ]
    examples = model.codec.prepare(given)
    how = {"samples": 2, "texts": 0}
    close(evaluate(model, examples, workers=workers, **how), evaluate(model, examples, **how))
    assert workers.parts_done > 8


def backwards(examples):
    """One part."""
    return [[*reversed(range(len(examples)))]]


@pytest.mark.parametrize("cut", [unequal, backwards])
def test_codes_are_attributed_in_parts(cut):
    model = make(labels="given").double()
    examples = model.codec.prepare(MANY)
    found = log_likelihoods(model, examples, samples=3, workers=InParts(cut))
    torch.testing.assert_close(found, log_likelihoods(model, examples, samples=3))


@pytest.mark.parametrize("refine", [0, 2])
def test_parts_of_whole_windows_are_equal_bit_by_bit(refine):
    model, workers = make(), InParts()
    work = partial(encoded, refine=refine, bf16=False, summary=False)
    for found, expected in zip(
        workers.map(work, model, MANY), HERE.map(work, model, MANY), strict=True
    ):
        assert torch.equal(found, expected)
    drawn = Generation(8, sample=True, seed=3)
    work = partial(reconstructed, refine=refine, generation=drawn, seed=4)
    texts, *terms = workers.map(work, model, MANY)
    own, *expected = HERE.map(work, model, MANY)
    assert texts == own
    assert len(set(texts)) > 8
    for one, other in zip(terms, expected, strict=True):
        assert torch.equal(one, other)
    posterior = model.encode(MANY)
    work = partial(decoded, generation=drawn)
    assert workers.map(work, model, posterior.mean) == HERE.map(work, model, posterior.mean)
    assert workers.parts_done == 3 * -(-len(MANY) // 8)


def test_pictures_come_in_parts():
    model = picture()
    pictures = np.random.default_rng(0).integers(0, 256, (20, *model.codec.shape), np.uint8)
    work = partial(encoded, refine=0, bf16=False, summary=False)
    here = HERE.map(work, model, pictures)
    there = InParts().map(work, model, pictures)
    assert all(map(torch.equal, here, there))
    assert len(there[0]) == 20


def test_batches_stay_within_their_windows():
    examples = prepared(make(), MANY)
    batches = examples.batches(40)
    assert sorted(index for batch in batches for index in batch) == list(range(len(MANY)))
    assert all(len({index // 8 for index in batch}) == 1 for batch in batches)
