"""The folder of a run: claimed for one run, its JSON written whole and checked when read."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from isthmus.errors import IsthmusError

SETTINGS_FILE = "settings.json"


def claim(out: Path, identity: dict[str, Any], *, resume: bool, finished: str) -> None:
    """Take a new folder, or check that the run in it is this one.

    Args:
        out: The folder; must be empty or absent, unless resumed.
        identity: All that the run depends on: words → a value for JSON; saved in the folder.
        resume: Continue the run in the folder.
        finished: Name of the file that a finished run has.

    Raises:
        IsthmusError: The folder is in use, has no run to resume, or has another one.
    """
    path = out / SETTINGS_FILE
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise IsthmusError(
                f"{out}: exists already; continue it with --resume, or choose another folder "
                "with --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        try:
            path.write_text(json.dumps(identity, indent=1), encoding="utf-8")
        except OSError:  # leave nothing that would refuse the corrected command
            path.unlink(missing_ok=True)
            with suppress(OSError):
                out.rmdir()
            raise
        return
    if (out / finished).is_file():
        raise IsthmusError(f"{out}: the run is finished, there is nothing to resume")
    if not path.is_file():
        raise IsthmusError(f"{out}: nothing to resume there; omit --resume to start a run")
    before = read_json(path)
    for part, now in identity.items():
        if before.get(part) != now:
            raise IsthmusError(
                f"{out}: cannot be resumed, its {part} differ from this command's"
                f"{_difference(before.get(part), now)}; use the same command as before"
            )


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
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise IsthmusError(
            f"{path}: damaged ({type(error).__name__}: {error}); restore it or train again"
        ) from None


def check_files(folder: Path, sizes: dict[str, int]) -> None:
    """Check that files of a folder have the sizes that were recorded.

    Raises:
        IsthmusError: One is missing or has another size.
    """
    for name, size in sizes.items():
        file = folder / name
        if not file.is_file():
            raise IsthmusError(f"{folder}: {name} is missing; restore it or train again")
        if file.stat().st_size != size:
            raise IsthmusError(
                f"{file}: truncated or changed, expected {size:,} bytes, got "
                f"{file.stat().st_size:,}; restore it or train again"
            )
