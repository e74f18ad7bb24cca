"""Tables for an expert's decisions, and the sign list that follows from them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from isthmus.data.files import read_text
from isthmus.errors import IsthmusError
from isthmus.signs.candidates import Merge, Split
from isthmus.signs.clusters import Labels
from isthmus.signs.inscriptions import Signs

SIGNS, MERGES, SPLITS, SIGN_LIST = "signs.csv", "merges.csv", "splits.csv", "signlist.csv"
MERGE_COLUMNS = (
    *("decision", "first", "second", "third", "cluster", "distance", "agreement"),
    *("first_picture", "second_picture", "third_picture"),
)
Unit = tuple[str, str]
"""A name and, if the name is split, a cluster; otherwise an empty string."""


def write_tables(
    folder: Path,
    signs: Signs,
    names: Sequence[str],
    clusters: Labels,
    confidence: NDArray[np.float64],
    merges: Sequence[Merge],
    agreement: NDArray[np.float64],
    splits: Sequence[Split],
) -> None:
    """Write signs.csv, merges.csv and splits.csv, with an empty column ``decision``."""
    files = signs.files
    _write(
        folder / SIGNS,
        ["picture", "name", "cluster", "confidence", "tokens"],
        zip(files, names, clusters, map("{:.3f}".format, confidence), signs.counts, strict=True),
    )
    _write(folder / MERGES, MERGE_COLUMNS, _merge_rows(files, names, merges, agreement))
    _write(
        folder / SPLITS,
        ["decision", "name", "a_picture", "clusters", "pictures"],
        (
            [
                "",
                split.name,
                files[next(iter(split.parts.values()))[0]],
                " ".join(map(str, split.parts)),
                " ".join(str(len(part)) for part in split.parts.values()),
            ]
            for split in splits
        ),
    )


def _merge_rows(
    files: Sequence[str],
    names: Sequence[str],
    merges: Sequence[Merge],
    agreement: NDArray[np.float64],
) -> Iterator[list[object]]:
    """A row of MERGE_COLUMNS for each candidate; pairs leave the third name empty."""
    for merge, agreed in zip(merges, agreement, strict=True):
        empty = [""] * (3 - len(merge.pictures))
        figures = [merge.cluster, f"{merge.distance:.4f}", f"{agreed:.3f}"]
        named, shown = ([of[p] for p in merge.pictures] for of in (names, files))
        yield ["", *named, *empty, *figures, *shown, *empty]


def check_undecided(folder: Path) -> None:
    """Refuse to overwrite tables that hold decisions.

    Raises:
        IsthmusError: merges.csv or splits.csv holds a decision.
    """
    for name in (MERGES, SPLITS):
        if (folder / name).is_file() and any(row["decision"] for row in _rows(folder / name)):
            raise IsthmusError(
                f"{folder / name}: holds decisions, which a new report would overwrite; write to "
                "another folder, or move the file away"
            )


def apply_decisions(folder: Path) -> Path:
    """Write signlist.csv (picture, name, sign) from the decisions in merges.csv and splits.csv.

    ``merge`` makes the names of a row one sign, named after the most frequent of them. ``split``
    divides a name by cluster into NAME/1, NAME/2, …; a merge of a split name takes the part in
    its cluster. ``keep`` states that the names of a row are different signs.

    Raises:
        IsthmusError: An unknown decision, or contradictory ones; nothing is written then.
    """
    table = _rows(folder / SIGNS)
    of_picture = {row["picture"]: row for row in table}
    merges = _decided(folder / MERGES, ("merge", "keep"), of_picture)
    splits = _decided(folder / SPLITS, ("split", "keep"), of_picture)
    split_names = {of_picture[p]["name"] for word, [p] in splits if word == "split"}

    def unit(picture: str) -> Unit:
        row = of_picture[picture]
        return row["name"], row["cluster"] if row["name"] in split_names else ""

    groups = DisjointSet(unit(picture) for picture in of_picture)
    for word, pictures in merges:
        if word == "merge":
            for other in pictures[1:]:
                groups.merge(unit(pictures[0]), unit(other))
    _check(groups, [[unit(p) for p in pictures] for word, pictures in merges if word == "keep"])
    called = _names(groups, table, unit)
    _write(
        folder / SIGN_LIST,
        ["picture", "name", "sign"],
        ([p, row["name"], called[groups[unit(p)]]] for p, row in of_picture.items()),
    )
    return folder / SIGN_LIST


def _check(groups: DisjointSet, kept: Sequence[Sequence[Unit]]) -> None:
    """Refuse merges that join names kept apart, or the parts of a split name."""
    faults = [
        f"{', '.join(name for name, _ in units)} are kept apart and merged"
        for units in kept
        if len({groups[unit] for unit in units}) == 1
    ]
    parts = Counter((name, groups[name, part]) for name, part in groups if part)
    faults += [f"{name} is split and merged again" for (name, _), n in parts.items() if n > 1]
    if faults:
        shown = "; ".join(sorted(set(faults)))
        raise IsthmusError(f"decisions contradict each other: {shown}; change one of each")


def _names(
    groups: DisjointSet, table: Sequence[dict[str, str]], unit: Callable[[str], Unit]
) -> dict[Unit, str]:
    """Group → name of its sign."""
    tokens = Counter[Unit]()
    for row in table:
        tokens[unit(row["picture"])] += int(row["tokens"])
    number: Counter[str] = Counter()
    label = {}
    for name, part in sorted(groups, key=lambda u: (u[0], -tokens[u], u[1])):
        number[name] += 1
        label[name, part] = f"{name}/{number[name]}" if part else name
    called: dict[Unit, str] = {}
    for each in sorted(groups, key=lambda u: (-tokens[u], label[u])):
        called.setdefault(groups[each], label[each])
    return called


def _decided(
    path: Path, words: tuple[str, str], known: dict[str, dict[str, str]]
) -> list[tuple[str, list[str]]]:
    """The rows with a decision: the decision, and the pictures."""
    found = []
    for number, row in enumerate(_rows(path), start=2):
        word = row["decision"].lower()
        if not word:
            continue
        if word not in words:
            raise IsthmusError(
                f"{path}: row {number}: got the decision {word!r}, expected {' or '.join(words)}, "
                "or nothing"
            )
        pictures = [value for key, value in row.items() if key.endswith("_picture") and value]
        unknown = [picture for picture in pictures if picture not in known]
        if unknown or not pictures:
            named = repr(unknown[0]) if unknown else "no picture"
            raise IsthmusError(f"{path}: row {number}: got {named}, expected a picture of {SIGNS}")
        found.append((word, pictures))
    return found


def _write(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table, as written or as saved by a spreadsheet that separates by semicolons."""
    text = read_text(path)
    semicolons = text.partition("\n")[0].count(";") > 1
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if semicolons else ",")
    needed = {"picture", "name", "cluster", "tokens"} if path.name == SIGNS else {"decision"}
    if missing := needed - set(reader.fieldnames or []):
        raise IsthmusError(
            f"{path}: has no column {min(missing)}, expected a table of isthmus signs report"
        )
    return [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
