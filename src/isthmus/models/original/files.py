"""Where a checkpoint of the authors' code lies, and its files, read without running any code.

One step of a run is three folders: ``checkpoint-encoder-S`` and ``checkpoint-decoder-S`` with a
``pytorch_model.bin`` each, and ``checkpoint-full-S`` with a ``training.bin`` that holds both. The
released archives have all or one of them, under these names or as ``encoder``, ``decoder`` and
``full``, sometimes once more inside a folder of the same name.
"""

from __future__ import annotations

import argparse
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from isthmus.errors import IsthmusError
from isthmus.models.original.state import Original, from_full, from_parts

FULL_FILE = "training.bin"
PART_FILE = "pytorch_model.bin"
ARGUMENTS_FILE = "training_encoder_args.bin"

_NAME = re.compile(
    r"checkpoint-(?:(?P<part>encoder|decoder|full)-)?(?P<step>\d+(?:-[\d.]+)?)"
    r"|(?P<alone>encoder|decoder|full)"
)

_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED = [
    argparse.Namespace,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before NumPy 2
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64", "bool")),
]
"""What a pickle may ask for beside tensors and plain values: the arguments of the training script,
and β, which is a NumPy number."""


@final
@dataclass(frozen=True)
class Checkpoint:
    """The folders of one step of a run.

    Arguments:
        step: as the folders' names have it, "31250" or "31250-1.0"; empty where they have none.
        folders: part ("encoder", "decoder" or "full") → its folder, for those that are there.
        root: the folder that holds them.
    """

    step: str
    folders: dict[str, Path]
    root: Path

    def file(self, part: str, name: str) -> Path | None:
        """A file of a part, if it is there."""
        path = self.folders[part] / name if part in self.folders else None
        return path if path and path.is_file() else None

    @property
    def name(self) -> str:
        """The folder that counts, by its name and that of the folder around all."""
        part = "full" if self.file("full", FULL_FILE) else "encoder"
        return self.folders[part].relative_to(self.root.parent).as_posix()

    @property
    def has_weights(self) -> bool:
        """Whether any of its folders holds weights."""
        parts = [self.file(part, PART_FILE) for part in ("encoder", "decoder")]
        return any([self.file("full", FULL_FILE), *parts])

    def places(self, part: str) -> list[Path]:
        """Where the tokenizer of the encoder or the decoder may lie, nearest first."""
        near = [self.folders[name] for name in (part, "full") if name in self.folders]
        return list(dict.fromkeys([*near, self.root]))


def find(source: str) -> list[Checkpoint]:
    """The checkpoints at a place, the newest last.

    Arguments:
        source: the folder that holds the three folders, one of these, or a ``training.bin``.

    Raises:
        IsthmusError: there is none.
    """
    if not Path(source).exists():
        raise IsthmusError(f"{source} does not exist; expected a folder with Optimus checkpoints")
    here = Path(source).resolve()
    here = here.parent if here.is_file() else here
    root = here
    while _NAME.fullmatch(root.name):
        root = root.parent
    found: dict[str, dict[str, Path]] = {}
    for folder in _folders(root):
        step, part = _step_and_part(folder, root)
        if part and any(path.is_file() for path in folder.iterdir()):
            found.setdefault(step, {})[part] = folder
    checkpoints = [Checkpoint(step, folders, root) for step, folders in found.items()]
    checkpoints = [each for each in checkpoints if each.has_weights and _is_of(here, each)]
    if not checkpoints:
        raise IsthmusError(
            f"{source}: no Optimus checkpoint in it; expected checkpoint-full-STEP/{FULL_FILE}, "
            f"or checkpoint-encoder-STEP and checkpoint-decoder-STEP with a {PART_FILE} each"
        )
    return sorted(checkpoints, key=_age)


def _folders(folder: Path) -> Iterator[Path]:
    """A folder, and those below it whose names are a checkpoint's."""
    yield folder
    for child in sorted(folder.iterdir()):
        if child.is_dir() and _NAME.fullmatch(child.name):
            yield from _folders(child)


def _step_and_part(folder: Path, root: Path) -> tuple[str, str]:
    """What the names on the way down say, the last word counting; a full file tells itself."""
    step, part = "", ""
    for name in folder.relative_to(root).parts:
        match = _NAME.fullmatch(name)
        step = match["step"] or step
        part = match["part"] or match["alone"] or part
    return step, "full" if (folder / FULL_FILE).is_file() else part


def _is_of(place: Path, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has a folder at a place, within it or around it."""
    return any(
        folder == place or place in folder.parents or folder in place.parents
        for folder in checkpoint.folders.values()
    )


def _age(checkpoint: Checkpoint) -> tuple[int, str]:
    number = checkpoint.step.partition("-")[0]
    return (int(number) if number else -1, checkpoint.step)


def read(checkpoint: Checkpoint) -> Original:
    """The weights and settings of a checkpoint; the full file counts where there is one.

    Raises:
        IsthmusError: a part is missing or damaged, or asks for code.
    """
    configs = {
        part: _read_json(checkpoint.file(part, "config.json")) for part in ("encoder", "decoder")
    }
    full = checkpoint.file("full", FULL_FILE)
    if full is not None:
        return from_full(checkpoint.name, load(full), configs)
    parts = {part: _read_part(checkpoint, part) for part in ("encoder", "decoder")}
    path = checkpoint.file("encoder", ARGUMENTS_FILE)
    arguments = None if path is None else load(path)
    return from_parts(checkpoint.name, parts, arguments, configs)


def _read_part(checkpoint: Checkpoint, part: str) -> Any:
    path = checkpoint.file(part, PART_FILE)
    if path is None:
        name = f"checkpoint-{part}-{checkpoint.step}" if checkpoint.step else part
        raise IsthmusError(
            f"{checkpoint.root}: the {part} is missing; expected {name}/{PART_FILE}, or a "
            f"{FULL_FILE} that holds both parts"
        )
    return load(path)


def _read_json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise IsthmusError(f"{path}: not a model's configuration ({error})") from error


def load(path: Path) -> Any:
    """What ``torch.save`` wrote, in its present or its former format; never more than data.

    The pickle inside may name tensors, plain values, and what :data:`_ALLOWED` lists. Whatever
    else it names is not imported, and the file is refused.

    Raises:
        IsthmusError: the file names something else, or is damaged.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_ALLOWED):
            warnings.simplefilter("ignore")  # what torch warns of, it refuses next
            # mmap leaves the optimiser's two thirds of a training.bin on the disk.
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # what a damaged pickle raises depends on where it is damaged
        text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
        forbidden = re.search(r"GLOBAL ([\w.]+)", text)
        if forbidden:
            raise IsthmusError(
                f"{path}: refused, its pickle asks for {forbidden[1]}, which could run code; a "
                "checkpoint has tensors and plain values only, get it again from its authors"
            ) from None
        reason = (text or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise IsthmusError(
            f"{path}: damaged, or not written by torch.save ({reason}); get it again"
        ) from None
