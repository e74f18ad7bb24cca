"""Every row of the table is comparable with its language model, and can be trained."""

from __future__ import annotations

import dataclasses

import pytest

from isthmus.bench.rows import BUDGETS, ROWS, settings_of
from isthmus.models.build import build
from isthmus.settings import change_kind, with_changes
from tiny import TEXTS

LONG = [" ".join(["a b c"] * 3)] * 500  # 500 sentences of 10 words, ends included
VAES = [name for name, row in ROWS.items() if row.plain]


def settings(name, seed=0):
    return settings_of(ROWS[name], LONG, BUDGETS["small"], seed)


@pytest.mark.parametrize("name", VAES)
def test_a_row_and_its_language_model_share_decoder_tokens_and_batches(name):
    ours, theirs = settings(name), settings(ROWS[name].plain)
    assert theirs.model.kind == "language-model"
    assert ours.model.kind == "text-vae"
    assert ours.model.decoder == theirs.model.decoder
    assert change_kind(ours, "language-model").data == dataclasses.replace(
        theirs.data, word_dropout=ours.data.word_dropout
    )
    assert theirs.data.word_dropout == 0
    batches = ("tokens_per_batch", "sentences_per_batch", "accumulation", "evaluations")
    assert all(getattr(ours.train, key) == getattr(theirs.train, key) for key in batches)


@pytest.mark.parametrize("name", ROWS)
def test_all_phases_together_are_the_budget(name):
    found = settings(name, seed=3)
    assert found.train.seed == 3
    passes = found.train.epochs + found.first.epochs
    assert passes * 5000 == pytest.approx(BUDGETS["small"])
    assert found.train.steps == 0


@pytest.mark.parametrize("name", ROWS)
def test_every_row_builds(name):
    found = settings(name)
    small = {"layers": 1, "hidden_size": 16, "heads": 2}
    parts = {"decoder": small} | ({"encoder": small} if found.model.kind == "text-vae" else {})
    built = build(with_changes(found, {"model": parts}, name), TEXTS)
    assert (built.config.latent_size > 0) == (found.model.kind == "text-vae")
    terms = built.terms(TEXTS)
    assert (terms.reconstruction > 0).all()


def test_collapse_is_plain_beta_one_from_the_first_step():
    for name in ("lstm-collapse", "scnn-collapse"):
        objective = settings(name).objective
        assert (objective.schedule, objective.beta, objective.free_bits) == ("constant", 1.0, 0.0)
