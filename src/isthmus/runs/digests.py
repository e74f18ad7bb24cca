"""SHA-256 of files: what was written, so that any change of a bit is found when it is read.

A JSON file that holds digests has them under ``"digests"``: file name → SHA-256, and under its own
name that of its own other content, so that it can be no more silently damaged than the files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
"""What :func:`write_manifest` writes."""
KEY = "digests"
_PIECE = 8 << 20

MISSING = "missing"
CHANGED = "changed"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    # Large pieces: between two of them another thread, such as one that loads the file, has the
    # interpreter for 5 ms, which with hashlib.file_digest's pieces of 256 KiB is most of the time.
    piece = memoryview(bytearray(min(_PIECE, path.stat().st_size + 1)))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            found.update(piece[:count])
    return found.hexdigest()


def damaged(folder: Path, digests: Mapping[str, str]) -> dict[str, str]:
    """The files of a folder that are not as they were written: name → "missing" or "changed".

    Files without a digest are ignored. A file that cannot be read counts as changed.
    """
    found = {}
    for name, expected in digests.items():
        path = folder / name
        if not path.is_file():
            found[name] = MISSING
            continue
        try:
            whole = digest(path) == expected
        except OSError:  # the disk itself
            whole = False
        if not whole:
            found[name] = CHANGED
    return found


def seal(record: dict[str, Any], folder: Path, names: Iterable[str], own: str) -> None:
    """Add the digests of files, and of the record itself, to a record that will be JSON.

    Args:
        record: What the JSON file will hold, complete but for the digests; changed in place.
        folder: Where the files are.
        names: The files, relative to the folder, with forward slashes.
        own: Name of the JSON file.
    """
    record[KEY] = {name: digest(folder / name) for name in names}
    record[KEY][own] = _own_digest(record, own)


def sealed(record: Mapping[str, Any], own: str) -> dict[str, str] | None:
    """The digests of a record's files, without its own; None if the record was changed since.

    Args:
        record: As read from the JSON file.
        own: Name of the JSON file.
    """
    digests = record.get(KEY)
    if not isinstance(digests, dict) or digests.get(own) != _own_digest(record, own):
        return None
    return {name: value for name, value in digests.items() if name != own}


def _own_digest(record: Mapping[str, Any], own: str) -> str:
    """SHA-256 of all values in a record but this one; white space and the order do not count."""
    content = json.loads(json.dumps(record))  # as it will be read: tuples are lists, keys text
    content[KEY].pop(own, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write ``manifest.json`` with the digests of files, whole or not at all, as the last file."""
    record: dict[str, Any] = {}
    seal(record, folder, sorted(names), MANIFEST)
    unfinished = folder / f".unfinished-{MANIFEST}"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, str] | None:
    """The digests in ``manifest.json``; None if the file is missing or damaged."""
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return sealed(record, MANIFEST) if isinstance(record, dict) else None
