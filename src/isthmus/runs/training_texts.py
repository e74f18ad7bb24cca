"""The texts that a run was trained on, found again where they still lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from isthmus.data.corpus import TextCorpus, read, read_splits
from isthmus.data.hub import SCENES
from isthmus.errors import IsthmusError

FROM_SCENES = 20_000
"""Texts that stand for those of the built-in corpus, which has no end."""


def training_texts(record: Mapping[str, Any]) -> list[str]:
    """The training texts of a run.json, if its source has them and their fingerprint is the same.

    A run that was trained on an absolute path keeps only the name of its file, so that it can be
    shared; then, or if the file has changed or was streamed, there are none.
    """
    data = record.get("data", {})
    source = str(data.get("source", ""))
    if source.partition("/")[0] == SCENES and not Path(source).exists():
        return read(SCENES, split="train", limit=FROM_SCENES).texts
    streamed = record.get("settings", {}).get("data", {}).get("streaming", False)
    if streamed or not Path(source).is_file():
        return []
    with suppress(IsthmusError):  # it has changed and is no longer a corpus
        for corpus in _candidates(source, record.get("settings", {})):
            if corpus.fingerprint == data.get("fingerprint"):
                return corpus.texts
    return []


def _candidates(source: str, settings: Mapping[str, Any]) -> Iterator[TextCorpus]:
    """What training may have read of a file: all of it, or what was not held out."""
    data, seed = settings.get("data", {}), settings.get("train", {}).get("seed", 0)
    limit, embeddings = data.get("limit") or None, data.get("embeddings", "")
    yield read(source, limit=limit, embeddings=embeddings)
    yield read_splits(source, seed=seed, limit=limit, embeddings=embeddings).train
