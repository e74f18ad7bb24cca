"""A signs report in the studio: its candidates, and the decisions written to its tables."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shlex
import threading
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, final

from isthmus.data.files import read_text
from isthmus.errors import IsthmusError
from isthmus.signs.decisions import MERGES, SIGN_LIST, SIGNS, SPLITS, apply_decisions

SHOWN: Final = 2000
"""Most candidates of a kind on the page; the tables have all."""
TABLES: Final = {"merge": MERGES, "split": SPLITS}
_STYLE = re.compile(r"\.p(\d+)\{background-image:url\(data:image/png;base64,([A-Za-z0-9+/=]+)\)\}")

Decision = Literal["merge", "split", "keep", ""]
Rows = list[dict[str, str]]


def is_report(folder: str) -> bool:
    """Whether ``isthmus signs report`` wrote this folder."""
    return all((Path(folder) / name).is_file() for name in (SIGNS, MERGES, SPLITS))


@final
class Report:
    """A signs report.

    Args:
        folder: Its folder, as the user wrote it.
    """

    def __init__(self, folder: str) -> None:
        self.path, self.folder = folder, Path(folder)
        self._writing = threading.Lock()
        self.signs = _rows(self.folder / SIGNS)
        self.place = {row["picture"]: place for place, row in enumerate(self.signs)}

    def run(self) -> dict[str, Any]:
        """The answer to GET /api/run."""
        nothing = dict.fromkeys(["space", "exchange", "control", "caption", "draw"], False)
        return {
            "name": self.folder.resolve().name,
            "kind": "signs",
            "system": "signs",
            "parameters": 0,
            "latent_size": 0,
            "labels": [],
            "null_code": False,
            "corpus": None,
            "can": {**nothing, "signs": True},
            "dimensions": [],
            "limits": {},
            "examples": [],
            "path": self.path,
            "command": shlex.join(["isthmus", "studio", self.path]),
        }

    def content(self) -> dict[str, Any]:
        """The answer to GET /api/signs."""
        merges, splits = (_rows(self.folder / table) for table in (MERGES, SPLITS))
        candidates = [self._merge(n, row) for n, row in enumerate(merges[:SHOWN], start=1)]
        candidates += [self._split(n, row) for n, row in enumerate(splits[:SHOWN], start=1)]
        return {
            "summary": self._summary(),
            "clusters": self._clusters(),
            "candidates": candidates,
            "merges": len(merges),
            "splits": len(splits),
        }

    def _summary(self) -> Any:
        path = self.folder / "summary.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # the tables suffice

    def _clusters(self) -> list[dict[str, Any]]:
        """Clusters with their pictures, the largest first."""
        members = _grouped(self.signs, "cluster")
        return [
            {
                "cluster": cluster,
                "size": len(rows),
                "pictures": [row["picture"] for row in rows],
                "names": [row["name"] for row in rows],
                "confidence": [_number(row.get("confidence", "")) for row in rows],
            }
            for cluster, rows in sorted(members.items(), key=lambda each: -len(each[1]))
        ]

    def _merge(self, number: int, row: dict[str, str]) -> dict[str, Any]:
        places = [place for place in ("first", "second", "third") if row.get(place)]
        pictures = [row[f"{place}_picture"] for place in places]
        used = {"cluster", "distance", *places, *(f"{place}_picture" for place in places)}
        return {
            **_candidate("merge", number, row, used | {"third", "third_picture"}),
            "names": [row[place] for place in places],
            "clusters": [row["cluster"]],
            "pictures": pictures,
            "score": _number(row.get("distance", "")),
        }

    def _split(self, number: int, row: dict[str, str]) -> dict[str, Any]:
        clusters = _grouped(self._named.get(row["name"], []), "cluster")
        parts = {name: [sign["picture"] for sign in signs] for name, signs in clusters.items()}
        return {
            **_candidate("split", number, row, {"name", "a_picture", "clusters", "pictures"}),
            "names": [row["name"]],
            "clusters": list(parts),
            "pictures": [picture for part in parts.values() for picture in part],
            "parts": [{"cluster": name, "pictures": part} for name, part in parts.items()],
            "score": None,
        }

    @cached_property
    def _named(self) -> dict[str, Rows]:
        """Working name → its signs."""
        return _grouped(self.signs, "name")

    @cached_property
    def _pictures(self) -> dict[int, bytes]:
        """The PNG of every picture, taken from the report's page."""
        page = read_text(self.folder / "index.html")
        return {int(n): base64.b64decode(content) for n, content in _STYLE.findall(page)}

    def picture(self, name: str) -> bytes:
        """The PNG of a picture.

        Raises:
            IsthmusError: The report has no such picture.
        """
        content = self._pictures.get(self.place.get(name, -1))
        if content is None:
            raise IsthmusError(f"id: got {name[:80]!r}, expected a picture of {SIGNS}")
        return content

    def decide(self, candidate: str, decision: Decision) -> dict[str, Any]:
        """Write a decision to the candidate's table; an empty one revokes it.

        Raises:
            IsthmusError: No such candidate, or a decision that does not apply to it.
        """
        kind, _, number = candidate.partition("-")
        if kind not in TABLES or not re.fullmatch(r"[1-9][0-9]{0,8}", number):
            raise IsthmusError(f"id: got {candidate[:80]!r}, expected merge-1, split-1, …")
        if decision not in (kind, "keep", ""):
            raise IsthmusError(f"decision: got {decision!r}, expected {kind}, keep or nothing")
        with self._writing:
            path = self.folder / TABLES[kind]
            header, rows, delimiter = _table(path)
            if int(number) > len(rows):
                raise IsthmusError(f"id: got {candidate}, but {path.name} has {len(rows):,} rows")
            rows[int(number) - 1]["decision"] = decision
            _write(path, header, rows, delimiter)
        script = (
            "from isthmus.studio.signs import Report\n\n"
            f"Report({self.path!r}).decide({candidate!r}, {decision!r})\n"
        )
        return {"id": candidate, "decision": decision, "python": script, "command": None}

    def apply(self) -> dict[str, Any]:
        """Write the sign list that follows from the decisions.

        Raises:
            IsthmusError: The decisions contradict each other.
        """
        with self._writing:
            path = apply_decisions(self.folder)
        rows = _rows(path)
        script = (
            "from pathlib import Path\n\n"
            "from isthmus.signs.decisions import apply_decisions\n\n"
            f"print(apply_decisions(Path({self.path!r})))\n"
        )
        return {
            "path": f"{self.path.rstrip('/')}/{SIGN_LIST}",
            "pictures": len(rows),
            "signs": len({row["sign"] for row in rows}),
            "python": script,
            "command": shlex.join(["isthmus", "signs", "apply", self.path]),
        }


