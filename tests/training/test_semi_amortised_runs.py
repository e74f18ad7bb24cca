"""Training with posteriors that are improved for each text: resumable, and off by default."""

import pytest

from trainers import Do, PowerCut, cut_power, distance, log_of, timeless, weights

GROUPS = {
    "model": {"encoder": {"dropout": 0.1}, "decoder": {"dropout": 0.1}},
    "data": {"masking": 0.1, "word_dropout": 0.2},
    "train": {"semi_amortised": 2, "semi_amortised_rate": 0.2, "evaluations": 3},
}


def test_a_resumed_run_is_bit_identical(make, tmp_path):
    whole = make(tmp_path / "whole", **GROUPS)
    with pytest.raises(PowerCut):
        make(tmp_path / "cut", callbacks=[Do(5, cut_power)], **GROUPS)
    resumed = make(tmp_path / "cut", resume=True, **GROUPS)
    assert distance(weights(whole), weights(resumed)) == 0
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "cut")


def test_gradient_accumulation_is_one_large_batch(make, tmp_path):
    common = {"objective": {"free_bits": 0.01}, "float64": True, "count": 8}
    steps = {"semi_amortised": 2, "clip": 0.5}
    a = make(tmp_path / "a", train=steps | {"sentences_per_batch": 8}, **common)
    parts = {"sentences_per_batch": 5, "accumulation": 2}
    b = make(tmp_path / "b", train=steps | parts, **common)
    assert distance(weights(a), weights(b)) < 1e-6


def test_no_steps_are_the_plain_run_and_steps_are_another(make, tmp_path):
    plain = make(tmp_path / "plain")
    off = make(tmp_path / "off", train={"semi_amortised": 0, "semi_amortised_rate": 0.7})
    on = make(tmp_path / "on", train={"semi_amortised": 1})
    assert distance(weights(plain), weights(off)) == 0
    assert timeless(tmp_path / "plain") == timeless(tmp_path / "off")
    assert distance(weights(plain), weights(on)) > 1e-4
    # the log has the improved posteriors, the validation bound the encoder's
    first = [next(row for row in log_of(tmp_path / name)) for name in ("plain", "on")]
    assert first[1]["kl"] > first[0]["kl"]


def test_a_language_model_has_nothing_to_improve(make, tmp_path):
    model = {"kind": "language-model"}
    plain = make(tmp_path / "plain", model=model)
    asked = make(tmp_path / "asked", model=model, train={"semi_amortised": 3})
    assert distance(weights(plain), weights(asked)) == 0
