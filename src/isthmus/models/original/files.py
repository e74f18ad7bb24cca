"""Find a checkpoint of the authors' code, and read its files without running any code.

One step of a run has three folders: ``checkpoint-encoder-S`` and ``checkpoint-decoder-S`` with a
``pytorch_model.bin`` each, and ``checkpoint-full-S`` with a ``training.bin`` that contains both.
The released archives have some or all of them, under these names or as ``encoder``, ``decoder``
and ``full``, sometimes nested in a folder of the same name.
"""

from __future__ import annotations

import argparse
import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from isthmus.errors import IsthmusError
from isthmus.models.original.state import Original, original_of, tensors_of

FULL_FILE = "training.bin"
PART_FILE = "pytorch_model.bin"
ARGUMENTS_FILE = "training_encoder_args.bin"

_NAME = re.compile(
    r"checkpoint-(?:(?P<part>encoder|decoder|full)-)?(?P<step>\d+(?:-[\d.]+)?)"
    r"|(?P<alone>encoder|decoder|full)"
)

_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED: list[Any] = [
    argparse.Namespace,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before NumPy 2
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64", "bool")),
]
"""What a pickle may import for anything but tensors and plain values: the training script's
arguments, and β, which is a NumPy number."""


@final
@dataclass(frozen=True)
class Checkpoint:
    """The folders of one step of a run.

    Args:
        step: From the folders' names, "31250" or "31250-1.0"; empty if they have none.
        folders: Part ("encoder", "decoder" or "full") → its folder, for existing folders.
        root: The folder that contains them.
    """

    step: str
    folders: dict[str, Path]
    root: Path

    def file(self, part: str, name: str) -> Path | None:
        """A file of a part, if it exists."""
        path = self.folders[part] / name if part in self.folders else None
        return path if path and path.is_file() else None

    @property
    def name(self) -> str:
        """The root folder's name and the path from there to the folder that is read."""
        part = "full" if self.file("full", FULL_FILE) else "encoder"
        return self.folders[part].relative_to(self.root.parent).as_posix()

    @property
    def has_weights(self) -> bool:
        """Whether any of its folders has weights."""
        parts = [self.file(part, PART_FILE) for part in ("encoder", "decoder")]
        return any([self.file("full", FULL_FILE), *parts])

    def places(self, part: str) -> list[Path]:
        """Folders that may contain the tokenizer of the encoder or the decoder, nearest first."""
        near = [self.folders[name] for name in (part, "full") if name in self.folders]
        return list(dict.fromkeys([*near, self.root]))


def find(source: str) -> list[Checkpoint]:
    """Find the checkpoints in a place, the newest last.

    Args:
        source: The folder around the three folders, one of the three, or a ``training.bin``.

    Raises:
        IsthmusError: There are none.
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
    """A folder, and those below it that have the name of a checkpoint."""
    yield folder
    for child in sorted(folder.iterdir()):
        if child.is_dir() and _NAME.fullmatch(child.name):
            yield from _folders(child)


def _step_and_part(folder: Path, root: Path) -> tuple[str, str]:
    """Step and part from the names on the path, deeper names first; a full file decides alone."""
    step, part = "", ""
    for match in map(_NAME.fullmatch, folder.relative_to(root).parts):
        if match:
            step = match["step"] or step
            part = match["part"] or match["alone"] or part
    return step, "full" if (folder / FULL_FILE).is_file() else part


def _is_of(place: Path, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has a folder at, below or above a place."""
    return any(
        place in (folder, *folder.parents) or folder in place.parents
        for folder in checkpoint.folders.values()
    )


def _age(checkpoint: Checkpoint) -> tuple[int, str]:
    number = checkpoint.step.partition("-")[0]
    return (int(number) if number else -1, checkpoint.step)


def read(checkpoint: Checkpoint) -> Original:
    """Read the weights and settings of a checkpoint, from the full file if there is one.

    Raises:
        IsthmusError: A part is missing, damaged, or would run code.
    """
    configs = {
        part: _read_json(checkpoint.file(part, "config.json")) for part in ("encoder", "decoder")
    }
    name, full = checkpoint.name, checkpoint.file("full", FULL_FILE)
    if full is not None:
        content = load(full)
        if not isinstance(content, Mapping) or "model_state_dict" not in content:
            raise IsthmusError(
                f"{name}: the file has no model_state_dict, expected what Optimus' training saves"
            )
        tensors, arguments = tensors_of(name, content["model_state_dict"]), content.get("args")
    else:
        parts = {part: _read_part(checkpoint, part) for part in ("encoder", "decoder")}
        path = checkpoint.file("encoder", ARGUMENTS_FILE)
        arguments = None if path is None else load(path)
        tensors = {
            f"{part}.{key}": value
            for part, content in parts.items()
            for key, value in tensors_of(f"{name}, {part}", content).items()
        }
    return original_of(name, tensors, configs, arguments)


def _read_part(checkpoint: Checkpoint, part: str) -> Any:
    path = checkpoint.file(part, PART_FILE)
    if path is None:
        name = f"checkpoint-{part}-{checkpoint.step}" if checkpoint.step else part
        raise IsthmusError(
            f"{checkpoint.root}: the {part} is missing; expected {name}/{PART_FILE}, or a "
            f"{FULL_FILE} that contains both parts"
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
    """Load what ``torch.save`` wrote, in its old or new format, as data only.

    The pickle inside may import tensors, plain values, and :data:`_ALLOWED`. Nothing else is
    imported, and a file that names anything else is refused.

    Raises:
        IsthmusError: The file names something else, or is damaged.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_ALLOWED):
            warnings.simplefilter("ignore")  # torch warns before it refuses
            # mmap leaves the optimiser's state, two thirds of a training.bin, on disk.
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
        forbidden = re.search(r"GLOBAL ([\w.]+)", text)
        if forbidden:
            raise IsthmusError(
                f"{path}: refused, its pickle imports {forbidden[1]}, which could run code; a "
                "checkpoint has only tensors and plain values, download it again from its authors"
            ) from None
        reason = (text or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise IsthmusError(
            f"{path}: damaged, or not written by torch.save ({reason}); download it again"
        ) from None
