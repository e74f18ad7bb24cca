"""What happens while a run trains: a log that no stop changes, a stop on a signal, TensorBoard."""

from __future__ import annotations

import dataclasses
import math
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, final

import torch
from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback

from isthmus.training.clock import STOPPED, Clock

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
]
"""What stops a run after the current step, with a checkpoint."""


@final
class LogAtCheckpoints(TrainerCallback):
    """Where a checkpoint is due the log has a row.

    Args:
        begin: called before the first step, when the Trainer has set its sums to zero.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Go on with the sums of the checkpoint."""
        self.begin()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Log where a checkpoint is due."""
        control.should_log |= control.should_save
        return control


@final
class StopOnSignal(TrainerCallback):
    """Ends the run after the current step, with a checkpoint, at Ctrl-C, SIGTERM or SIGHUP."""

    def __init__(self, out: Console) -> None:
        self.out, self.asked = out, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals inside; a second Ctrl-C or SIGTERM acts as usual.

        Only the main thread of a program can; Ray trains in another one.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def hear(number: int, frame: FrameType | None) -> None:
            self.asked = True
            if number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
                self.out.print("stopping after this step; once more to stop at once")
            else:  # the terminal is gone: writing to it would fail; and it may say so twice
                self.out.quiet = True

        # What is ignored (nohup, a job in the background) stays ignored.
        heard = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        before = {number: signal.signal(number, hear) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Save and stop."""
        if _anywhere(self.asked, args) and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
        return control


def _anywhere(asked: bool, args: TrainingArguments) -> bool:
    """Whether any process says so: a signal, or the end of the time, reaches them apart."""
    if args.world_size == 1:
        return asked
    anyone = torch.tensor(float(asked), device=args.device)
    torch.distributed.all_reduce(anyone, torch.distributed.ReduceOp.MAX)
    return bool(anyone)


@final
class StopOnClock(TrainerCallback):
    """Ends the run after the current step when its time is up, measured and with a checkpoint."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Measure, save and stop."""
        if self.clock.seconds == math.inf or state.global_step >= state.max_steps:
            return control
        if _anywhere(self.clock.until(STOPPED) < 0, args):
            self.clock.struck = True
            control.should_evaluate = control.should_log = True
            control.should_save = control.should_training_stop = True
        return control


@contextmanager
def errors_here_alone() -> Iterator[None]:
    """Let the thread that writes TensorBoard's events print no traceback of its own.

    It fails where a disk is full, and its error is raised again where the next event is written.
    """
    usual = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if type(failure.thread).__name__ != "_AsyncWriterThread":
            usual(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual


@final
class TensorBoard(TensorBoardCallback):
    """One file of events, whatever stops the run had: it is written anew when a run goes on.

    Args:
        folder: of the events; by default it is among the checkpoints, which a finished run does
            not keep.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.logging_dir = str(folder)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Write what the log has so far."""
        if not state.is_world_process_zero:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        super().on_train_begin(args, state, control, **more)
        for row in state.log_history:
            then = dataclasses.replace(state, global_step=int(row["step"]))
            logs = {name: value for name, value in row.items() if name != "step"}
            super().on_log(args, then, control, logs=logs)
