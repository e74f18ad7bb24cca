"""Reading one file of examples: the formats that DATA may have."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.errors import IsthmusError


class Rows:
    """The texts collected from one source, and how many were skipped, by reason."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.texts: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.notes: list[str] = []
        self._labels: list[str | None] = []
        self._unlabelled_line = 0

    def add(self, text: str, label: str | None, line: int) -> None:
        """Add one example, or count it as skipped.

        Args:
            text: The text, unchanged from the source.
            label: Its label; None or white space if it has none.
            line: Line or row number, from 1, for errors.
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
        if not text.strip():
            self.skipped["empty texts" if label else "empty lines"] += 1
            return
        label = label if label and label.strip() else None
        if label is None and not self._unlabelled_line:
            self._unlabelled_line = line
        self.texts.append(text)
        self._labels.append(label)

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
                f"first at line {self._unlabelled_line}: label all texts, or drop the label column"
            )
        return present or None


def suffix_of(name: str) -> str | None:
    """Return the key of `READERS` that a file name ends with, or None; ".gz" may follow."""
    plain = name.lower().removesuffix(".gz")
    return next((suffix for suffix in READERS if plain.endswith(suffix)), None)


def formats() -> str:
    """Name all formats, for help and errors: ".txt, .tsv (label TAB text), … or .parquet"."""
    *first, last = (f"{suffix} {reader.layout}".strip() for suffix, reader in READERS.items())
    return f"{', '.join(first)} or {last}"


def read_file(path: Path) -> Rows:
    """Read a file in any format of `READERS`, compressed with gzip or not.

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
            f"{path}: unknown format; expected a name ending in {formats()}, with or without .gz"
        )
    rows = Rows(str(path))
    content = _bytes(path)
    if not content:
        raise IsthmusError(f"{path} is empty (0 bytes): expected one text per line")
    READERS[suffix].read(content, rows)
    return rows


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, compressed with gzip or not.

    Raises:
        IsthmusError: The file cannot be read, or is not UTF-8.
    """
    return _decode(_bytes(path), str(path))


def _bytes(path: Path) -> bytes:
    try:
        if not path.name.lower().endswith(".gz"):
            return path.read_bytes()
        with gzip.open(path) as file:
            return file.read()
    except EOFError:
        raise IsthmusError(f"{path}: the gzip data end too early: download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise IsthmusError(
            f"{path} is not complete gzip data ({error}): download it again, or drop the .gz "
            "from its name if it is not compressed"
        ) from None
    except OSError as error:
        raise IsthmusError(f"{path} cannot be read: {error.strerror or error}") from None


def _decode(content: bytes, source: str) -> str:
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

    str.splitlines would also split at U+2028, U+0085 and others, which are part of a text.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


class _Columns(NamedTuple):
    texts: tuple[int, ...]
    label: int | None
    header: bool
    note: str | None


def _columns(first: list[str], source: str, suffix: str) -> _Columns:
    """Find the columns of the text and the label from the first row.

    The first row is a header if all its cells are identifiers and one of them is "text".
    """
    names = [cell.strip().lower() for cell in first]
    shown = ", ".join(cell if len(cell) <= 20 else cell[:20] + "…" for cell in first)
    bare = all(name.isidentifier() for name in names)
    if bare and names.count("text") == 1:
        text = names.index("text")
        other = 1 - text if len(names) == 2 else None
        label = names.index("label") if "label" in names else other
        used = "text" if label is None else f"text, label = {names[label]}"
        return _Columns((text,), label, True, f"columns by header: {used}")
    if len(names) == 1:
        note = "no header: each row is a text" if suffix == ".csv" else None
        return _Columns((0,), None, False, note)
    # Without this check the columns of such a table could be confused with each other.
    if bare and (suffix == ".csv" or len(names) > 2):
        raise IsthmusError(
            f'{source}: none of the columns {shown} is named "text": name the text column '
            '"text" and the label column, if any, "label"'
        )
    if len(names) == 2:
        note = "no header: column 1 is the label, column 2 the text" if suffix == ".csv" else None
        return _Columns((1,), 0, False, note)
    if suffix == ".tsv":
        raise IsthmusError(
            f"{source}: the first line has {len(names)} columns ({shown}); expected label TAB "
            "text: keep two columns (cut -f), or add a header that calls one of them text"
        )
    note = f"no header: column 1 is the label, columns 2 to {len(names)} joined are the text"
    return _Columns(tuple(range(1, len(names))), 0, False, note)


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
    columns, width = None, 0
    for number, cells in numbered:
        if not cells:
            rows.skipped["empty lines"] += 1
            continue
        if columns is None:
            columns, width = _columns(cells, rows.source, suffix), len(cells)
            rows.notes += [columns.note] if columns.note else []
            if columns.header:
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
        rows.add(text, None if columns.label is None else cells[columns.label], number)


def _txt(content: bytes, rows: Rows) -> None:
    for number, line in enumerate(lines_of(_decode(content, rows.source)), start=1):
        rows.add(line, None, number)


def _tsv(content: bytes, rows: Rows) -> None:
    lines = enumerate(lines_of(_decode(content, rows.source)), start=1)
    numbered = ((n, line.split("\t") if line.strip(" ") else []) for n, line in lines)
    remedy = "all lines need the same number; replace a tab within a text by a space"
    _table(numbered, rows, ".tsv", remedy)


def _csv(content: bytes, rows: Rows) -> None:
    text = _decode(content, rows.source)
    limit = csv.field_size_limit(sys.maxsize)  # the default refuses fields above 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    numbered = ((reader.line_num, cells) for cells in reader)
    try:
        _table(numbered, rows, ".csv", 'quote texts that contain commas: "…"')
    except csv.Error as error:
        raise IsthmusError(
            f"{rows.source}: not CSV near line {reader.line_num} ({error}): double every "
            'quotation mark inside "…"'
        ) from None
    finally:
        csv.field_size_limit(limit)


def _jsonl(content: bytes, rows: Rows) -> None:
    for number, line in enumerate(lines_of(_decode(content, rows.source)), start=1):
        if not line.strip():
            rows.skipped["empty lines"] += 1
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise IsthmusError(f"{rows.source}: line {number} is not JSON ({error})") from None
        if not isinstance(record, dict):
            raise IsthmusError(
                f"{rows.source}: line {number} is not a JSON object; expected "
                '{"text": "…", "label": "…"}, label optional'
            )
        add_record(record, rows, number)


def add_record(record: dict[str, Any], rows: Rows, line: int) -> None:
    """Add an example from the keys `text` and, optionally, `label` of a record.

    Args:
        record: Keys and values of one example.
        rows: Where it goes.
        line: Line or row number, from 1, for errors.

    Raises:
        IsthmusError: The key `text` is missing, or a value has the wrong type.
    """
    if "text" not in record:
        raise IsthmusError(
            f'{rows.source}: line {line} has no key "text", only {", ".join(record) or "none"}: '
            'rename the key that holds the text to "text"'
        )
    text, label = record["text"], record.get("label")
    if text is None:
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
    rows.add(text, None if label is None else str(label), line)


def _parquet(content: bytes, rows: Rows) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise IsthmusError(f"{rows.source} is not a Parquet file ({reason})") from None
    wanted = [name for name in ("text", "label") if name in table.column_names]
    if "text" not in wanted:
        raise IsthmusError(
            f'{rows.source}: no column is named "text", only {", ".join(table.column_names)}: '
            "rename the column that holds the text"
        )
    for number, record in enumerate(table.select(wanted).to_pylist(), start=1):
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
