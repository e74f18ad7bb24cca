"""The table: paired differences, means over seeds, and rows that are measured once."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from isthmus.bench.measure import measure, result_file, result_files
from isthmus.bench.rows import ROWS, settings_of
from isthmus.bench.table import cell, markdown, summary
from isthmus.cli import main
from isthmus.data import scenes
from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import Splits
from isthmus.progress import console
from isthmus.settings import with_changes

pytestmark = pytest.mark.usefixtures("undrawn")
SMALL = {"layers": 1, "hidden_size": 16, "heads": 2}


@pytest.fixture(scope="module")
def splits():
    parts = {
        name: TextCorpus([s.text for s in scenes.generate(name, count)], None, f"scenes/{name}")
        for name, count in (("train", 64), ("valid", 12), ("test", 20))
    }
    return Splits(parts["train"], parts["valid"], parts["test"], {})


def toy(name, seed, splits):
    settings = settings_of(ROWS[name], splits.train.texts, 10_000, seed)
    parts = {name: SMALL for name in ("encoder", "decoder") if hasattr(settings.model, name)}
    changes = {"model": parts, "train": {"steps": 4, "evaluations": 1}}
    if settings.first.epochs:
        changes["first"] = {"epochs": 1.0}
    return with_changes(settings, changes, name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, splits):
    folder = tmp_path_factory.mktemp("bench")
    for name, seeds in (("lstm-lm", 2), ("lstm-pretraining", 1)):
        for seed in range(seeds):
            measure(ROWS[name], toy(name, seed, splits), splits, folder, console())
    return folder


def test_a_measured_row_is_loaded_and_not_trained_again(folder, splits):
    path = result_file(folder, "lstm-lm", 1)
    before = path.stat().st_mtime_ns
    again = measure(ROWS["lstm-lm"], toy("lstm-lm", 1, splits), splits, folder, console())
    assert again == json.loads(path.read_text("utf-8"))
    assert path.stat().st_mtime_ns == before


def test_steps_and_seconds_count_both_phases(folder):
    [record] = result_files(folder)["lstm-pretraining"]
    assert record["steps"] > 4  # a first phase of one pass precedes the four steps
    assert record["seconds"] > 0


def test_the_difference_from_the_language_model_is_paired(folder):
    rows = {row["row"]: row for row in summary(result_files(folder), ROWS, folder)}
    plain = np.mean([np.load(folder / f"lstm-lm-{seed}.npy") for seed in range(2)], axis=0)
    own = np.load(folder / "lstm-pretraining-0.npy")
    versus = rows["lstm-pretraining"]["against_plain"]
    assert versus["nats"] == pytest.approx((own - plain).mean())
    assert versus["nats_se"] == pytest.approx((own - plain).std(ddof=1) / math.sqrt(len(own)))
    # sentence by sentence: the ratio of perplexities per word is that of the printed ones
    seeds = [r["metrics"]["nll_iw"] for r in result_files(folder)["lstm-lm"]]
    metrics = result_files(folder)["lstm-lm"][0]["metrics"]
    words = metrics["words"] / metrics["sentences"]
    theirs = math.exp(np.mean(seeds) / words)
    assert versus["ppl_ratio"] == pytest.approx(rows["lstm-pretraining"]["ppl_word"] / theirs)
    assert rows["lstm-lm"]["against_plain"] is None


def test_a_cell_is_the_mean_over_seeds_with_the_error_over_sentences():
    records = [
        {"metrics": {"elbo": -value, "elbo_se": error}} for value, error in ((10, 1), (14, 3))
    ]
    found = cell(records, "negative_elbo")
    assert (found.value, found.error) == (12, 2)
    assert found.spread == pytest.approx(math.sqrt(8))
    assert cell(records, "bleu") is None


def test_the_table_prints_what_is_there(folder, capsys):
    assert main(["bench", "seeds", "--data", "scenes", "--out", str(folder), "--table"]) == 0
    out = capsys.readouterr().out
    assert out == (folder / "table.md").read_text("utf-8")
    assert out == markdown(json.loads((folder / "table.json").read_text()), "scenes, budget small")
    assert "| lstm-lm (2 seeds) |" in out
    page = folder / "page.html"
    assert main(["bench", "page", str(folder), "--out", str(page)]) == 0
    command = f"isthmus bench seeds --data scenes --budget small --out {folder} --rows lstm-lm"
    assert f"{command} --seeds 2" in page.read_text("utf-8")
    capsys.readouterr()
    assert main(["bench", "seeds", "--rows", "lstm-lmm"]) == 1
    assert "got 'lstm-lmm', expected some of lstm-lm" in capsys.readouterr().err
    assert main(["bench", "seeds", "--data", "nowhere"]) == 1
    assert "give a path, or set ISTHMUS_DATA" in capsys.readouterr().err