def _candidate(kind: str, number: int, row: dict[str, str], used: set[str]) -> dict[str, Any]:
    """The fields of both kinds; ``more`` holds the columns that the studio does not use."""
    more = {key: value for key, value in row.items() if key not in used | {"decision"}}
    return {"id": f"{kind}-{number}", "kind": kind, "decision": row["decision"], "more": more}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _grouped(rows: Rows, column: str) -> dict[str, Rows]:
    """Rows by their value in a column."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def _rows(path: Path) -> Rows:
    return _table(path)[1]


def _table(path: Path) -> tuple[list[str], Rows, str]:
    """Columns, rows and delimiter of a table that the report wrote or a spreadsheet saved."""
    text = read_text(path)
    delimiter = ";" if text.partition("\n")[0].count(";") > 1 else ","
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    header = list(reader.fieldnames or [])
    needed = "picture" if path.name in (SIGNS, SIGN_LIST) else "decision"
    if needed not in header:
        raise IsthmusError(
            f"{path}: got no column {needed}, expected a table of isthmus signs report"
        )
    rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    return header, rows, delimiter


def _write(path: Path, header: list[str], rows: Rows, delimiter: str) -> None:
    """Write a table completely or not at all, so that no decision is lost."""
    draft = path.with_name(f".{path.name}.unfinished")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, header, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise IsthmusError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was changed"
        ) from None
