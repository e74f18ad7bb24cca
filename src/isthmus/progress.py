"""What a run tells while it trains: the terminal, a JSON Lines file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_EVERY_SECONDS = 10.0
"""Between two lines where standard error is no terminal."""


def console() -> Console:
    """Standard error; results go to standard output."""
    return Console(stderr=True, highlight=False)


def bar(out: Console) -> Progress:
    """A progress bar with the time left, gone when done; silent where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )


@final
class TerminalCallback(TrainerCallback):
    """A bar with the terms of the bound and the time left; plain lines without a terminal."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self.bar = bar(out)
        self.next_line = 0.0
        self.note = ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Open the bar where the run stands."""
        if state.is_world_process_zero:
            self.started, self.first = time.monotonic(), state.global_step
            self.bar.start()
            self.task = self.bar.add_task(
                "training", total=state.max_steps, completed=state.global_step, note=""
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
        if state.is_world_process_zero:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Show the terms."""
        if logs is None or not state.is_world_process_zero:
            return
        if "eval_elbo" in logs:
            self.out.print(
                f"step {state.global_step:>6}  bound at β = 1: −ELBO {-logs['eval_elbo']:.2f} = "
                f"reconstruction {logs['eval_reconstruction']:.2f} + KL {logs['eval_kl']:.2f} · "
                f"active {logs['eval_active_units']:.0f} · "
                f"swap gap {logs.get('eval_swap_gap', 0.0):.2f}"
            )
        elif "reconstruction" in logs:
            note = (
                f"rec {logs['reconstruction']:.2f} KL {logs['kl']:.2f} β {logs['beta']:.2f} "
                f"{logs['tokens_per_second']:,.0f} tok/s"
            )
            self.bar.update(self.task, note=note)
            now = time.monotonic()
            if not self.out.is_terminal and now >= self.next_line:
                self.next_line = now + _EVERY_SECONDS
                done = state.global_step - self.first
                left = (now - self.started) / max(1, done) * (state.max_steps - state.global_step)
                place = f"step {state.global_step:>6} of {state.max_steps}"
                self.out.print(f"{place}  {note}  {left:.0f} s left")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Close the bar."""
        if state.is_world_process_zero:
            self.bar.stop()


@final
class JsonLinesLog:
    """``log.jsonl`` of a run, one object a line; resuming takes out the lines of lost steps."""

    def __init__(self, path: Path, resume_step: int) -> None:
        self.path = path
        kept = []
        if resume_step and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # the line that a kill cut short
                    continue
                if record["step"] <= resume_step:
                    kept.append(line + "\n")
        path.write_text("".join(kept), encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
