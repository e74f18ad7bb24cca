"""``--refine``: posteriors improved for each text, wherever texts are encoded."""

import json

import numpy as np
import pytest

import isthmus as package
from isthmus.evaluation.refine import refine
from isthmus.evaluation.verdicts import LARGE_GAP


def lines(result):
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


@pytest.fixture(scope="module")
def model(run):
    return package.load(run)


@pytest.fixture(scope="module")
def texts(corpus):
    rows = (corpus / "test.tsv").read_text(encoding="utf-8").splitlines()
    return [row.split("\t")[1] for row in rows]


def test_encode_and_reconstruct_take_the_refined_posterior(isthmus, run, corpus, model, texts):
    refined = refine(model, texts, steps=4)
    encoded = lines(isthmus("encode", run, corpus, "--refine", "4"))
    assert np.allclose([row["mean"] for row in encoded], refined.mean, atol=1e-5)
    assert np.allclose([row["log_variance"] for row in encoded], refined.log_variance, atol=1e-5)
    back = lines(isthmus("reconstruct", run, corpus, "--refine", "4", "--json"))
    assert [row["reconstruction"] for row in back] == model.decode(refined.mean)
    terms = model.terms(texts, posterior=refined)
    assert [row["kl_nats"] for row in back] == pytest.approx(terms.kl_total.tolist(), rel=1e-4)
    plain = lines(isthmus("reconstruct", run, corpus, "--json"))
    total = [
        sum(row["reconstruction_nats"] + row["kl_nats"] for row in rows) for rows in (plain, back)
    ]
    assert total[1] < total[0] - 24, "a nat a sentence at the least: the encoder is random"


def test_evaluate_tells_the_gaps_in_numbers_and_words(isthmus, run, corpus):
    words = ["evaluate", run, corpus, "--samples", "4", "--texts", "0"]
    [metrics] = lines(isthmus(*words, "--refine", "4", "--json"))
    assert metrics["refine_steps"] == 4
    for name in ("elbo_refined", "nll_iw_refined", "amortisation_gap", "approximation_gap"):
        assert metrics[f"{name}_se"] > 0
    assert metrics["amortisation_gap"] > LARGE_GAP
    [plain] = lines(isthmus(*words, "--json"))
    assert "amortisation_gap" not in plain
    assert plain["inference_gap"] == metrics["inference_gap"]
    table = isthmus(*words, "--refine", "4").out
    assert "amortisation_gap" in table
    assert "better than the encoder's" in " ".join(table.split())


@pytest.mark.parametrize("verb", ["evaluate", "encode", "reconstruct"])
def test_fewer_steps_than_none_are_refused(isthmus, run, corpus, verb):
    result = isthmus(verb, run, corpus, "--refine", "-1")
    assert result.code == 1
    expected = "isthmus: refine must be ≥ 0, got -1; 0 takes the encoder's posterior\n"
    assert result.err == expected


def test_a_language_model_is_refined_to_itself(isthmus, plain_run, corpus):
    words = ["evaluate", plain_run, corpus, "--samples", "2", "--texts", "0", "--json"]
    [metrics] = lines(isthmus(*words, "--refine", "2"))
    assert metrics["amortisation_gap"] == pytest.approx(0, abs=1e-5)
