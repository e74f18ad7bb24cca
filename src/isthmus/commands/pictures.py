"""What the verbs do differently where a run is of pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.commands.common import check_can_write
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.models.base import LatentModel

COLUMNS = 16
"""Pictures in a row of a sheet."""


def of_pictures(run: str) -> bool:
    """Whether a run directory is of pictures; what is damaged is told when it is loaded."""
    try:
        config = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
        return bool(config["model_type"] == "isthmus-picture")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_pictures(data: str, limit: int, run: str) -> Any:
    """The pictures of DATA in the size that a run reads."""
    from isthmus.data import pictures

    config = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
    try:
        shape = (int(config["channels"]), int(config["height"]), int(config["width"]))
        fit = config.get("fit", "skip")
    except (KeyError, TypeError, ValueError) as error:
        raise IsthmusError(f"{run}/config.json: tells no size of pictures; restore it") from error
    return pictures.read(data, limit=limit or None, shape=shape, fit=fit)


def sheet(run: str, out: str) -> Path | None:
    """Where a sheet of pictures goes, asked before the work; None for a run of texts.

    Raises:
        IsthmusError: pictures and no .png to write them to, or texts and a .png.
    """
    if not of_pictures(run):
        if out:
            raise IsthmusError("--out: is for pictures; texts go to standard output")
        return None
    if not out.endswith(".png"):
        got = f"got {out}" if out else "and there is none"
        raise IsthmusError(f"--out: pictures need the name of a .png file to go to, {got}")
    return check_can_write(out)


def given(model: LatentModel, words: Sequence[str]) -> Sequence[Any]:
    """Examples that arguments name: texts themselves; pictures by a file, or by DATA#PLACE."""
    from isthmus.models.pictures.model import PictureModel

    if not isinstance(model, PictureModel):
        return words
    from isthmus.data import pictures

    return [pictures.read_one(word, model.shape, model.config.fit) for word in words]


def write_sheet(pictures: Sequence[Any], target: Path, beside: Sequence[Any] = ()) -> None:
    """Write pictures in rows; ``beside`` stand above them, row by row."""
    from isthmus.data.pictures import write_grid

    rows = []
    for start in range(0, len(pictures), COLUMNS):
        place = slice(start, start + COLUMNS)
        rows += [list(part[place]) for part in (beside, pictures) if len(part)]
    write_grid(rows, target)
