"""From texts with vectors to a run, its figures, and texts for vectors without any."""

from __future__ import annotations

import json

import numpy as np
import pytest

import isthmus as package
from tiny import TEXTS

ROWS = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Texts, their vectors, and a run of a few steps without a recipe."""
    folder = tmp_path_factory.mktemp("invert")
    texts = [TEXTS[n % len(TEXTS)] for n in range(len(ROWS))]
    (folder / "texts.txt").write_text("\n".join(texts))
    np.save(folder / "vectors.npy", ROWS)
    return folder


@pytest.fixture(scope="module")
def run(files, isthmus):
    out = files / "run"
    words = ["--embeddings", files / "vectors.npy", "--train.steps", "4", "--minutes", "0"]
    done = isthmus("train", files / "texts.txt", "--out", out, *words, "--train.validation", "20")
    assert done.code == 0, done.err
    assert "vectors of 6 numbers, no encoder" in done.err
    return out


def test_the_run_is_measured_like_any_other(run, files, isthmus):
    record = json.loads((run / "run.json").read_text())
    assert record["settings"]["data"]["embeddings"] == "vectors.npy"
    words = ["--embeddings", files / "vectors.npy", "--samples", "3", "--texts", "4", "--json"]
    done = isthmus("evaluate", run, files / "texts.txt", *words)
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert figures["sentences"] == 120
    assert figures["mutual_information"] <= figures["mutual_information_limit"]
    assert "swap_gap" in figures


def test_a_bare_text_is_one_line(run, files, isthmus):
    done = isthmus("evaluate", run, files / "texts.txt")
    assert done.code == 1
    assert "comes without a vector" in done.err.splitlines()[-1]


def test_vectors_become_texts_and_texts_give_figures(run, files, isthmus):
    done = isthmus("invert", run, files / "vectors.npy", "--limit", "5")
    assert done.code == 0, done.err
    texts = done.out.splitlines()
    assert len(texts) == 5
    space = package.load(run)
    assert package.invert(space, ROWS[:5]) == texts == space.invert(ROWS[:5])
    words = ["--limit", "5", "--texts", files / "texts.txt", "--json"]
    words += ["--training", files / "texts.txt", "--training-embeddings", files / "vectors.npy"]
    done = isthmus("invert", run, files / "vectors.npy", *words)
    assert done.code == 0, done.err
    *records, figures = map(json.loads, done.out.splitlines())
    assert [record["text"] for record in records] == texts
    assert figures["nearest_exact_match"] == 1  # each is its own nearest training text
    assert figures["nats_without"] > 0


def test_a_mismatch_stops_before_anything_is_trained(files, isthmus):
    np.save(files / "few.npy", ROWS[:7])
    words = ["--embeddings", files / "few.npy", "--out", files / "other"]
    done = isthmus("train", files / "texts.txt", *words)
    assert done.code == 1
    assert "has 7 vectors for the 120 texts" in done.err.splitlines()[-1]
    assert not (files / "other").exists()


def test_in_python_arrays_go_with_lists(tmp_path):
    texts = [TEXTS[n % len(TEXTS)] for n in range(60)]
    small = {"train": {"steps": 2, "minutes": 0.0, "evaluations": 1}}
    space = package.fit(texts, embeddings=ROWS[:60], **small)
    assert space.config.vector_size == 6
    pairs = package.embedded(texts[:3], ROWS[:3])
    assert space.encode(pairs).mean.shape[0] == 3
    with pytest.raises(package.IsthmusError, match="expected a file as well"):
        package.fit("scenes", embeddings=ROWS)
