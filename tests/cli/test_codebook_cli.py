"""Verbs on a run whose latents are entries of a codebook."""

import json

import numpy as np
import pytest
import torch

from isthmus.explore.codebook import codebook
from isthmus.models.generation import Generation
from isthmus.runs import bundle
from tiny import TEXTS, system


@pytest.fixture(scope="module")
def model():
    return system("codebook-aligned")


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    metrics = {"sentences": 6, "iw_samples": 1, "aggregate_standard_deviation": [1.0] * 20}
    run = tmp_path_factory.mktemp("runs") / "codebook"
    bundle.save(model, run, {"settings": {}, "data": {}, "seed": 0, "metrics": metrics})
    return run


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def rows(result):
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_entries_are_listed(isthmus, model, run, texts):
    expected = codebook(model, TEXTS)
    found = rows(isthmus("codebook", run, texts, "--json"))
    assert [(row["code"], row["count"]) for row in found] == [
        (entry.code, entry.count) for entry in expected
    ]
    plain = isthmus("codebook", run, texts)
    assert [int(line.split()[0]) for line in plain.out.splitlines()] == [e.code for e in expected]
    used = len(expected)
    assert f"{used} of 4 entries are used, by 6 texts" in plain.err


def test_codes_go_out_and_a_changed_one_comes_back_as_another_text(
    isthmus, model, run, texts, tmp_path
):
    found = rows(isthmus("encode", run, texts))
    mean = model.encode(TEXTS).mean
    codes = model.codebook.codes(mean)
    assert [row["codes"] for row in found] == codes.tolist()
    assert set(found[0]) == {"text", "mean", "codes"}
    arrays = tmp_path / "z.npz"
    assert isthmus("encode", run, texts, "--out", arrays).code == 0
    assert np.load(arrays)["codes"].tolist() == codes.tolist()
    lines = tmp_path / "z.jsonl"
    found[0]["codes"][0] = (found[0]["codes"][0] + 1) % 4
    lines.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    decoded = rows(isthmus("decode", run, lines, "--json", "--max-new-tokens", "6"))
    changed = model.codebook(torch.tensor([row["codes"] for row in found]))
    written = model.decode(changed, Generation(max_new_tokens=6))
    assert [row["text"] for row in decoded] == written
    found[0]["codes"][0] = 4
    lines.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    wrong = isthmus("decode", run, lines)
    assert wrong.code == 1
    assert "codes of this run are whole numbers from 0 to 3" in wrong.err
