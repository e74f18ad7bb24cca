"""Reports to experiment trackers by transformers' own integrations, where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from isthmus.errors import in_one_line, reason_of
from isthmus.settings.trackers import check_trackers
from isthmus.training.callbacks import TensorBoard

_REMEDIES: Final = {
    "wandb": "run: wandb login, or set WANDB_MODE=offline",
    "mlflow": "set MLFLOW_TRACKING_URI to a folder or a server that answers, or unset it",
    "trackio": "set TRACKIO_DIR to a folder that can be written",
    "tensorboard": "choose another folder with --out",
}


def reporters(
    names: Sequence[str], out: Path, warn: Callable[[str], None]
) -> list[TrainerCallback]:
    """A callback for each tracker.

    Args:
        names: Of the trackers.
        out: The run directory, whose name is that of the run there.
        warn: Called with what fails while the run trains, which goes on without it.

    Raises:
        IsthmusError: A tracker that there is not, or that cannot be imported.
    """
    check_trackers(names)
    return [Reporter(name, _made(name, out), warn) for name in dict.fromkeys(names)]


def _made(name: str, out: Path) -> Any:
    with in_one_line(f"report-to: {name} cannot be used", f"run: pip install --upgrade {name}"):
        if name == "tensorboard":
            return TensorBoard(out / name)
        [made] = get_reporting_integration_callbacks([name])
        return made()


@final
class Reporter(TrainerCallback):
    """One integration. It must begin, in one line if not; what fails later ends the report alone.

    Args:
        name: Of the tracker.
        inner: transformers' callback.
        warn: Called when it fails.
    """

    def __init__(self, name: str, inner: Any, warn: Callable[[str], None]) -> None:
        self.name, self.inner, self.warn = name, inner, warn
        self.failed = False

    def _pass_on(self, event: str, *arguments: Any, **more: Any) -> None:
        if self.failed:
            return
        try:
            getattr(self.inner, event)(*arguments, **more)
        except Exception as error:  # of a server, a network or a disk
            self.failed = True
            self.warn(f"{self.name} failed ({reason_of(error)}); nothing more is reported to it")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Begin a run there."""
        with in_one_line(f"report-to: {self.name} cannot begin", _REMEDIES[self.name]):
            self.inner.on_train_begin(args, state, control, **more)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Report a row of the log."""
        self._pass_on("on_log", args, state, control, **more)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Report a checkpoint, where the environment asks the integration for it."""
        self._pass_on("on_save", args, state, control, **more)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """End the run there."""
        self._pass_on("on_train_end", args, state, control, **more)
