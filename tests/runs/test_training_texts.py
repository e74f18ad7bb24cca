"""A run's training texts are found again if, and only if, they are the same."""

from pathlib import Path

import pytest

from isthmus.data.corpus import read, read_splits
from isthmus.runs.training_texts import FROM_SCENES, training_texts

LINES = [f"text number {i}" for i in range(40)]


def record(source, fingerprint, **settings):
    return {"data": {"source": source, "fingerprint": fingerprint}, "settings": settings}


@pytest.fixture
def texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("\n".join(LINES), encoding="utf-8")
    return "texts.txt"


def test_what_was_held_out_is_not_among_them(texts):
    train = read_splits(texts, seed=3).train
    settings = {"train": {"seed": 3}, "data": {"limit": 0}}
    assert training_texts(record(texts, train.fingerprint, **settings)) == train.texts
    assert len(train) < len(LINES)
    assert training_texts(record(texts, read(texts).fingerprint)) == LINES


def test_a_limit_counts(texts):
    settings = {"train": {"seed": 0}, "data": {"limit": 10}}
    train = read_splits(texts, limit=10).train
    assert training_texts(record(texts, train.fingerprint, **settings)) == train.texts


def test_a_file_that_changed_or_went_gives_none(texts):
    known = record(texts, read(texts).fingerprint)
    Path(texts).write_text("\n".join(LINES[1:]), encoding="utf-8")
    assert training_texts(known) == []
    Path(texts).write_text("", encoding="utf-8")
    assert training_texts(known) == []
    Path(texts).unlink()
    assert training_texts(known) == []
    assert training_texts({}) == []


def test_the_built_in_corpus_is_always_there():
    found = training_texts(record("scenes/train", "any"))
    assert len(found) == FROM_SCENES
    assert found[:5] == read("scenes", split="train", limit=5).texts
