"""``isthmus prior`` from end to end."""

import json

import numpy as np
import pytest
import torch

import isthmus as package
from isthmus.runs.bundle import read_run

A = "one small red ball"


def ok(result):
    assert result.code == 0, result.err
    return result


def rows(result):
    return [json.loads(line) for line in ok(result).out.split("\n") if line]


@pytest.mark.parametrize("kind", ["mixture", "vamp", "flow", "calm"])
def test_a_fitted_prior_is_a_run_of_its_own(isthmus, run, corpus, tmp_path, kind):
    if kind == "flow":
        pytest.importorskip("zuko")
    fitted = tmp_path / "fitted"
    words = ["--out", fitted, "--kind", kind, "--components", "3", "--steps", "60"]
    said = ok(isthmus("prior", run, corpus / "train.tsv", *words))
    assert "−log p(z) fell from" in said.out
    [before] = rows(isthmus("evaluate", run, corpus, "--json", "--samples", "4", "--texts", "0"))
    [after] = rows(isthmus("evaluate", fitted, corpus, "--json", "--samples", "4", "--texts", "0"))
    assert after["prior"] == kind
    assert after["reconstruction"] == pytest.approx(before["reconstruction"])
    assert np.allclose(
        package.load(fitted).encode([A]).mean, package.load(run).encode([A]).mean, atol=1e-6
    )
    assert len(rows(isthmus("sample", fitted, "--count", "3", "--json"))) == 3
    grouped = isthmus("cluster", fitted, corpus, "--method", "prior", "--json")
    if kind in {"flow", "calm"}:
        assert f"this run's prior is of the kind {kind}" in grouped.err
    else:
        assert {row["cluster"] for row in rows(grouped)} <= {0, 1, 2}
        assert '"accuracy": ' in grouped.err


def test_the_best_prior_is_found_and_what_was_tried_is_recorded(isthmus, run, corpus, tmp_path):
    words = ["--out", tmp_path / "best", "--minutes", "0.05", "--components", "3"]
    said = ok(isthmus("prior", run, corpus, *words)).out
    record = read_run(tmp_path / "best")
    tried = record["fitted_prior"]["tried"]
    ended = [one for one in tried if not one["fault"]]
    assert {"standard", "gaussian", "mixture", "vamp"} <= {one["kind"] for one in ended}
    assert [one["kl"] for one in ended] == sorted(one["kl"] for one in ended)
    best = package.load(tmp_path / "best")
    assert best.config.prior == record["fitted_prior"]["kind"] == ended[0]["kind"]
    assert all(f"{one['kl']:.2f}" in said for one in ended)
    valid = (corpus / "valid.tsv").read_text(encoding="utf-8").splitlines()
    posterior = best.encode([line.split("\t")[1] for line in valid])
    torch.manual_seed(0)
    kl = posterior.kl(best.prior, posterior.rsample(50)).mean().item()
    assert abs(kl - ended[0]["kl"]) < 4 * ended[0]["standard_error"] + 0.05
