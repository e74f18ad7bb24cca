"""Checkpoints of a run: which are whole, and which step they were written after."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME

from isthmus.errors import IsthmusError
from isthmus.runs.digests import MANIFEST, damaged, read_manifest, write_manifest
from isthmus.runs.folders import read_json

COMPLETE = "complete"
"""An empty file that marked a whole checkpoint before there were digests."""
KEPT = 2
"""Checkpoints that a run keeps at least: the newest, and the best or the one before."""
_NEEDED = ("model.safetensors", "optimizer.pt", "scheduler.pt", TRAINER_STATE_NAME)
"""Files that a checkpoint without digests must have."""


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints in a run directory, whole or not, the newest first."""
    return sorted((out / "checkpoints").glob("checkpoint-*"), key=step_of, reverse=True)


def finish(checkpoint: Path) -> None:
    """Mark a checkpoint as whole: a manifest with the digest of every file."""
    write_manifest(checkpoint, [path.name for path in checkpoint.iterdir() if path.is_file()])


def last_checkpoint(
    out: Path, *, keep_best: bool = False, say: Callable[[str], None] = lambda line: None
) -> Path | None:
    """The newest checkpoint that a run can go on from; None if the run has completed none.

    Nothing is removed here, because several processes look at the same time.

    Args:
        out: the run directory.
        keep_best: the run ends with its best weights, so that they must be whole as well.
        say: called with a line for each checkpoint that is passed over.

    Raises:
        IsthmusError: there were checkpoints, and all are damaged.
    """
    faults: list[str] = []
    for checkpoint in checkpoints(out):
        fault = _fault(checkpoint) or (_fault_of_best(checkpoint) if keep_best else None)
        if fault is None:
            for line in faults:
                say(f"{line}; going on from {checkpoint.name}, the one before")
            if not (checkpoint / MANIFEST).is_file():
                say(f"{checkpoint.name} has no digests (older version): its files are not checked")
            return checkpoint
        faults.append(f"{checkpoint.name}: {fault}")
    if any(is_marked(checkpoint) for checkpoint in checkpoints(out)):
        raise IsthmusError(
            f"{out}: no whole checkpoint is left to go on from ({'; '.join(faults)}); restore the "
            f"files, or delete {out / 'checkpoints'} and start again without --resume"
        )
    for line in faults:
        say(line)
    say(f"{out}: no checkpoint was completed; training starts from its first step")
    return None


def is_marked(checkpoint: Path) -> bool:
    """Whether a checkpoint was once whole."""
    return (checkpoint / MANIFEST).exists() or (checkpoint / COMPLETE).exists()


def _fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, None if nothing."""
    if not is_marked(checkpoint):
        return f"half-written, it has no {MANIFEST}"
    if (checkpoint / MANIFEST).exists():
        digests = read_manifest(checkpoint)
        found = {MANIFEST: "damaged"} if digests is None else damaged(checkpoint, digests)
    else:
        paths = [checkpoint / name for name in _NEEDED]
        found = {p.name: "missing" for p in paths if not p.is_file() or not p.stat().st_size}
    return ", ".join(f"{name} is {how}" for name, how in found.items()) or None


def _fault_of_best(checkpoint: Path) -> str | None:
    """What is wrong with the best checkpoint so far, None if nothing or if it is this one."""
    best = best_before(checkpoint)
    if best is None or best == checkpoint:
        return None
    if not best.is_dir():
        return f"{best.name}, the best weights until then, is missing"
    fault = _fault(best)
    return fault and f"{best.name}, the best weights until then, is not whole ({fault})"


def best_before(checkpoint: Path) -> Path | None:
    """The checkpoint with the best weights when this one was written."""
    step = read_json(checkpoint / TRAINER_STATE_NAME).get("best_global_step")
    return checkpoint.with_name(f"checkpoint-{step}") if step else None


def remove_newer(out: Path, step: int) -> None:
    """Remove the checkpoints after a step, which the run makes again."""
    for checkpoint in checkpoints(out):
        if step_of(checkpoint) > step:
            shutil.rmtree(checkpoint)


def prune(newest: Path, *, keep_best: bool) -> None:
    """Remove all checkpoints but the newest and what a run needs that falls back on the next.

    Args:
        newest: just written.
        keep_best: a checkpoint needs the one with the best weights until then as well.
    """
    kept: set[Path] = set()
    found = checkpoints(newest.parents[1])
    for checkpoint in [newest, *found]:
        with suppress(IsthmusError):  # damaged since: of no use
            if len(kept) < KEPT:
                best = best_before(checkpoint) if keep_best else None
                kept |= {checkpoint, best or checkpoint}
    for folder in set(found) - kept:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def reporting_a_full_disk(folder: Path) -> Iterator[None]:
    """Raise OSError where torch's archive writer meets a full disk, which it does not name."""
    try:
        yield
    except RuntimeError as error:
        if "inline_container" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
