"""Four Markov sources whose truth is known: a small model under codes comes near it in seconds.

The full measurement, with bars, is benchmarks/markov.py.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import markov


@pytest.fixture(scope="module")
def sources():
    return markov.Sources(0)


@pytest.fixture(scope="module")
def model(sources):
    texts, labels, _ = sources.texts(12_000)
    return markov.trained(texts, labels, 250, 0)


def test_losses_attribution_and_marginal_are_near_the_truth_and_never_better(model, sources):
    found = markov.judged(model, sources, 1_500)
    assert found["accuracy"] > 0.9
    assert found["accuracy"] <= found["accuracy_bayes"]
    assert found["kl_of_posteriors"] < 0.35
    for code in found["per_code"].values():
        assert code["true"] < code["nats_per_word"] < math.log(markov.WORDS)
    above = found["marginal_per_word"] - found["marginal_per_word_true"]
    assert 0 < above < 0.15
    # the null code is no substitute for the sum over codes
    assert found["null_per_word"] > found["marginal_per_word"]


def test_guidance_buys_control_with_diversity(model, sources):
    plain, strong = (markov.guided(model, sources, scale, 400) for scale in (1.0, 3.0))
    assert strong["obeyed"] > plain["obeyed"] + 0.1
    assert strong["distinct_2"] < plain["distinct_2"]
