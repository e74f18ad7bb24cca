"""Tables: what separates their columns, which row is a header, which column is the text."""

import csv
import io
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from isthmus.errors import IsthmusError

TEXT_NAMES = (
    *("text", "texts", "sentence", "sentences", "review", "reviews", "review text", "content"),
    *("comment", "document", "tweet", "utterance", "caption"),
)
"""Names of a column of texts; the first of them takes precedence."""
_LABELS = ("label", "labels")
_LABEL_NAMES = {
    *_LABELS,
    *("class", "category", "target", "sentiment", "rating", "stars", "topic", "intent"),
    *("emotion", "genre"),
}
IDS = ("id", "ids", "idx", "index", "uid")
"""Names of a column that says which example a row is; the first takes precedence."""
_ID_NAMES = {"", *IDS, "user id"}
_SEPARATORS = ",;\t|"
_LONGEST_HEADER = 10_000
_WORDS_OF_A_NAME = 4
"""A cell with more is no name of a column."""


class Names(NamedTuple):
    """The places of text, label and id among the names of columns; None if unknown."""

    text: int | None
    label: int | None
    id: int | None


class Columns(NamedTuple):
    """Which columns of a table are the text, joined, and which is the label."""

    texts: tuple[int, ...]
    label: int | None
    header: bool
    note: str | None
    id: int | None = None


def _plain(name: str) -> str:
    """A name without its case and its punctuation: "Review_Text" is "review text"."""
    return re.sub(r"[\W_]+", " ", name).strip().lower()


def _is_id(name: str) -> bool:
    return name in _ID_NAMES or name.startswith("unnamed")


def _only(names: Sequence[str], known: Sequence[str]) -> int | None:
    """The place of the first known name, else of the only one of the others."""
    found = [place for place, name in enumerate(names) if name == known[0]]
    found = found or [place for place, name in enumerate(names) if name in known]
    return found[0] if len(found) == 1 else None


@lru_cache
def by_name(names: tuple[str, ...]) -> Names:
    """Find text, label and id by the names of columns, or of the keys of a record."""
    plain = [_plain(name) for name in names]
    return Names(_only(plain, TEXT_NAMES), _only(plain, _LABELS), _only(plain, IDS))


def _in_header(names: Sequence[str]) -> Names:
    """The same; of two columns one that is known tells what the other is."""
    text, label, own = by_name(tuple(names))
    if len(names) == 2:
        plain = [_plain(name) for name in names]
        if text is not None and not _is_id(plain[1 - text]):
            label = 1 - text
        elif text is None and label is not None:
            other = plain[1 - label]
            name = not _is_id(other) and len(other.split()) <= _WORDS_OF_A_NAME
            text = 1 - label if name else None
    return Names(text, label, own)


def _known(cells: Sequence[str]) -> list[int]:
    """The places of cells that only a header has; in a table of one column only "text" counts."""
    plain = [_plain(cell) for cell in cells]
    if len(plain) == 1:
        return [0] if plain[0] in TEXT_NAMES else []
    return [
        place
        for place, name in enumerate(plain)
        if name and (name in TEXT_NAMES or name in _LABEL_NAMES or _is_id(name))
    ]


def is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has a known name that is not a value of its column as well."""
    first = list(rows[0])
    later = [row for row in rows[1:] if list(row) != first]
    return any(
        all(len(row) <= place or row[place] != first[place] for row in later)
        for place in _known(first)
    )


def columns(rows: Sequence[Sequence[str]], source: str, suffix: str) -> Columns:
    """Find the columns of the text and the label.

    A first row with a known name in it is a header, whatever its other cells are.

    Args:
        rows: The cells of every row, at least one.
        source: For errors.
        suffix: ".tsv" or ".csv".

    Raises:
        IsthmusError: A header that does not tell which column is the text, or too many columns.
    """
    first = rows[0]
    shown = ", ".join(cell if len(cell) <= 20 else cell[:20] + "…" for cell in first)
    bare = all(cell.strip().isidentifier() for cell in first)
    if is_header(rows):
        text, label, own = _in_header(first)
        if text is not None:
            return Columns((text,), label, True, _note(first, text, label), own)
        bare = True
    elif len(first) == 1:
        note = "no header: each row is a text" if suffix == ".csv" else None
        return Columns((0,), None, False, note)
    # Without this check the columns of such a table could be confused with each other.
    elif len(first) == 2 and suffix == ".tsv":
        return Columns((1,), 0, False, None)
    if bare:
        raise IsthmusError(
            f'{source}: not clear which of the columns {shown} is the text: name it "text", and '
            'the label column, if any, "label"'
        )
    if suffix == ".tsv":
        raise IsthmusError(
            f"{source}: the first line has {len(first)} columns ({shown}); expected label TAB "
            "text: keep two columns (cut -f), or add a header that calls one of them text"
        )
    joined = "column 2 the text"
    if len(first) > 2:
        joined = f"columns 2 to {len(first)} joined are the text"
    note = f"no header: column 1 is the label, {joined}"
    return Columns(tuple(range(1, len(first))), 0, False, note)


def _note(names: Sequence[str], text: int, label: int | None) -> str:
    """What a header says, in words."""
    used = "text" if _plain(names[text]) == "text" else f"text = {names[text].strip()}"
    if label is not None:
        used += f", label = {names[label].strip()}"
    rest = [name.strip() or "''" for n, name in enumerate(names) if n not in (text, label)]
    return f"columns by header: {used}" + (f"; not used: {', '.join(rest)}" if rest else "")


def check_order(texts: Sequence[str], labels: Sequence[str | None], source: str) -> None:
    """Refuse a table without a header whose labels look like texts, and texts like labels.

    Raises:
        IsthmusError: Nearly every row has a label of its own, and the texts are few or one word.
    """
    known = [label for label in labels if label]
    if len(known) < 2 or len(set(known)) < 0.9 * len(known):
        return
    words = sum(len(label.split()) > 1 for label in known)
    few = len(set(texts)) <= len(texts) / 2
    short = words > len(known) / 2 and all(len(text.split()) == 1 for text in texts)
    if (few or short) and sum(map(len, known)) > sum(map(len, texts)):
        raise IsthmusError(
            f"{source}: column 1 has {len(set(known)):,} different values in {len(known):,} rows, "
            f"column 2 has {len(set(texts)):,}; expected the label first and the text second: "
            'swap them, or add a header with the names "text" and "label"'
        )


def separator_of(text: str) -> str:
    """What separates the columns of CSV, by its header; a comma without one."""
    for mark in _SEPARATORS:
        start = io.StringIO(text[:_LONGEST_HEADER], newline="")
        cells = next(filter(None, csv.reader(start, delimiter=mark)), [])
        if len(cells) > (mark != ",") and _known(cells):
            return mark
    return ","


def check_separator(text: str, rows: Sequence[Sequence[str]] | None, source: str) -> None:
    """Refuse rows without a header that another mark than a comma separates.

    Args:
        text: The content of the file.
        rows: As the commas separate them; None if they do not.
        source: For errors.

    Raises:
        IsthmusError: Every row has the same number of columns, two or more, by another mark.
    """
    for mark in _SEPARATORS[1:]:
        cells = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark) if row]
        width = {len(row) for row in cells}
        if len(cells) < 2 or len(width) > 1 or width == {1}:
            continue
        names = {row[0] for row in cells}
        if rows is None or len(rows[0]) == 1 or len(names) < len({row[0] for row in rows}):
            raise IsthmusError(
                f"{source}: {mark!r} seems to separate the columns, and no header says so; add "
                f'one, such as label{mark}text, or one of "text" alone if each row is a text'
            )
