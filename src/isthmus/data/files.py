"""One file of examples, read to rows: the forms that DATA may take."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.errors import IsthmusError

FORMS = (".txt", ".tsv", ".csv", ".jsonl", ".parquet")


class Rows:
    """The texts of one source as they are collected, with what was skipped and why."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.texts: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.notes: list[str] = []
        self._labels: list[str | None] = []
        self._unlabelled_line = 0

    def add(self, text: str, label: str | None, line: int) -> None:
        """Take one example, or count why it is skipped.

        Args:
            text: The text as it stands in the source.
            label: Its label; None or nothing but white space = there is none.
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
        """Return one label for every text, or None where no text has one.

        Raises:
            IsthmusError: Some texts have a label and others have none.
        """
        present = [label for label in self._labels if label is not None]
        missing = len(self._labels) - len(present)
        if present and missing:
            raise IsthmusError(
                f"{self.source}: {missing:,} of {len(self._labels):,} texts have no label, the "
                f"first at line {self._unlabelled_line}: label all, or remove the label column"
            )
        return present or None


def form_of(name: str) -> str | None:
    """Return the form that a file name ends with (".txt", …), or None; ".gz" may follow."""
    plain = name.lower().removesuffix(".gz")
    return next((form for form in FORMS if plain.endswith(form)), None)


def read_file(path: Path) -> Rows:
    """Read a `.txt`, `.tsv`, `.csv`, `.jsonl` or `.parquet` file, `.gz` or not.

    Args:
        path: An existing file.

    Returns:
        Its rows; there may be none.

    Raises:
        IsthmusError: The file cannot be read as its suffix says.
    """
    form = form_of(path.name)
    if form is None:
        raise IsthmusError(
            f"{path}: unknown form; expected a name that ends in {', '.join(FORMS)}, or one of "
            "these with .gz"
        )
    rows = Rows(str(path))
    content = _bytes(path)
    if not content:
        raise IsthmusError(f"{path} is empty (0 bytes): expected one text a line")
    if form == ".parquet":
        _parquet(content, rows)
        return rows
    text = _decode(content, path)
    match form:
        case ".txt":
            for number, line in enumerate(lines_of(text), start=1):
                rows.add(line, None, number)
        case ".tsv":
            _tsv(text, rows)
        case ".csv":
            _csv(text, rows)
        case ".jsonl":
            _jsonl(text, rows)
    return rows


def read_text(path: Path) -> str:
    """Return the whole content of a UTF-8 file, `.gz` or not.

    Raises:
        IsthmusError: The file cannot be read, or is no UTF-8 text.
    """
    return _decode(_bytes(path), path)


def _bytes(path: Path) -> bytes:
    try:
        if not path.name.lower().endswith(".gz"):
            return path.read_bytes()
        with gzip.open(path) as file:
            return file.read()
    except EOFError:
        raise IsthmusError(f"{path}: the gzip data end too early: fetch the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise IsthmusError(
            f"{path} is not whole gzip data ({error}): fetch it again, or drop the .gz from its "
            "name if it is not compressed"
        ) from None
    except OSError as error:
        raise IsthmusError(f"{path} cannot be read: {error.strerror or error}") from None


def _decode(content: bytes, path: Path) -> str:
    content = content.removeprefix(b"\xef\xbb\xbf")  # byte-order mark
    nul = content.find(b"\0")
    if nul >= 0:
        line = content.count(b"\n", 0, nul) + 1
        raise IsthmusError(
            f"{path}: line {line} has a NUL byte; expected UTF-8 text: if it is UTF-16, convert "
            "it with iconv -f UTF-16 -t UTF-8"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise IsthmusError(
            f"{path}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}, the {column}. "
            "of the line): convert the file, for example with iconv -f LATIN1 -t UTF-8"
        ) from None


def lines_of(text: str) -> list[str]:
    """Lines of a text.

    str.splitlines would also split at U+2028, U+0085 and others, which are part of a text.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


