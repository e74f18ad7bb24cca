"""Pictures as arguments and results of the verbs: sheets, and what words name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.commands.common import check_can_write, emit, kind_of_run
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.models.base import LatentModel

COLUMNS = 16
"""Pictures in a row of a sheet."""


def sheet(run: str, out: str) -> Path | None:
    """Where a sheet of pictures goes, asked before the work; None where texts are asked for.

    If a run can write both, --out decides.

    Raises:
        IsthmusError: Pictures and no .png to write them to, or texts and a .png.
    """
    kind = kind_of_run(run)
    if out and not kind.has_pictures:
        raise IsthmusError("--out: is for pictures; texts go to standard output")
    return png(out) if out or not kind.has_text else None


def png(out: str) -> Path:
    """A .png file that can be written; asked before the work."""
    if not out.endswith(".png"):
        got = f"got {out}" if out else "and there is none"
        raise IsthmusError(f"--out: pictures need the name of a .png file to go to, {got}")
    return check_can_write(out)


def part_shown(run: str, target: Path | None) -> str:
    """The part of its examples that a run is asked to draw; "" if they have no parts."""
    if not kind_of_run(run).is_mixed:
        return ""
    return "caption" if target is None else "picture"


def given(model: LatentModel, words: Sequence[str]) -> Sequence[Any]:
    """The examples that arguments name, as the model takes them."""
    config = model.config.to_dict()
    return [model.kind.named(word, config) for word in words]


def write(decoded: Sequence[Any], target: Path | None, as_json: bool) -> None:
    """Write pictures to a sheet, or texts to standard output."""
    if target is None:
        emit([{"text": text} for text in decoded], as_json, "{text}")
    else:
        write_sheet(decoded, target)


def write_sheet(examples: Sequence[Any], target: Path, above: Sequence[Any] = ()) -> None:
    """Write the pictures of examples in rows, paper where an example has none.

    Args:
        examples: Pictures, or examples with several parts.
        target: The file.
        above: As many; each row of them goes above its row of examples.
    """
    import numpy as np

    from isthmus.data.captioned import Example
    from isthmus.data.pictures import PAPER, write_grid

    parts = [[Example.of(one).picture for one in part] for part in (above, examples)]
    shape = next((one.shape for part in parts for one in part if one is not None), (1, 1, 1))
    paper = np.full(shape, PAPER, dtype=np.uint8)
    rows = [
        [paper if one is None else one for one in part[start : start + COLUMNS]]
        for start in range(0, len(examples), COLUMNS)
        for part in parts
        if part
    ]
    write_grid(rows, target)
