"""Folders of an older transformers, whose weights are in ``pytorch_model.bin``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoConfig

from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.foreign.plain import REFUSED, Plain
from isthmus.models.original.files import load
from isthmus.models.original.state import tensors_of
from isthmus.models.sentence_files import MODULES

WEIGHTS = "pytorch_model.bin"
INDEX = f"{WEIGHTS}.index.json"


def has_pickled(folder: Path) -> bool:
    """Whether a folder has weights of this kind."""
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file.

    Raises:
        IsthmusError: there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IsthmusError(f"{path}: cannot be read ({error}); {REFUSED}") from error
    if not isinstance(found, dict):
        raise IsthmusError(f"{path}: expected a JSON object; {REFUSED}")
    return found


def from_pickled(folder: Path, tokenizer: str = "") -> Plain:
    """The model of such a folder, in one file or several.

    Args:
        folder: with config.json too.
        tokenizer: the folder with its tokenizer; this one if empty.
    """
    name = folder.name
    with in_one_line(f"{name}: its config.json cannot be read", REFUSED):
        config = AutoConfig.from_pretrained(folder)
    tensors, files = pickled_tensors(folder)
    notes: tuple[str, ...] = ()
    if (folder / MODULES).is_file():
        notes = (
            f"Without its layers of sentence-transformers: copy {MODULES} and the folders that it "
            "names from the source for the vectors of that library.",
        )
    return Plain(name, config, tensors, tokenizer or str(folder), files, notes)


def pickled_tensors(folder: Path) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """The weights of such a folder, read as data only, and the files that have them."""
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file():
        names = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
    files = tuple(folder / Path(name).name for name in names)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= tensors_of(file.name, load(file))
    return tensors, files
