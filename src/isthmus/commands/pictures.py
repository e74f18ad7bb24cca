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


def kind_of(run: str) -> str:
    """What a run directory is of: "picture", "joint" (pictures with captions) or "text".

    What is damaged is told when it is loaded.
    """
    try:
        config = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
        kind = str(config["model_type"]).removeprefix("isthmus-")
    except (OSError, ValueError, KeyError, TypeError):
        return "text"
    return kind if kind in ("picture", "joint") else "text"


def read_pictures(data: str, limit: int, run: str) -> Any:
    """The pictures of DATA in the size that a run reads; with their captions, if it reads both."""
    from isthmus.data import captioned, pictures

    config = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
    joint = kind_of(run) == "joint"
    try:
        sizes = config["picture"] if joint else config
        shape = (int(sizes["channels"]), int(sizes["height"]), int(sizes["width"]))
        fit = sizes.get("fit", "skip")
    except (KeyError, TypeError, ValueError) as error:
        raise IsthmusError(f"{run}/config.json: tells no size of pictures; restore it") from error
    read = captioned.read if joint else pictures.read
    return read(data, limit=limit or None, shape=shape, fit=fit)


def sheet(run: str, out: str) -> Path | None:
    """Where a sheet of pictures goes, asked before the work; None where texts are asked for.

    Of a run of pictures with captions, --out decides which of the two.

    Raises:
        IsthmusError: pictures and no .png to write them to, or texts and a .png.
    """
    kind = kind_of(run)
    if kind == "text" and out:
        raise IsthmusError("--out: is for pictures; texts go to standard output")
    if kind == "text" or (kind == "joint" and not out):
        return None
    return png(out)


def png(out: str) -> Path:
    """A .png file that can be written; asked before the work."""
    if not out.endswith(".png"):
        got = f"got {out}" if out else "and there is none"
        raise IsthmusError(f"--out: pictures need the name of a .png file to go to, {got}")
    return check_can_write(out)


def part_shown(run: str, target: Path | None) -> str:
    """The part of its examples that a run is asked to draw; "" where there is but one."""
    if kind_of(run) != "joint":
        return ""
    return "caption" if target is None else "picture"


def given(model: LatentModel, words: Sequence[str]) -> Sequence[Any]:
    """Examples that arguments name: texts themselves; pictures by a file, or by DATA#PLACE.

    Where both are possible, a word is a picture if there is one of that name.
    """
    from isthmus.data import pictures
    from isthmus.data.captioned import Example
    from isthmus.models.joint.model import JointModel
    from isthmus.models.pictures.model import PictureModel

    if isinstance(model, PictureModel):
        return [pictures.read_one(word, model.shape, model.config.fit) for word in words]
    if not isinstance(model, JointModel):
        return words
    reader = model.parts["picture"]
    return [
        Example(picture=pictures.read_one(word, reader.shape, reader.config.fit))
        if Path(word).is_file() or pictures.names_one(word)
        else Example(caption=word)
        for word in words
    ]


def write_sheet(pictures: Sequence[Any], target: Path, beside: Sequence[Any] = ()) -> None:
    """Write pictures in rows; ``beside`` stand above them, row by row.

    Of an example with several parts its picture is shown, paper where it has none.
    """
    from isthmus.data.pictures import write_grid

    every = _pictures([*beside, *pictures])
    beside, pictures = every[: len(beside)], every[len(beside) :]
    rows = []
    for start in range(0, len(pictures), COLUMNS):
        place = slice(start, start + COLUMNS)
        rows += [list(part[place]) for part in (beside, pictures) if len(part)]
    write_grid(rows, target)


def _pictures(examples: Sequence[Any]) -> list[Any]:
    import numpy as np

    from isthmus.data.captioned import Example
    from isthmus.data.pictures import PAPER

    found = [one.picture if isinstance(one, Example) else one for one in examples]
    shape = next((one.shape for one in found if one is not None), (1, 1, 1))
    return [np.full(shape, PAPER, dtype=np.uint8) if one is None else one for one in found]
