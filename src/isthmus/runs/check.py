"""What of a run directory is whole: every file, the weights, the checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from safetensors import safe_open

from isthmus.errors import IsthmusError
from isthmus.runs import bundle, whole
from isthmus.runs.digests import CHANGED, KEY, MISSING, damaged, read_manifest
from isthmus.runs.folders import reading

OK = "ok"
UNCHECKED = "unchecked"
EDITED = "edited"
UNKNOWN = "unknown"
_BESIDE = ("settings.json", "log.jsonl", "curves.png")
"""What training leaves beside a bundle."""


@final
@dataclass
class Finding:
    """What a look at a run directory found.

    Args:
        run: The folder.
        versions: Of the software that wrote it.
        files: name → "ok", "changed" or "missing"; "unchecked": of the right size, but without a
            digest; "edited": the card, which may be; "unknown": no file of the run.
        checkpoints: Of an unfinished run: name → "ok", or what is wrong with it.
        problems: Why it is not whole, a line each.
    """

    run: str
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    checkpoints: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def check(folder: str | Path) -> Finding:
    """Look at all files of a run directory, and load it; what is damaged raises nothing."""
    place = Path(folder)
    found = Finding(str(folder), checkpoints=_checkpoints(place))
    try:
        run = bundle.read_record(place)
    except IsthmusError as error:
        found.problems.append(str(error))
        return found
    found.versions = run.get("versions", {})
    found.files = _files(place, run)
    broken = [name for name, state in found.files.items() if state in (CHANGED, MISSING)]
    if broken:
        found.problems.append(str(whole.changed(place, broken)))
    weights = [name for name in run["files"] if name.endswith(whole.WEIGHTS)]
    for step in (lambda: _check_weights(place, weights), lambda: bundle.load(place, verify=False)):
        try:
            step()
        except IsthmusError as error:
            found.problems.append(str(error))
    found.problems = list(dict.fromkeys(found.problems))
    return found


def _files(place: Path, run: Mapping[str, Any]) -> dict[str, str]:
    """The state of every file, in the order of names."""
    try:
        own = OK if whole.digests_of(run, place) is not None else UNCHECKED
    except IsthmusError:
        own = CHANGED
    given = run.get(KEY)
    digests: dict[str, Any] = given if isinstance(given, dict) else {}
    sizes: dict[str, int] = run["files"]
    faults = damaged(place, {name: str(digests.get(name)) for name in sizes})
    states = {name: faults.get(name, OK) for name in sizes} | {bundle.RUN_FILE: own}
    for name, state in states.items():
        if state == CHANGED and name in sizes and name not in digests:
            right = (place / name).stat().st_size == sizes[name]
            states[name] = UNCHECKED if right else CHANGED
    if states.get(whole.CARD) == CHANGED:
        states[whole.CARD] = EDITED
    elif states.get(whole.CARD) == MISSING:
        del states[whole.CARD]
    for path in place.iterdir():
        if path.is_file() and path.name not in (*states, *_BESIDE):
            states[path.name] = UNKNOWN
    return dict(sorted(states.items()))


def _check_weights(place: Path, names: list[str]) -> None:
    """Refuse tensors that are not finite, one in memory at a time."""
    for name in names:
        bad: list[str] = []
        with reading(place / name), safe_open(place / name, "pt") as file:
            for key in file.keys():  # noqa: SIM118  (it is no dict)
                bad += whole.not_finite({key: file.get_tensor(key)})
        if bad:
            raise whole.no_numbers(place / name, bad, "restore the file or train again")


def _checkpoints(place: Path) -> dict[str, str]:
    """The state of each checkpoint, by its manifest."""
    states = {}
    for folder in sorted((place / "checkpoints").glob("checkpoint-*")):
        digests = read_manifest(folder)
        if digests is None:
            states[folder.name] = "unfinished, or its manifest is damaged"
            continue
        faults = damaged(folder, digests)
        states[folder.name] = ", ".join(f"{n} {fault}" for n, fault in faults.items()) or OK
    return states
