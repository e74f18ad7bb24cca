"""Verbs on a run with a summary of G = 2 latents and three details, K = 5, P = 4."""

import json

import numpy as np
import pytest
import torch

import isthmus as package
from isthmus.explore import cluster, neighbours
from isthmus.explore.transfer import WAY, Change, label_means, least_change
from isthmus.models.base import summarised
from isthmus.runs import bundle
from tiny import LABELS, TEXTS, make

KL = [1.0, 3.0, 2.0, 0.5, 0.1, 0.9, 0.2, 0.3, *[9.0] * 12]


@pytest.fixture(scope="module")
def model():
    return make("llama", "aligned", pooling="blocks", latents=5, summary=2, labels="given")


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    metrics = {"sentences": 6, "iw_samples": 1, "kl_per_dimension": KL}
    metrics["aggregate_standard_deviation"] = [1.0 + place for place in range(20)]
    folder = tmp_path_factory.mktemp("runs") / "summary"
    bundle.save(model, folder, {"settings": {}, "data": {}, "seed": 0, "metrics": metrics})
    return folder


def rows(result):
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_a_summary_goes_out_by_itself_and_comes_back_with_hidden_details(
    isthmus, model, run, labelled_file, tmp_path
):
    mean = model.encode(TEXTS * 4).mean
    arrays = tmp_path / "z.npz"
    assert isthmus("encode", run, labelled_file, "--out", arrays).code == 0
    np.testing.assert_allclose(np.load(arrays)["mean"], mean, atol=1e-6)
    assert isthmus("encode", run, labelled_file, "--out", arrays, "--summary").code == 0
    np.testing.assert_allclose(np.load(arrays)["mean"], mean[:, :2], atol=1e-6)
    decoded = rows(isthmus("decode", run, arrays, "--json", "--label", "up"))
    hidden = torch.nn.functional.pad(mean[:, :2], (0, 0, 0, 3))
    how = package.Generation(label="up")
    assert [row["text"] for row in decoded] == model.decode(hidden, how)
    assert model.decode(mean, how) != model.decode(hidden, how)
    np.savez(arrays, z=mean[:, :3].numpy())
    wrong = isthmus("decode", run, arrays)
    assert wrong.code == 1
    assert "latents of shape [3, 4], but the run has [5, 4]" in wrong.err


def test_only_a_run_with_a_summary_has_one_to_write(isthmus, labelled_file, tmp_path):
    other = make()
    bundle.save(other, tmp_path / "run", {"settings": {}, "data": {}, "seed": 0, "metrics": {}})
    result = isthmus("encode", tmp_path / "run", labelled_file, "--summary")
    assert result.code == 1
    assert "has latents of one level" in result.err


def test_distances_and_clusters_are_those_of_summaries(isthmus, model, run, labelled_file):
    about = model.encode(TEXTS * 4).mean[:, :2]
    distances, places = neighbours(model.encode(["a b"]).mean[:, :2], about, 3)
    found = rows(isthmus("neighbours", run, labelled_file, "a b", "--count", "3", "--json"))
    assert [row["distance"] for row in found] == pytest.approx(distances[0].tolist(), abs=1e-4)
    api = package.neighbours(model, TEXTS * 4, "a b", 3)
    assert [one.distance for one in api] == pytest.approx(distances[0].tolist(), abs=1e-4)
    assert {one.example for one in api} == {(TEXTS * 4)[place] for place in places[0]}
    clusters = cluster(about, 3)
    found = rows(
        isthmus("cluster", run, labelled_file, "--clusters", "3", "--json", "--seeds", "1")
    )
    assert [row["cluster"] for row in found] == clusters
    assert package.cluster(model, TEXTS * 4, 3) == clusters


def test_a_probe_reads_the_summary_and_the_state_that_it_is_a_linear_map_of(model):
    from isthmus.commands.classes import latent_features

    with summarised(model):
        features = latent_features(model, TEXTS, "run")
    about = model.encode(TEXTS).mean[:, :2].flatten(1).numpy()
    np.testing.assert_allclose(features["latent mean"], about, atol=1e-6)
    state = np.pad(features["pooled state"], ((0, 0), (0, 1)), constant_values=1)
    weights = np.linalg.lstsq(state, about, rcond=None)[0]
    np.testing.assert_allclose(state @ weights, about, atol=1e-4)


def test_a_dimension_of_the_summary_moves_and_details_are_hidden(isthmus, model, run):
    how = ["--steps", "3", "--reach", "2", "--json", "--label", "up"]
    found = rows(isthmus("traverse", run, "a b", *how))
    assert {row["dimension"] for row in found} == {1}  # not one of the details, whose KL is larger
    z = model.encode(["a b"]).mean[:, :2].repeat(3, 1, 1)
    z[0, 0, 1] -= 2 * 2.0
    z[2, 0, 1] += 2 * 2.0
    assert [row["text"] for row in found] == model.decode(z, package.Generation(label="up"))
    assert isthmus("traverse", run, "a b", "--dimension", "8").code == 1


def test_a_transfer_moves_summaries(isthmus, model, run, labelled_file):
    about, labels = model.encode(TEXTS).mean[:, :2], [label or "up" for label in LABELS]
    found = rows(
        isthmus("transfer", run, labelled_file, "--label", "up", "--json", "--limit", "6")
    )
    own = [row["label"] for row in found]
    wanted = "up" if "down" in own else "down"
    found = rows(
        isthmus("transfer", run, labelled_file, "--label", wanted, "--json", "--limit", "6")
    )
    away = [row for row, label in enumerate(own) if label != wanted]
    change = Change([own[row] for row in away], [wanted] * len(away), label_means(about, labels))
    assert away
    written = least_change(model, about[away], change, WAY, 0.95)
    assert [found[row]["written"] for row in away] == written
