"""The processes of a run: how they meet, and what is said where one of them is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import final

import torch
from accelerate import PartialState

from isthmus.errors import IsthmusError, reason_of

TIMEOUT = "ISTHMUS_TIMEOUT"
"""The environment variable with the minutes that a process waits for the others."""
_MINUTES = 30.0


@final
class Lost(IsthmusError):
    """Another process is gone or silent; its own last line says why."""


def join() -> int:
    """Meet the processes that torchrun or accelerate launch has started; return their number.

    Raises:
        IsthmusError: they do not come in time, or this machine has fewer GPUs than processes.
    """
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if here > max(gpus, 1) and torch.cuda.is_available():
        raise IsthmusError(
            f"processes: got {here} on this machine, which has {gpus} GPU{'s' * (gpus > 1)}; "
            f"start as many as it has: --nproc-per-node {gpus}"
        )
    limit = timedelta(minutes=timeout())
    with naming_a_loss():
        # As the Trainer will set it up.
        return PartialState(cpu=not torch.cuda.is_available(), timeout=limit).num_processes


def timeout() -> float:
    """Minutes that a process waits for the others before it ends.

    Raises:
        IsthmusError: the variable has no positive number.
    """
    given = os.environ.get(TIMEOUT, "") or str(_MINUTES)
    try:
        minutes = float(given)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        raise IsthmusError(f"{TIMEOUT}: got {given!r}, expected minutes, such as 30")
    return minutes


@contextmanager
def naming_a_loss() -> Iterator[None]:
    """Say in one line that another process is gone or silent: torch names a socket."""
    try:
        yield
    except RuntimeError as error:
        if not _of_another_process(error):
            raise
        raise Lost(
            f"another process ended, or was silent for {timeout():g} minutes ({TIMEOUT}); its "
            "own last line says why; go on from the last checkpoint with the same command and "
            f"--resume ({reason_of(error)})"
        ) from error


def _of_another_process(error: RuntimeError) -> bool:
    """Whether an error comes from the connections between processes; gloo's have no type."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