class _Columns(NamedTuple):
    texts: tuple[int, ...]
    label: int | None
    header: bool
    note: str | None


def _columns(first: list[str], source: str, form: str) -> _Columns:
    """Decide from the first row which columns hold the text and the label.

    A header is a first row of bare names, one of them "text".
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
        note = "no header: every row is a text" if form == ".csv" else None
        return _Columns((0,), None, False, note)
    # A table with its own names would be taken for labels and texts in the wrong order.
    if bare and (form == ".csv" or len(names) > 2):
        raise IsthmusError(
            f'{source}: none of the columns {shown} is named "text": name the column of the '
            'texts "text" and, if there is one, that of the labels "label"'
        )
    if len(names) == 2:
        note = "no header: column 1 is the label, column 2 the text" if form == ".csv" else None
        return _Columns((1,), 0, False, note)
    if form == ".tsv":
        raise IsthmusError(
            f"{source}: the first line has {len(names)} columns ({shown}); expected label TAB "
            "text: keep two columns (cut -f), or add a header that names one of them text"
        )
    note = f"no header: column 1 is the label, columns 2 to {len(names)} joined are the text"
    return _Columns(tuple(range(1, len(names))), 0, False, note)


def _add_cells(cells: list[str], columns: _Columns, rows: Rows, line: int) -> None:
    text = " ".join(cells[column] for column in columns.texts)
    rows.add(text, None if columns.label is None else cells[columns.label], line)


def _tsv(text: str, rows: Rows) -> None:
    columns, width = None, 0
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip(" "):
            rows.skipped["empty lines"] += 1
            continue
        cells = line.split("\t")
        if columns is None:
            columns, width = _columns(cells, rows.source, ".tsv"), len(cells)
            rows.notes += [columns.note] if columns.note else []
            if columns.header:
                continue
        if len(cells) == 1 and width == 2:
            rows.add(line, None, number)
        elif len(cells) != width:
            raise IsthmusError(
                f"{rows.source}: line {number} has {len(cells)} columns, the first has {width}: "
                "every line must have the same; write a tab within a text as a space"
            )
        else:
            _add_cells(cells, columns, rows, number)


def _csv(text: str, rows: Rows) -> None:
    columns, width = None, 0
    limit = csv.field_size_limit(sys.maxsize)  # the default refuses fields above 128 KiB
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        for cells in reader:
            if not cells:
                rows.skipped["empty lines"] += 1
                continue
            if columns is None:
                columns, width = _columns(cells, rows.source, ".csv"), len(cells)
                rows.notes += [columns.note] if columns.note else []
                if columns.header:
                    continue
            if len(cells) != width:
                raise IsthmusError(
                    f"{rows.source}: the row that ends at line {reader.line_num} has {len(cells)} "
                    f'columns, the first has {width}: put texts with commas into "…"'
                )
            _add_cells(cells, columns, rows, reader.line_num)
    except csv.Error as error:
        raise IsthmusError(
            f"{rows.source}: not CSV near line {reader.line_num} ({error}): write a quotation "
            'mark within "…" twice'
        ) from None
    finally:
        csv.field_size_limit(limit)


def _jsonl(text: str, rows: Rows) -> None:
    for number, line in enumerate(lines_of(text), start=1):
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
                '{"text": "…", "label": "…"}, the label optional'
            )
        add_record(record, rows, number)


def add_record(record: dict[str, Any], rows: Rows, line: int) -> None:
    """Take the keys `text` and, if it is there, `label` of a record.

    Args:
        record: Keys and values of one example.
        rows: Where it goes.
        line: Line or row number, from 1, for errors.

    Raises:
        IsthmusError: There is no key `text`, or a value is of the wrong type.
    """
    if "text" not in record:
        raise IsthmusError(
            f'{rows.source}: line {line} has no key "text", only {", ".join(record) or "none"}: '
            'rename the key of the texts to "text"'
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
            "rename the column of the texts"
        )
    for number, record in enumerate(table.select(wanted).to_pylist(), start=1):
        add_record(record, rows, number)
