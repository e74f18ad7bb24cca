"""The folder of a run: claimed for one run, its JSON written whole and checked when read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from isthmus.errors import IsthmusError, in_one_line

SETTINGS_FILE = "settings.json"
RUN_FILE = "run.json"
"""What a finished run has, written last."""


@contextmanager
def claim(
    out: Path,
    identity: dict[str, Any],
    *,
    resume: bool,
    finished: str,
    leaves: Collection[str] = (SETTINGS_FILE,),
    work: Collection[str] = (),
) -> Iterator[bool]:
    """Hold a new folder, or check that the run in it is this one, and hold it.

    Args:
        out: The folder; must be empty or absent, unless resumed or left by a run that has done
            no work, which is replaced.
        identity: All that the run depends on: words → a value for JSON; saved in the folder.
        resume: Continue the run in the folder.
        finished: Name of the file that a finished run has.
        leaves: Names of all that a run leaves in its folder before it has done work.
        work: Names of the files, anywhere below, that show that it has.

    Yields:
        Whether a run without work was replaced.

    Raises:
        IsthmusError: The folder is in use, has no run to resume, or has another one.
    """
    path = out / SETTINGS_FILE
    if resume:
        _check_resumable(out, finished)
    fresh = out.is_dir() and _no_work_in(out, leaves, work) and _is_ours(path, identity)
    if not resume and out.exists() and not fresh:
        with _alone_in(out):  # that it is in use comes first: resuming would be refused as well
            pass
        raise IsthmusError(
            f"{out}: exists already; continue it with --resume and the settings that it has, or "
            "choose another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    with _alone_in(out):
        if resume:
            _check_identity(out, identity, fresh)
            yield False
            return
        replaced = path.is_file()
        for each in out.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        try:
            write_json(identity, path)
        except OSError:  # leave nothing that would refuse the corrected command
            shutil.rmtree(out, ignore_errors=True)
            raise
        yield replaced


def _no_work_in(out: Path, leaves: Collection[str], work: Collection[str]) -> bool:
    names = [each.name for each in out.iterdir()]
    known = all(name in leaves or ".unfinished" in name for name in names)
    return known and not any(path.name in work for path in out.rglob("*"))


def _is_ours(path: Path, identity: dict[str, Any]) -> bool:
    """Whether a settings file, if there is one, was written by :func:`claim`."""
    return not path.is_file() or read_json(path).keys() == identity.keys()


def _check_resumable(out: Path, finished: str) -> None:
    if (out / finished).is_file():
        raise IsthmusError(f"{out}: the run is finished, there is nothing to resume")
    if not (out / SETTINGS_FILE).is_file():
        raise IsthmusError(f"{out}: nothing to resume there; omit --resume to start a run")


def _check_identity(out: Path, identity: dict[str, Any], fresh: bool) -> None:
    before = read_json(out / SETTINGS_FILE)
    for part, now in identity.items():
        if before.get(part) != now:
            remedy = "choose another folder with --out"
            if fresh:
                remedy = "omit --resume to start anew, because it has done no work yet"
            raise IsthmusError(
                f"{out}: cannot be resumed, its {part} differ from this command's"
                f"{_difference(before.get(part), now)}; "
                f"use the same command as before, or {remedy}"
            )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Refuse a folder that another process works in; the system lets go of it, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IsthmusError(
                f"{folder}: another process is training there; wait for it or stop it first, or "
                "choose another folder with --out"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def _difference(before: Any, now: Any) -> str:
    """The first setting that differs, with both values; nothing for other parts."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    old, new = flattened(before), flattened(now)
    name = next(key for key in [*new, *old] if old.get(key) != new.get(key))
    return f" ({name}: {old.get(name)!r} there, {new.get(name)!r} here)"


def flattened(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, such as ``model.latent_size``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def write_json(record: Any, path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    unfinished.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        IsthmusError: The file is damaged.
    """
    with reading(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def reading(path: Path) -> AbstractContextManager[None]:
    """Turn whatever a file of a run makes a library raise into one line.

    Args:
        path: The file, or the folder of several that one call reads.
    """
    return in_one_line(f"{path}: damaged", "restore it or train again")


def check_files(folder: Path, sizes: dict[str, int]) -> None:
    """Check that files of a folder have the sizes that were recorded.

    Raises:
        IsthmusError: One is missing or has another size.
    """
    for name, size in sizes.items():
        file = folder / name
        if not os.path.isfile(file):  # Path.is_file raises where a name is too long
            raise IsthmusError(f"{folder}: {name} is missing; restore it or train again")
        if file.stat().st_size != size:
            raise IsthmusError(
                f"{file}: truncated or changed, expected {size:,} bytes, got "
                f"{file.stat().st_size:,}; restore it or train again"
            )
