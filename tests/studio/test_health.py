"""The health of a run: what its files say, and honestly what they do not say."""

import json
import math

import pytest

from isthmus.data import scenes
from isthmus.errors import IsthmusError
from isthmus.studio.health import MOST_RECORDS, dimensions, health, known_entropy, thinned

METRICS = {
    "sentences": 1000,
    "latent_size": 3,
    "prior": "standard",
    "nll_iw": 16.1,
    "nll_iw_se": 0.1,
    "kl": 12.0,
    "reconstruction": 5.0,
    "swap_gap": 20.0,
    "swap_gap_se": 0.2,
    "kl_per_dimension": [1.0, 8.0, 3.0],
    "aggregate_mean": [0.0, 0.1, 0.2],
    "aggregate_standard_deviation": [1.0, 1.1, 0.9],
    "standard_deviation_per_dimension": [0.6, 0.1, 0.3],
    "ppl_token": math.inf,
}


def write_run(folder, records=(), source="scenes/train", **run):
    folder.mkdir(exist_ok=True)
    record = {"bundle_version": 1, "files": {}, "metrics": METRICS}
    record |= {"data": {"source": source, "sentences": 300}} | run
    record.setdefault("settings", {"objective": {"beta": 0.3}})
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    if records:
        lines = "".join(json.dumps(one) + "\n" for one in records)
        (folder / "log.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_health_is_what_the_files_say(tmp_path):
    records = [{"step": 1, "reconstruction": 9.0, "kl": 1.0}, {"step": 2, "eval_elbo": -8.0}]
    found = health(write_run(tmp_path, records))
    assert set(found) == {"curves", "metrics", "readings", "dimensions", "posterior"}
    assert found["curves"] == records
    assert found["metrics"]["nll_iw"] == 16.1
    assert found["metrics"]["ppl_token"] is None  # JSON has no infinity
    assert [row["dimension"] for row in found["dimensions"]] == [1, 2, 0]
    assert found["dimensions"][0] == {"dimension": 1, "kl": 8.0, "mean": 0.1, "deviation": 1.1}
    assert found["posterior"] == {
        "aggregate_mean": [0.0, 0.1, 0.2],
        "aggregate_deviation": [1.0, 1.1, 0.9],
        "mean_deviation": [0.6, 0.1, 0.3],
    }
    rows = {row["key"]: row for row in found["readings"]}
    assert rows["nll_iw"]["level"] == "good"
    assert f"{scenes.entropy().nats_per_sentence:.2f}" in rows["nll_iw"]["reading"]
    assert "only 0.3 of it" in rows["kl"]["reading"]
    assert json.dumps(found, allow_nan=False)


def test_a_long_log_is_thinned_and_no_bound_is_lost(tmp_path):
    records = [{"step": step, "reconstruction": 1.0, "kl": 1.0} for step in range(1, 3001)]
    records += [{"step": step, "eval_elbo": -1.0} for step in range(300, 3001, 300)]
    records.sort(key=lambda one: one["step"])
    records.append({"step": 3000, "train_runtime": 1.0})
    kept = health(write_run(tmp_path, records))["curves"]
    assert len(kept) == MOST_RECORDS
    assert sum("eval_elbo" in one for one in kept) == 10
    assert [one["step"] for one in kept] == sorted(one["step"] for one in kept)
    assert kept[0]["step"] == 1
    assert kept[-1] == {"step": 3000, "eval_elbo": -1.0}


def test_thinning_keeps_both_ends_and_the_order():
    assert thinned(range(5), 10) == [0, 1, 2, 3, 4]
    assert thinned(range(1000), 3) == [0, 500, 999]
    assert thinned([], 3) == []


def test_a_line_that_a_kill_cut_short_is_no_line(tmp_path):
    run = write_run(tmp_path, [{"step": 1, "reconstruction": 1.0}])
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "reconstr')
    assert [one["step"] for one in health(run)["curves"]] == [1]


def test_a_run_that_was_never_evaluated_or_trained_here_has_empty_tables(tmp_path):
    found = health(write_run(tmp_path, metrics={}))
    assert found["curves"] == found["readings"] == found["dimensions"] == []
    assert found["posterior"]["aggregate_mean"] is None


def test_a_prior_that_does_not_split_leaves_the_order_to_the_deviations():
    rows = dimensions({"kl_per_dimension": [9.0], "aggregate_standard_deviation": [1.0, 2.0]})
    assert [(row["dimension"], row["kl"]) for row in rows] == [(1, None), (0, None)]


def test_only_texts_of_scenes_have_a_known_entropy():
    exact = scenes.entropy().nats_per_sentence
    assert known_entropy({"data": {"source": "scenes/train", "sentences": 9}}) == exact
    assert known_entropy({"data": {"source": "scenes/train", "pictures": 9}}) is None
    assert known_entropy({"data": {"source": "reviews.tsv", "sentences": 9}}) is None
    assert known_entropy({"imported": {}}) is None


def test_what_is_no_run_is_refused_in_one_line(tmp_path):
    with pytest.raises(IsthmusError, match="no such run directory"):
        health(tmp_path / "nowhere")
