"""Verbs on a run with K = 2 latents of P = 3 dimensions, and labels."""

import json

import numpy as np
import pytest
import torch

from isthmus.explore import exchange, likely_labels, losses_under
from isthmus.explore.transfer import WAY, Change, label_means, least_change, shifted
from isthmus.models.generation import Generation
from isthmus.runs import bundle
from tiny import LABELS, TEXTS, system

KL = [1.0, 3.0, 2.0, 0.5, 0.1, 0.9]


@pytest.fixture(scope="module")
def model():
    return system("labels-grid")


@pytest.fixture(scope="module")
def grid_run(model, tmp_path_factory):
    spread = {"aggregate_standard_deviation": [1.0] * 6, "kl_per_dimension": KL}
    metrics = {"sentences": 6, "iw_samples": 1, **spread}
    run = tmp_path_factory.mktemp("runs") / "grid"
    bundle.save(model, run, {"settings": {}, "data": {}, "seed": 0, "metrics": metrics})
    return run


def rows(result):
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_latents_go_out_and_come_back(isthmus, model, grid_run, labelled_file, tmp_path):
    mean = model.encode(TEXTS * 4).mean
    found = rows(isthmus("encode", grid_run, labelled_file))
    torch.testing.assert_close(torch.tensor([row["mean"] for row in found]), mean)
    lines = tmp_path / "z.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    arrays = tmp_path / "z.npz"
    assert isthmus("encode", grid_run, labelled_file, "--out", arrays).code == 0
    assert np.load(arrays)["log_variance"].shape == (24, 2, 3)
    how = Generation(max_new_tokens=6)
    written = model.decode(mean, how)
    for path in (lines, arrays):
        decoded = rows(isthmus("decode", grid_run, path, "--json", "--max-new-tokens", "6"))
        assert [row["text"] for row in decoded] == written
    np.savez(arrays, z=mean.flatten(1).numpy())
    wrong = isthmus("decode", grid_run, arrays)
    assert wrong.code == 1
    assert "latents of shape [6], but the run has [2, 3]" in wrong.err


def test_an_exchange_of_each_latent(isthmus, model, grid_run):
    a, b = TEXTS[0], TEXTS[2]
    own, other = model.encode([a, b]).mean
    z = torch.stack([own, exchange(own, other, 0), exchange(own, other, 1), other])
    losses = losses_under(model, [a] * 4, z)
    how = ["--label", "up", "--max-new-tokens", "6"]
    found = rows(isthmus("exchange", grid_run, a, b, "--json", *how))
    assert [row["latents"] for row in found] == [[], [0], [1], [0, 1]]
    assert [row["rise_nats"] for row in found] == pytest.approx(
        (losses - losses[0]).tolist(), abs=1e-4
    )
    plain = isthmus("exchange", grid_run, a, b, *how).out.splitlines()
    assert [line.split()[0] for line in plain] == ["none", "0", "1", "all"]
    assert [line.partition("nats  ")[2] for line in plain] == [row["text"] for row in found]


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        ([], 1),
        (["--latent", "1"], 5),
        (["--latent", "1", "--dimension", "0"], 3),
    ],
)
def test_a_dimension_of_a_latent(isthmus, grid_run, flags, place):
    found = rows(isthmus("traverse", grid_run, "a b", "--steps", "3", "--json", *flags))
    assert {row["dimension"] for row in found} == {place}


@pytest.mark.parametrize("flags", [["--latent", "2"], ["--latent", "0", "--dimension", "3"]])
def test_no_such_dimension(isthmus, grid_run, flags):
    result = isthmus("traverse", grid_run, "a b", *flags)
    assert result.code == 1
    assert "expected dimension 0 to 2 of latent 0 to 1" in result.err


def test_groups_and_labels(isthmus, model, grid_run, labelled_file):
    clusters = rows(isthmus("cluster", grid_run, labelled_file, "--json", "--seeds", "1"))
    same = {}
    for row in clusters:
        same.setdefault(row["text"], set()).add(row["cluster"])
    assert all(len(found) == 1 for found in same.values())
    probed = isthmus("probe", grid_run, labelled_file, "--labels", "8", "--seeds", "2")
    assert probed.code == 0, probed.err


def test_a_transfer_moves_every_latent_by_the_difference_of_the_means(
    isthmus, model, grid_run, labelled_file
):
    mean, labels = model.encode(TEXTS).mean, [label or "up" for label in LABELS]
    known = label_means(mean, labels)
    own = likely_labels(model, TEXTS)
    wanted = "down" if own[0] == "up" else "up"
    found = rows(
        isthmus("transfer", grid_run, labelled_file, "--label", wanted, "--json", "--limit", "6")
    )
    assert [row["label"] for row in found] == own
    away = [row for row, label in enumerate(own) if label != wanted]
    change = Change([own[0]] * len(away), [wanted] * len(away), known)
    written = least_change(model, mean[away], change, WAY, 0.95)
    assert [found[row]["written"] for row in away] == written
    step = known[wanted] - known[own[0]]
    assert step.norm(dim=1).min() > 0
    torch.testing.assert_close(shifted(mean[away], change, 0.5), (mean[away] + step / 2).float())


def test_an_evaluation(isthmus, grid_run, labelled_file):
    [metrics] = rows(isthmus("evaluate", grid_run, labelled_file, "--json", "--texts", "4"))
    assert metrics["latents"] == 2
    assert sum(metrics["kl_per_latent"]) == pytest.approx(metrics["kl"], rel=1e-5)
    assert len(metrics["swap_gap_per_latent_se"]) == 2
    assert metrics["label_leakage"] is not None
    table = isthmus("evaluate", grid_run, labelled_file, "--texts", "0").out
    for latent, (kl, gap) in enumerate(
        zip(metrics["kl_per_latent"], metrics["swap_gap_per_latent"], strict=True)
    ):
        [line] = [line for line in table.splitlines() if line.startswith(f"latent {latent}: ")]
        assert line.startswith(f"latent {latent}: KL {kl:.3f} ± ")
        assert f", swap gap {gap:.3f} ± " in line
