"""Reading one file of examples: the formats that DATA may have."""

import csv
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.data import table
from isthmus.data.compressed import content_of, plain_name
from isthmus.errors import IsthmusError, reason_of

_MISSING = {"nan", "NaN", "null", "None", "<NA>"}
"""How programs write that there is no label."""
_WHOLE = re.compile(r"([+-]?[0-9]+)\.0+")


def clean_label(value: object) -> str | None:
    """A label as text, without white space around it; None if it is missing.

    1, 1.0, "1" and "1.0" are one label: a column of whole numbers with a gap in it becomes one of
    fractions in many programs. NaN, null and None, or their names, are no label.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    label = str(value).strip()
    if whole := _WHOLE.fullmatch(label):
        label = whole[1]
    return None if not label or label in _MISSING else label


class Rows:
    """The texts collected from one source, and how many were skipped, by reason."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.texts: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.notes: list[str] = []
        self._labels: list[str | None] = []
        self._ids: list[object] = []
        self._unlabelled = ""

    def add(self, text: str, label: object, line: int, own_id: object = None) -> None:
        """Add one example, or count it as skipped.

        Args:
            text: The text, unchanged from the source.
            label: Its label, see `clean_label`.
            line: Line or row number, from 1, for errors.
            own_id: What identifies the example, None if nothing does.
        """
        if "\0" in text:
            raise IsthmusError(f"{self.source}: the text of line {line} has a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise IsthmusError(
                f"{self.source}: the text of line {line} has half a surrogate pair (\\ud800 to "
                "\\udfff), which is no character: repair the escape"
            ) from None
        own = clean_label(label)
        if not text.strip():
            self.skipped["empty texts" if own else "empty lines"] += 1
            return
        if own is None and not self._unlabelled:
            written = str(label or "").strip()
            self._unlabelled = f"line {line}" + (f" ({written})" if written else "")
        self.texts.append(text)
        self._labels.append(own)
        self._ids.append(own_id)

    def check_order(self) -> None:
        """As the function of :mod:`isthmus.data.table`."""
        table.check_order(self.texts, self._labels, self.source)

    def ids(self) -> list[str] | None:
        """Return what identifies each text, or None if something is not identified."""
        if not self._ids or any(own is None or own != own for own in self._ids):
            return None
        return [clean_label(own) or "" for own in self._ids]

    def labels(self) -> list[str] | None:
        """Return the label of every text, or None if no text has one.

        Raises:
            IsthmusError: Some texts have a label and others have none.
        """
        present = [label for label in self._labels if label is not None]
        missing = len(self._labels) - len(present)
        if present and missing:
            raise IsthmusError(
                f"{self.source}: {missing:,} of {len(self._labels):,} texts have no label, the "
                f"first at {self._unlabelled}: label all texts, or drop the label column"
            )
        return present or None


def suffix_of(name: str) -> str | None:
    """Return the key of `READERS` that a file name ends with, compressed or not, or None."""
    plain = plain_name(name)
    return next((suffix for suffix in READERS if plain.endswith(suffix)), None)


def formats() -> str:
    """Name all formats, for help and errors: ".txt, .tsv (label TAB text), … or .parquet"."""
    *first, last = (f"{suffix} {reader.layout}".strip() for suffix, reader in READERS.items())
    return f"{', '.join(first)} or {last}"


