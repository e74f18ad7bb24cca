"""What users give: spaces or models, files or examples, one example or many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from isthmus.data.captioned import Example
from isthmus.data.corpus import TextCorpus
from isthmus.data.files import Rows, add_record
from isthmus.data.kind import Corpus
from isthmus.data.kinds import PICTURE
from isthmus.data.table import by_name
from isthmus.data.vectors import Vectors, as_vectors, read_vectors
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.codec import short

Data = Any
"""A path or a name, or examples: a sequence of them, a column, or a table with a text column."""

_AS_THEY_ARE = (str, bytes, dict, list, tuple, np.ndarray, Tensor, type(None))
"""What models take, or refuse, themselves."""


def model_of(space: Any) -> LatentModel:
    """The model of a space; a model is its own.

    Raises:
        IsthmusError: It is neither.
    """
    model = getattr(space, "model", space)
    if not isinstance(model, LatentModel):
        raise IsthmusError(
            f"space: got {short(space)}, expected a model or a space; isthmus.load and "
            "isthmus.Space.load read one from a run"
        )
    return model


def is_one(model: LatentModel, given: Any) -> bool:
    """Whether this is one example, and no sequence of them."""
    if isinstance(given, str | Example):
        return True
    pictures = model.member(PICTURE)
    if pictures is None or not isinstance(given, np.ndarray | Tensor):
        return False
    shape: tuple[int, ...] = pictures.codec.shape  # type: ignore[attr-defined]
    return tuple(given.shape) in (shape, shape[1:] if shape[0] == 1 else shape)


def _columns(given: Any) -> tuple[str, ...] | None:
    """Names of the columns of a table of datasets, pandas or polars; None of anything else."""
    names = getattr(given, "column_names", None)
    names = getattr(given, "columns", None) if names is None else names
    return None if names is None else tuple(map(str, names))


def examples_of(given: Any) -> Any:
    """Examples as a model takes them: those of a column as a list, the texts of a table.

    A table that is read like a list gives the names of its columns, or its rows.
    """
    if isinstance(given, _AS_THEY_ARE) or not hasattr(given, "__iter__"):
        return given
    names = _columns(given)
    if names is None:
        return list(given)
    place = by_name(names).text
    if place is None:
        raise IsthmusError(
            f"table: not clear which of the columns {', '.join(names)} is the text: name it "
            '"text", or give the column alone'
        )
    return list(given[names[place]])


def corpus_of_texts(given: Any, labels: Sequence[str | None] | None = None) -> TextCorpus:
    """A corpus of given texts; empty ones are skipped and counted, as those of a file are.

    Args:
        given: Texts, or a table with a column of texts and perhaps one of labels.
        labels: Of the texts.
    """
    if isinstance(given, dict) and labels is None and "train" in given:
        raise IsthmusError(
            f'data: got the splits {", ".join(given)}, expected one; give ["train"]'
        )
    if isinstance(given, dict | bytes | None) or not hasattr(given, "__iter__"):
        raise IsthmusError(f"data: got {short(given)}, expected a path or a list of texts")
    names = _columns(given)
    if names is None:
        return _of_texts(list(given), None if labels is None else list(labels))
    if labels is not None:
        return _of_texts(examples_of(given), list(labels))
    used = [names[place] for place in by_name(names) if place is not None] or names
    rows = Rows("table")
    for number, values in enumerate(zip(*(given[name] for name in used), strict=True), start=1):
        add_record(dict(zip(used, values, strict=True)), rows, number)
    return _corpus(rows)


def _of_texts(texts: list[Any], labels: list[str | None] | None) -> TextCorpus:
    if labels is not None and len(labels) != len(texts):
        raise IsthmusError(
            f"labels: got {len(labels):,} for {len(texts):,} texts, expected one each"
        )
    rows = Rows("texts")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise IsthmusError(
                f"texts: number {number} is of type {type(text).__name__}, expected a str; give "
                "pictures as a folder or an .npz file"
            )
        rows.add(text, None if labels is None else labels[number - 1], number)
    return _corpus(rows)


def _corpus(rows: Rows) -> TextCorpus:
    if not rows.texts:
        got = rows.skipped.total()
        raise IsthmusError(f"{rows.source}: got {got:,}, none of which has a character")
    return TextCorpus(rows.texts, rows.labels(), rows.source, dict(rows.skipped), rows.notes)


def corpus_named(model: LatentModel, data: Data) -> tuple[Corpus | None, Any]:
    """The corpus that ``data`` names, if it names one, and its examples."""
    if not isinstance(data, str | Path):
        return None, examples_of(data)
    corpus = model.kind.read(str(data), model.config.to_dict())
    return corpus, corpus.examples


def vectors_of(given: Any, split: str = "train") -> Vectors:
    """Vectors from a file, or as a user holds them.

    Args:
        given: A file as for ``isthmus train --embeddings``, an array, a tensor, lists of numbers.
        split: Which file of a folder.
    """
    from_file = isinstance(given, str | Path)
    return read_vectors(str(given), split) if from_file else as_vectors(given)


def check_least(least: int, **values: int) -> None:
    """Refuse what is no whole number of at least that much."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise IsthmusError(f"{name}: got {short(value)}, expected a whole number ≥ {least}")
