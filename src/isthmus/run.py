"""One training run from data to a run directory, resumable at every checkpoint."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, final

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isthmus import bundle
from isthmus.data.corpus import Corpus, Splits
from isthmus.errors import IsthmusError
from isthmus.evaluate.report import evaluate
from isthmus.models.base import LatentModel
from isthmus.models.build import build, parameter_count
from isthmus.progress import JsonLinesLog, TerminalCallback
from isthmus.settings import Settings
from isthmus.train import LatentTrainer, last_checkpoint

SETTINGS_FILE = "settings.json"
VALIDATION = 1000
"""Validation sentences that the bound is measured on while training."""
FINAL_SAMPLES = 20
"""K of the importance-weighted bound in the model card."""


@final
class Interrupted(IsthmusError):
    """The user pressed Ctrl-C; a checkpoint is on disk."""


@final
class StopOnInterrupt(TrainerCallback):
    """The first Ctrl-C ends the run after the present step, with a checkpoint."""

    def __init__(self, out: Console) -> None:
        self.out, self.asked = out, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM are heard inside; a second one acts as usual."""

        def hear(number: int, frame: FrameType | None) -> None:
            self.asked = True
            signal.signal(number, signal.SIG_DFL)
            self.out.print("stopping after this step; once more to stop at once")

        before = {n: signal.signal(n, hear) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Save and stop."""
        if self.asked and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
        return control


def train(
    settings: Settings, splits: Splits, out: Path, *, resume: bool, console: Console
) -> LatentModel:
    """Train a model and leave a run directory.

    Arguments:
        settings: the recipe with the user's changes; must be the run's own when resuming.
        splits: training and validation texts.
        out: the run directory; must not exist, unless it is resumed.
        resume: go on from the last checkpoint in ``out``.
        console: where findings and lines of progress go.

    Returns:
        The trained model, as :func:`isthmus.load` would give it.

    Raises:
        IsthmusError: a folder that is in use, settings that changed, a term that is not finite.
        Interrupted: stopped by the user; resumable.
    """
    with bundle.writing_to(out):
        checkpoint = _claim(out, settings, splits.train, resume)
        model = _model(settings, splits.train)
        examples = model.codec.prepare(splits.train.texts)
        valid = model.codec.prepare(splits.valid.texts[:VALIDATION])
        everything, trained = parameter_count(model)
        console.print(f"training tokens: {examples.report()}")
        console.print(f"model: {everything:,} parameters, {trained:,} of them trained")
        step = int(checkpoint.name.split("-")[1]) if checkpoint else 0
        stop = StopOnInterrupt(console)
        trainer = LatentTrainer(
            model,
            settings,
            examples,
            valid,
            out,
            log=JsonLinesLog(out / "log.jsonl", step),
            warn=lambda finding: console.print(f"[bold yellow]warning:[/] {finding}"),
            callbacks=[TerminalCallback(console), stop],
        )
        with stop.listening():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.state.global_step < trainer.state.max_steps:
            raise Interrupted(
                f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps}; "
                "go on with the same command and --resume"
            )
        if trainer.is_world_process_zero():
            _finish(model, settings, splits, out, trainer)
        trainer.accelerator.wait_for_everyone()
    return model.eval()


def _claim(out: Path, settings: Settings, corpus: Corpus, resume: bool) -> Path | None:
    """Take a new folder, or find the checkpoint of the run that is in it."""
    identity = {"settings": dataclasses.asdict(settings), "data": corpus.fingerprint}
    path = out / SETTINGS_FILE
    if not resume:
        # Under torchrun every process comes here; the first one makes the folder for all.
        if int(os.environ.get("RANK", "0")) > 0:
            return None
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise IsthmusError(
                f"{out}: exists already; go on with --resume, or choose another folder with --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(identity, indent=1), encoding="utf-8")
        return None
    if (out / bundle.RUN_FILE).is_file():
        raise IsthmusError(f"{out}: the run is finished, there is nothing to resume")
    if not path.is_file():
        raise IsthmusError(f"{out}: nothing to resume there; leave --resume out to start a run")
    before = json.loads(path.read_text(encoding="utf-8"))
    for part, now in identity.items():
        if before[part] != now:
            raise IsthmusError(
                f"{out}: cannot be resumed, its {part} differ from the run's; "
                "use the same command as before"
            )
    return last_checkpoint(out)


def _model(settings: Settings, corpus: Corpus) -> LatentModel:
    if not settings.train.start_from:
        return build(settings, corpus.texts)
    return bundle.load(settings.train.start_from)


def _finish(
    model: LatentModel, settings: Settings, splits: Splits, out: Path, trainer: LatentTrainer
) -> None:
    """Measure, save the bundle, and remove the checkpoints that it replaces."""
    valid = model.codec.prepare(splits.valid.texts[:VALIDATION])
    metrics = evaluate(model, valid, samples=FINAL_SAMPLES, texts=200, seed=settings.train.seed)
    record = {
        "settings": dataclasses.asdict(settings),
        "data": {
            "source": splits.train.source,
            "sentences": len(splits.train),
            "fingerprint": splits.train.fingerprint,
            "validation_fingerprint": splits.valid.fingerprint,
        },
        "seed": settings.train.seed,
        "steps": trainer.state.global_step,
        "metrics": metrics,
    }
    bundle.save(model, out, record)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
