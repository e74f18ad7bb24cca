"""Given vectors of texts, such as embeddings: files of them, and texts that carry theirs.

A text with its vector is an :class:`Embedded`, which is a text. So corpora, splits and samples
hold it as any other; a model that reads vectors finds it there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from isthmus.data.files import clean_label, lines_of, read_text
from isthmus.data.folders import SPLIT_NAMES
from isthmus.data.table import IDS
from isthmus.errors import IsthmusError, reason_of

NAMES: Final = ("embeddings", "embedding", "vectors", "vector", "emb")
"""Names of an array or column of vectors; the first that is there is taken, or the only one."""
FORMS: Final = (".npy", ".npz", ".parquet", ".jsonl", ".jsonl.gz")
_ROWS_AT_ONCE: Final = 8192


@final
class Embedded(str):
    """A text that carries the vector given for it, [E]."""

    __slots__ = ("vector",)
    vector: NDArray[Any]

    def __new__(cls, text: str, vector: NDArray[Any]) -> Self:
        """A text, and its vector [E]."""
        found = super().__new__(cls, text)
        found.vector = vector
        return found

    def __getnewargs__(self) -> tuple[str, NDArray[Any]]:  # type: ignore[override]
        return str(self), self.vector


@final
@dataclass(frozen=True)
class Vectors:
    """Vectors in the order of their source.

    Args:
        rows: [N E], numbers; of an .npy file they stay on the disk until they are read.
        ids: which text each belongs to, where the source says it.
        source: what errors call them.
    """

    rows: NDArray[Any]
    ids: list[str] | None
    source: str

    def __post_init__(self) -> None:
        shape = self.rows.shape
        if len(shape) != 2 or not shape[1]:
            raise IsthmusError(
                f"{self.source}: got an array of shape {list(shape)}, expected vectors in rows, "
                "[texts, numbers]"
            )
        if self.rows.dtype.kind not in "fiu":
            raise IsthmusError(
                f"{self.source}: got values of type {self.rows.dtype}, expected numbers"
            )
        if self.ids is not None and len(self.ids) != len(self.rows):
            raise IsthmusError(
                f"{self.source}: {len(self.ids):,} ids for {len(self.rows):,} vectors, expected "
                "one each"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def check(self) -> Self:
        """The vectors, all of which are finite and none of which is zero."""
        broken: list[int] = []
        empty: list[int] = []
        for first in range(0, len(self.rows), _ROWS_AT_ONCE):
            some = np.asarray(self.rows[first : first + _ROWS_AT_ONCE])
            broken += (first + np.flatnonzero(~np.isfinite(some).all(1))).tolist()
            empty += (first + np.flatnonzero(~some.any(1))).tolist()
        for places, what in ((broken, "hold NaN or infinity"), (empty, "are all zeros")):
            if places:
                raise IsthmusError(
                    f"{self.source}: {len(places):,} of {len(self):,} vectors {what}, the first "
                    f"is row {places[0] + 1}; embed these texts again, or leave them out of both "
                    "files"
                )
        return self


def as_vectors(given: Any, source: str = "vectors") -> Vectors:
    """Vectors [N E] as a user holds them: an array, a tensor of torch, lists of numbers.

    Raises:
        IsthmusError: They are no numbers in rows, or some are NaN, infinite or all zeros.
    """
    if hasattr(given, "detach"):  # a tensor, on whatever device, of whatever type
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    try:
        rows = np.asarray(given)
    except (TypeError, ValueError):
        raise IsthmusError(f"{source}: expected vectors of one width, in rows") from None
    return Vectors(rows, None, source).check()


def read_vectors(path: str, split: str = "train") -> Vectors:
    """Read vectors from a file: .npy, .npz, or a column of Parquet or .jsonl.

    Args:
        path: The file; ``FILE:COLUMN`` names the array or column, which is otherwise found by its
            name. A folder has a file for each split, such as train.npy and test.npy.
        split: Which of them to take.

    Raises:
        IsthmusError: There is no such file or column, it is no vectors, or some are NaN, infinite
            or all zeros.
    """
    name, column = path, ""
    if not Path(path).exists() and ":" in path:
        name, _, column = path.rpartition(":")
    place = Path(name)
    if place.is_dir():
        place = _of_split(place, split)
    if not place.is_file():
        raise IsthmusError(f"embeddings: {path} does not exist")
    form = next((form for form in FORMS if place.name.lower().endswith(form)), None)
    if form is None:
        raise IsthmusError(
            f"embeddings: {place} has an unknown format, expected a name ending in "
            f"{', '.join(FORMS)}"
        )
    if form == ".npy":
        return Vectors(_npy(place), None, str(place)).check()
    columns = {".npz": _npz, ".parquet": _parquet}.get(form, _jsonl)(place)
    chosen = column or _vector_column(columns, place)
    if chosen not in columns:
        raise IsthmusError(f"{place}: no column {column!r}, only {', '.join(columns)}")
    ids = next((columns[one] for one in columns if one.lower() in IDS), None)
    names = None if ids is None else [clean_label(one) or "" for one in _plain(ids)]
    return Vectors(_matrix(columns[chosen], place), names, str(place)).check()


def attach(
    texts: Sequence[str], ids: Sequence[str] | None, vectors: Vectors, source: str, skipped: int
) -> list[str]:
    """Give each text its vector: by ids where both sides have some, else by order.

    Args:
        texts: As they are read.
        ids: Of the texts.
        vectors: Theirs.
        source: What errors call the texts.
        skipped: Lines of the source without a text.

    Raises:
        IsthmusError: A text without a vector, two vectors of one id, or different numbers of both.
    """
    if ids is None or vectors.ids is None:
        if len(texts) != len(vectors):
            more = f" ({skipped:,} lines without a text were skipped)" if skipped else ""
            raise IsthmusError(
                f"embeddings: {vectors.source} has {len(vectors):,} vectors for the "
                f"{len(texts):,} texts of {source}{more}, expected one each in the same order; "
                "or give both a column id"
            )
        return [Embedded(text, row) for text, row in zip(texts, vectors.rows, strict=True)]
    places = {name: place for place, name in enumerate(vectors.ids)}
    if len(places) < len(vectors):
        double = next(n for place, n in enumerate(vectors.ids) if places[n] != place)
        raise IsthmusError(
            f"embeddings: {vectors.source} has several vectors of the id {double!r}, expected one"
        )
    missing = [name for name in ids if name not in places]
    if missing:
        raise IsthmusError(
            f"embeddings: {len(missing):,} of the {len(ids):,} texts of {source} have no vector "
            f"in {vectors.source}, the first has the id {missing[0]!r}"
        )
    rows = vectors.rows
    return [Embedded(text, rows[places[n]]) for text, n in zip(texts, ids, strict=True)]


def embedded(texts: Sequence[str], vectors: Any) -> list[str]:
    """Texts that carry their vectors, as a model takes them that was trained with embeddings.

    Args:
        texts: N texts.
        vectors: [N E] in the same order: an array, a tensor or lists of numbers.

    Raises:
        IsthmusError: Different numbers of both, or vectors that are none.

    Examples:
        >>> embedded(["a dog"], [[0.6, 0.8]])[0].vector
        array([0.6, 0.8])
    """
    return attach(list(texts), None, as_vectors(vectors), "texts", 0)


def width_of(texts: Sequence[Any]) -> int:
    """E, if the texts carry vectors; 0 if they do not."""
    first = texts[0] if len(texts) else None
    return len(first.vector) if isinstance(first, Embedded) else 0


def stacked(texts: Sequence[Any]) -> NDArray[np.float32]:
    """The vectors of texts that carry them, [N E]."""
    return np.stack([np.asarray(text.vector, dtype=np.float32) for text in texts])


def _plain(values: Any) -> list[Any]:
    found: list[Any] = values.tolist() if isinstance(values, np.ndarray) else values
    return found


def _of_split(folder: Path, split: str) -> Path:
    """The file of a split in a folder."""
    for name in SPLIT_NAMES[split]:
        for form in FORMS:
            if (folder / f"{name}{form}").is_file():
                return folder / f"{name}{form}"
    raise IsthmusError(
        f"embeddings: {folder} has no vectors of {split}, expected {split}.npy (or "
        f"{', '.join(FORMS[1:])})"
    )


def _npy(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # headers can be damaged in dozens of ways
        pickled = "pickle" in str(error) or "Python objects" in str(error)
        reason = "pickled objects, which are never read" if pickled else reason_of(error)
        raise IsthmusError(f"{path}: damaged or not an .npy file ({reason})") from None
    return found


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:
        pickled = "pickle" in str(error)
        reason = "pickled objects, which are never read" if pickled else reason_of(error)
        raise IsthmusError(f"{path}: damaged or not an .npz file ({reason})") from None


def _parquet(path: Path) -> dict[str, Any]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        return {name: _arrow(table.column(name)) for name in table.column_names}
    except Exception as error:
        raise IsthmusError(f"{path} is not a whole Parquet file ({reason_of(error)})") from None


def _arrow(column: Any) -> Any:
    """A column of lists of one length as an array [N E]; another as a list."""
    import pyarrow.types as kinds

    if not (kinds.is_list(column.type) or kinds.is_fixed_size_list(column.type)):
        return column.to_pylist()
    whole = column.combine_chunks()
    flat = whole.flatten().to_numpy(zero_copy_only=False)
    if len(whole) and not len(flat) % len(whole) and not whole.null_count:
        lengths = {len(whole)} if kinds.is_fixed_size_list(column.type) else None
        if lengths or len(set(whole.value_lengths().to_pylist())) == 1:
            return flat.reshape(len(whole), -1)
    return column.to_pylist()


def _jsonl(path: Path) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {}
    count = 0
    for number, line in enumerate(lines_of(read_text(path)), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise IsthmusError(f"{path}: line {number} is not JSON ({error})") from None
        if not isinstance(record, dict) or (count and record.keys() != columns.keys()):
            raise IsthmusError(f"{path}: line {number} has other keys than the first")
        for name, value in record.items():
            columns.setdefault(name, []).append(value)
        count += 1
    return dict(columns)


def _vector_column(columns: dict[str, Any], path: Path) -> str:
    """The name of the array or column that holds vectors."""
    lower = {name.lower(): name for name in columns}
    named = next((lower[name] for name in NAMES if name in lower), None)
    if named is not None:
        return named
    rows = [name for name, values in columns.items() if _is_rows(values)]
    if len(rows) != 1:
        found = f"{len(rows)} columns of vectors ({', '.join(rows)})" if rows else "none"
        raise IsthmusError(
            f"{path}: got {found} among {', '.join(columns) or 'no columns'}, expected one; name "
            f"it as in {path}:{NAMES[0]}"
        )
    return rows[0]


def _is_rows(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.ndim == 2 and values.dtype.kind in "fiu"
    return len(values) > 0 and isinstance(values[0], list) and len(values[0]) > 0


def _matrix(values: Any, path: Path) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise IsthmusError(
            f"{path}: the vectors are of several widths, or some are missing; expected one width"
        ) from None
