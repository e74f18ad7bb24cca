"""What a run shows on the terminal while it trains."""

from __future__ import annotations

from typing import Any, final

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isthmus.progress import Lines, bar


@final
class TerminalCallback(TrainerCallback):
    """A bar with the terms of the bound and the time left; plain lines without a terminal.

    ``bar`` is a context manager, which the caller opens: so it is gone after a failure too.
    """

    def __init__(self, out: Console) -> None:
        self.out = out
        self.bar = bar(out)
        self.plain = False

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Begin at the step that the run has reached."""
        self.plain = 0 in getattr(model, "latent_shape", ())
        self.lines = Lines(self.out, state.global_step)
        self.task = self.bar.add_task(
            "training", total=state.max_steps, completed=state.global_step, note=""
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
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
        if logs is None:
            return
        if "eval_elbo" in logs and self.plain:
            self.out.print(f"step {state.global_step:>6}  −log p(x) {-logs['eval_elbo']:.2f}")
        elif "eval_elbo" in logs:
            step = f"step {state.global_step:>6}  bound at β = 1: "
            self.out.print(f"{step}{_bound(logs, 'eval_')}")
            if "eval_summary_elbo" in logs:
                alone = "the summary alone: "
                self.out.print(f"{alone:>{len(step)}}{_bound(logs, 'eval_summary_')}")
        elif "reconstruction" in logs:
            note = (
                f"rec {logs['reconstruction']:.2f} KL {logs['kl']:.2f} β {logs['beta']:.2f} "
                f"{logs['tokens_per_second']:,.0f} tok/s"
            )
            self.bar.update(self.task, note=note)
            place = f"step {state.global_step:>6} of {state.max_steps}"
            self.lines.print(f"{place}  {note}", state.global_step, state.max_steps)


def _bound(logs: dict[str, Any], start: str) -> str:
    """The terms of the bound whose keys start so, and the use of z."""
    names = ("elbo", "reconstruction", "kl", "active_units")
    elbo, reconstruction, kl, active = (logs[f"{start}{name}"] for name in names)
    gap = logs.get(f"{start}swap_gap")
    return f"−ELBO {-elbo:.2f} = rec {reconstruction:.2f} + KL {kl:.2f} · active {active:.0f}" + (
        "" if gap is None else f" · swap gap {gap:.2f}"
    )