def read_file(path: Path) -> Rows:
    """Read a file in any format of `READERS`, compressed or not.

    Args:
        path: An existing file.

    Returns:
        Its rows, possibly none.

    Raises:
        IsthmusError: The content does not match the suffix, or the suffix is unknown.
    """
    suffix = suffix_of(path.name)
    if suffix is None:
        raise IsthmusError(
            f"{path}: unknown format; expected a name ending in {formats()}, with or "
            "without .gz or .zst"
        )
    rows = Rows(str(path))
    content = content_of(path)
    if not content:
        raise IsthmusError(f"{path} is empty (0 bytes): expected one text per line")
    READERS[suffix].read(content, rows)
    return rows


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, compressed or not.

    Raises:
        IsthmusError: The file cannot be read, or is not UTF-8.
    """
    return decode(content_of(path), str(path))


def decode(content: bytes, source: str) -> str:
    """UTF-8 as text, without a byte-order mark.

    Raises:
        IsthmusError: It is not UTF-8, or has a NUL byte.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")  # byte-order mark
    nul = content.find(b"\0")
    if nul >= 0:
        line = content.count(b"\n", 0, nul) + 1
        raise IsthmusError(
            f"{source}: line {line} has a NUL byte; expected UTF-8 text: if it is UTF-16, convert "
            "it with iconv -f UTF-16 -t UTF-8"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise IsthmusError(
            f"{source}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}, "
            f"column {column}): convert the file, for example with iconv -f LATIN1 -t UTF-8"
        ) from None


def lines_of(text: str) -> list[str]:
    """Split a text at line feeds, and drop carriage returns before them.

    A text without a line feed is split at carriage returns, as old programs end their lines.
    str.splitlines would also split at U+2028, U+0085 and others, which are part of a text.
    """
    end = "\n" if "\n" in text else "\r"
    lines = [line.removesuffix("\r") for line in text.split(end)]
    return lines if lines[-1] else lines[:-1]


def _table(
    numbered: Iterable[tuple[int, list[str]]], rows: Rows, suffix: str, remedy: str
) -> None:
    """Add the rows of a table.

    Args:
        numbered: (line number, cells) of each row; no cells for an empty line.
        rows: Where they go.
        suffix: ".tsv" or ".csv".
        remedy: What to do about a row with too many or too few cells.
    """
    every = list(numbered)
    given = [cells for _, cells in every if cells]
    if len(given) < len(every):
        rows.skipped["empty lines"] += len(every) - len(given)
    if not given:
        return
    header, width = given[0], len(given[0])
    columns = table.columns(given, rows.source, suffix)
    rows.notes += [columns.note] if columns.note else []
    for place, (number, cells) in enumerate(row for row in every if row[1]):
        if columns.header and cells == header:
            if place:
                rows.skipped["repeated headers"] += 1
            continue
        if suffix == ".tsv" and (len(cells), width) == (1, 2):
            rows.add(cells[0], None, number)
            continue
        if len(cells) != width:
            raise IsthmusError(
                f"{rows.source}: line {number} has {len(cells)} columns, the first has {width}: "
                f"{remedy}"
            )
        text = " ".join(cells[column] for column in columns.texts)
        label, own = (None if n is None else cells[n] for n in (columns.label, columns.id))
        rows.add(text, label, number, own)
    if not columns.header:
        rows.check_order()


def _txt(content: bytes, rows: Rows) -> None:
    for number, line in enumerate(lines_of(decode(content, rows.source)), start=1):
        rows.add(line, None, number)


def _tsv(content: bytes, rows: Rows) -> None:
    text = decode(content, rows.source)
    mark = table.separator_of(text)
    if "\t" not in text and mark in text.partition("\n")[0]:
        raise IsthmusError(
            f"{rows.source}: {mark!r} separates the columns, expected a tab: name the file .csv"
        )
    lines = enumerate(lines_of(text), start=1)
    numbered = ((n, line.split("\t") if line.strip(" ") else []) for n, line in lines)
    remedy = "all lines need the same number; replace a tab within a text by a space"
    _table(numbered, rows, ".tsv", remedy)


def _csv(content: bytes, rows: Rows) -> None:
    text = decode(content, rows.source)
    mark, start = table.separator_of(text), 1
    if re.match("sep=.\r?\n", text):  # how Excel is told
        mark, text, start = text[4], text.partition("\n")[2], 2
    if mark != ",":
        rows.notes.append(f"columns separated by {mark!r}")
    limit = csv.field_size_limit(sys.maxsize)  # the default refuses fields above 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark)
    try:
        numbered = [(reader.line_num + start - 1, cells) for cells in reader]
        given = [cells for _, cells in numbered if cells]
        if mark == "," and given and not table.is_header(given):
            even = len(set(map(len, given))) == 1
            table.check_separator(text, given if even else None, rows.source)
        remedy = f'quote texts that contain {mark!r}: "…", with no space before the quotation mark'
        _table(numbered, rows, ".csv", remedy)
    except csv.Error as error:
        raise IsthmusError(
            f"{rows.source}: not CSV near line {reader.line_num} ({error}): double every "
            'quotation mark inside "…"'
        ) from None
    finally:
        csv.field_size_limit(limit)


def _jsonl(content: bytes, rows: Rows) -> None:
    for number, line in enumerate(lines_of(decode(content, rows.source)), start=1):
        add_line(line, rows, number)


def add_line(line: str, rows: Rows, number: int) -> None:
    """Add the record of a line of JSON; raises as `add_record`, or if it is none."""
    if not line.strip():
        rows.skipped["empty lines"] += 1
        return
    try:
        record = json.loads(line, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise IsthmusError(f"{rows.source}: line {number} is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise IsthmusError(
            f"{rows.source}: line {number} is not a JSON object; expected "
            '{"text": "…", "label": "…"}, label optional'
        )
    add_record(record, rows, number)


def _integer(digits: str) -> int | str:
    """A whole number; its digits where it is too long for int, which a record may hold."""
    return int(digits) if len(digits) < 1000 else digits


def add_record(record: dict[str, Any], rows: Rows, line: int) -> None:
    """Add an example from the keys `text`, or another of its names, and `label` of a record.

    Args:
        record: Keys and values of one example.
        rows: Where it goes.
        line: Line or row number, from 1, for errors.

    Raises:
        IsthmusError: The key `text` is missing, or a value has the wrong type.
    """
    names = tuple(record)
    place = table.by_name(names)
    if place.text is None:
        raise IsthmusError(
            f'{rows.source}: line {line} has no key "text", only {", ".join(names) or "none"}: '
            'rename the key that holds the text to "text"'
        )
    text = record[names[place.text]]
    label = None if place.label is None else record[names[place.label]]
    if text is None or text != text:
        rows.skipped["missing texts"] += 1
        return
    if not isinstance(text, str):
        raise IsthmusError(
            f"{rows.source}: the text of line {line} is {type(text).__name__}, expected a string"
        )
    if not isinstance(label, str | int | float | None):
        raise IsthmusError(
            f"{rows.source}: the label of line {line} is {type(label).__name__}, expected a "
            "string or a number"
        )
    if names[place.text] != "text" and (note := f"text = {names[place.text]}") not in rows.notes:
        rows.notes.append(note)
    rows.add(text, label, line, None if place.id is None else record[names[place.id]])


def _parquet(content: bytes, rows: Rows) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
        names = tuple(found.column_names)
        place = table.by_name(names)
        wanted = [names[one] for one in place if one is not None]
        records = found.select(wanted).to_pylist()
    except Exception as error:  # damaged values are errors of Python's own too
        raise IsthmusError(
            f"{rows.source} is not a whole Parquet file ({reason_of(error)})"
        ) from None
    if place.text is None:
        raise IsthmusError(
            f'{rows.source}: no column is named "text", only {", ".join(names)}: '
            "rename the column that holds the text"
        )
    for number, record in enumerate(records, start=1):
        add_record(record, rows, number)


class Reader(NamedTuple):
    """How to read one format."""

    read: Callable[[bytes, Rows], None]
    """Adds the examples in a file's content to the rows."""
    layout: str = ""
    """What a line contains, if that needs saying; in brackets."""


READERS: dict[str, Reader] = {
    ".txt": Reader(_txt),
    ".tsv": Reader(_tsv, "(label TAB text)"),
    ".csv": Reader(_csv),
    ".jsonl": Reader(_jsonl),
    ".parquet": Reader(_parquet),
}
"""Suffix → its reader. Help, errors and the reading of folders follow this table."""
