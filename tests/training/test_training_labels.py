"""Training with a label that the decoder reads: resumed runs, the log, and named faults."""

import math

import pytest

from isthmus.errors import IsthmusError
from trainers import Do, PowerCut, cut_power, distance, log_of, timeless, weights

LABELS = ["even", None, "odd", None, None] * 8


SEMI_SUPERVISED = {
    "labels": LABELS,
    "model": {"labels": "given"},
    "objective": {"classification": 5.0, "label_nats": 0.5, "balance": 2.0},
}
CODES = {
    "labels": LABELS,
    "model": {"kind": "language-model", "labels": "given", "bridge": "start", "rivals": 1},
    "data": {"code_dropout": 0.3, "sampling": "balanced"},
}


@pytest.mark.parametrize("kind", [SEMI_SUPERVISED, CODES], ids=["semi-supervised", "codes"])
def test_a_resumed_run_is_bit_identical(make, tmp_path, kind):
    groups = kind | {"train": {"steps": 9, "evaluations": 3}}
    whole = make(tmp_path / "whole", **groups)
    with pytest.raises(PowerCut):
        make(tmp_path / "cut", callbacks=[Do(5, cut_power)], **groups)
    resumed = make(tmp_path / "cut", resume=True, **groups)
    assert distance(weights(whole), weights(resumed)) == 0
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "cut")


def test_the_log_tells_the_terms_of_the_label(make, tmp_path):
    """40 texts at a learning rate of nearly zero: p(y) = ½, eight of each label are given."""
    make(
        tmp_path / "run",
        labels=LABELS,
        model={"labels": "given"},
        objective={"schedule": "constant", "classification": 3.0},
        train={"steps": 1, "sentences_per_batch": 40, "log_every": 1, "learning_rate": 1e-12},
    )
    row = log_of(tmp_path / "run")[0]
    # q(y|x) starts near ½: log 2 for each of the 16 labels, almost nothing for the others
    assert row["label"] == pytest.approx(0.4 * math.log(2), abs=0.02)
    assert row["classification"] == pytest.approx(0.4 * math.log(2), abs=0.02)
    bound = row["reconstruction"] + row["kl"] + row["label"]
    assert row["loss"] == pytest.approx(bound + 3 * row["classification"], rel=1e-5)


def test_a_label_term_that_is_not_finite_is_named(make, tmp_path):
    def spoil(model):
        model.labels.counts.fill_(math.nan)

    with pytest.raises(IsthmusError, match=r"^step 4: label term and balance term are not finite"):
        make(
            tmp_path / "run",
            labels=LABELS,
            model={"labels": "given"},
            callbacks=[Do(3, spoil)],
        )


def test_balanced_sampling_reads_each_label_as_often(make, tmp_path):
    """16 texts have the label "even", 8 "odd", 16 none: the 8 are read twice, the last 16 once."""
    groups = CODES | {"labels": ["even", None, "odd", None, "even"] * 8}
    trainer = make(tmp_path / "run", **groups, train={"steps": 1})
    labels = trainer.examples.labels[trainer.places]
    assert [int((labels == place).sum()) for place in (-1, 0, 1)] == [16, 16, 16]
    assert set(trainer.places.tolist()) == set(range(40))
    assert trainer.model.config.even_codes
