"""Control codes from the command line: a run under codes, texts under a code, attribution."""

from __future__ import annotations

import json

import pytest
import torch

import isthmus as package
from isthmus.data.corpus import read
from isthmus.runs.bundle import read_run, save


def ok(result):
    assert result.code == 0, result.err
    return result


def rows(result):
    return [json.loads(line) for line in ok(result).out.split("\n") if line]


@pytest.fixture(scope="module")
def trained(isthmus, recipe, corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("codes") / "run"
    words = ["--recipe", recipe, "--out", run, "--train.steps", "6"]
    kind = ["--model.kind", "language-model"]
    given = ["--model.labels", "given", "--model.bridge", "start", "--data.code-dropout", "0.2"]
    more = ["--data.sampling", "balanced", "--model.rivals", "1", "--train.log-every", "2"]
    return run, ok(isthmus("train", corpus, *words, *kind, *given, *more))


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """The run with codes that are far apart."""
    model = package.load(trained[0])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.bridge.linear.weight.normal_(std=1.5, generator=generator)
    loud = tmp_path_factory.mktemp("codes") / "loud"
    save(model, loud, read_run(trained[0]))
    return loud


def test_the_log_and_the_card_tell_every_code(trained, corpus):
    lines = [json.loads(line) for line in (trained[0] / "log.jsonl").read_text().splitlines()]
    logged = [line["reconstruction_per_label"] for line in lines if "classification" in line]
    names = sorted(set(read(str(corpus), split="train").labels))
    assert [sorted(each) for each in logged] == [names] * len(logged)
    assert all(loss is None or loss > 0 for each in logged for loss in each.values())
    metrics = read_run(trained[0])["metrics"]
    assert sorted(metrics["per_label"]) == names
    assert sum(each["sentences"] for each in metrics["per_label"].values()) == 24
    assert metrics["null_nll"] > 0
    assert 0 <= metrics["attribution_accuracy"] <= 1


def test_texts_under_codes(isthmus, run):
    model = package.load(run)
    first, second = model.config.label_names[:2]
    words = ["--prompt", "is small", "--count", "3", "--max-new-tokens", "6", "--json"]
    found = rows(isthmus("generate", run, "--code", first, *words))
    assert [row["code"] for row in found] == [[first]] * 3
    assert all(row["text"].startswith("is small") for row in found)
    assert found == rows(isthmus("generate", run, "--code", first, *words))
    assert found != rows(isthmus("generate", run, "--code", second, *words))
    guided = rows(isthmus("generate", run, "--code", first, "--guidance", "30", *words))
    assert guided != found
    mixed = ["--code", f"{first}=0.7", "--code", f"{second}=0.3"]
    assert rows(isthmus("generate", run, *mixed, *words)) != found
    strange = ok(isthmus("generate", run, "--prompt", "is Zyx", "--count", "1"))
    assert "prompt: 1 of 2 tokens are unknown to the vocabulary" in strange.err
    anything = ok(isthmus("generate", run, "--count", "4")).out.splitlines()
    assert len(anything) == 4


def test_what_is_refused(isthmus, run, plain_run, corpus):
    unknown = isthmus("generate", run, "--code", "Sports")
    assert (unknown.code, unknown.err.count("\n")) == (1, 1)
    assert "code: got 'Sports', which this model does not know" in unknown.err
    both = isthmus("generate", run, "--code", "x", "--label", "y")
    assert "--code and --label mean the same" in both.err
    plain = isthmus("generate", plain_run, "--code", "x")
    assert "has no control codes; train a run with --recipe ctrl" in plain.err
    plain = isthmus("attribute", plain_run, corpus)
    assert (plain.code, plain.out) == (1, "")
    assert "has no control codes" in plain.err.splitlines()[-1]
    mode = isthmus("generate", run, "--penalty", "-1")
    assert "penalty.strength: got -1" in mode.err


def test_attribution_is_bayes_and_judged_by_the_labels(isthmus, run, corpus, tmp_path):
    model = package.load(run)
    texts = read(str(corpus), split="test")
    picture = tmp_path / "reliability.png"
    attributed = isthmus("attribute", run, corpus, "--tokens", "--json", "--out", picture)
    found = rows(attributed)
    assert [row["text"] for row in found] == texts.texts
    for row in found:
        likelihood = torch.tensor(list(row["log_likelihood"].values()))
        posterior = torch.tensor(list(row["posterior"].values()))
        torch.testing.assert_close(likelihood.softmax(0), posterior)
        assert row["probability"] == max(row["posterior"].values())
        summed = torch.tensor(row["token_log_likelihood"]).sum(0)
        torch.testing.assert_close(summed, likelihood, atol=1e-3, rtol=1e-5)
        even = likelihood.logsumexp(0) - torch.tensor(float(len(likelihood))).log()
        assert row["log_marginal"] == pytest.approx(even.item(), rel=1e-5)
    right = [row["code"] == label for row, label in zip(found, texts.labels, strict=True)]
    assert f"accuracy: {sum(right) / len(right):.4f} ±" in attributed.err
    assert "calibration error (ECE)" in attributed.err
    assert picture.read_bytes()[:4] == b"\x89PNG"
    stored = rows(isthmus("attribute", run, corpus, "--prior", "stored", "--json"))
    shift = model.labels.log_prior
    first = torch.tensor(list(found[0]["log_likelihood"].values())) + shift
    torch.testing.assert_close(
        torch.tensor(list(stored[0]["posterior"].values())), first.softmax(0)
    )


def test_coloured_text_is_the_text(isthmus, run, corpus):
    lines = ok(isthmus("attribute", run, corpus, "--tokens", "--limit", "3")).out.splitlines()
    assert lines[0].split() == list(package.load(run).config.label_names)
    assert len(lines) == 4


def test_the_original_ctrl_is_asked_for_in_one_line(isthmus, tmp_path):
    missing = isthmus("import-ctrl", tmp_path / "no", "--out", tmp_path / "run")
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    assert "no such folder; expected one with a CTRL model" in missing.err
