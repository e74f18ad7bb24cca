"""Checkpoints of a run: which are whole, and which step they were written after."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

COMPLETE = "complete"
"""Marker file that a checkpoint gets last; a checkpoint without it is half-written."""


@final
class LogAtCheckpoints(TrainerCallback):
    """No interval of the log spans a checkpoint, so a resumed run writes the same log."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Log where a checkpoint is due."""
        control.should_log |= control.should_save
        return control


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def last_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint of a run; half-written ones are removed."""
    folders = list((out / "checkpoints").glob("checkpoint-*"))
    whole = [folder for folder in folders if (folder / COMPLETE).is_file()]
    for folder in set(folders) - set(whole):
        shutil.rmtree(folder, ignore_errors=True)  # another process may be removing it too
    return max(whole, key=step_of, default=None)


@contextmanager
def reporting_a_full_disk(folder: Path) -> Iterator[None]:
    """Raise OSError where torch's archive writer meets a full disk, which it does not name."""
    try:
        yield
    except RuntimeError as error:
        if "inline_container" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
