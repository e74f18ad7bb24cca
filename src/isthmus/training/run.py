"""One training run from data to a run directory, resumable at every checkpoint."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, final

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isthmus.data.kind import Corpus, Splits
from isthmus.data.labelled import observed_labels
from isthmus.errors import IsthmusError
from isthmus.evaluation.metrics import evaluate, work
from isthmus.evaluation.plots import training_curves
from isthmus.models.base import LatentModel
from isthmus.models.build import build
from isthmus.models.tuning import fixed_parts, parameter_count
from isthmus.progress import JsonLinesLog, TerminalCallback, counting, is_first_process
from isthmus.runs import bundle
from isthmus.runs.folders import SETTINGS_FILE, claim, read_json
from isthmus.settings import CodeSettings, Settings, TextVAESettings
from isthmus.training.checkpoints import last_checkpoint, step_of
from isthmus.training.phases import (
    FIRST_PHASE,
    earlier_run,
    first_settings,
    start_encoder,
    take_over,
)
from isthmus.training.trainer import LatentTrainer, tensorboard

LOG_FILE = "log.jsonl"
CURVES_FILE = "curves.png"
VALIDATION = 1000
"""Validation examples that the bound is measured on: a random sample if there are more."""
FINAL_SAMPLES = 20
"""K of the importance-weighted bound in the model card."""
FINAL_TEXTS = 200
"""Examples that are decoded for the model card: a random sample of those."""


@final
class Interrupted(IsthmusError):
    """The user pressed Ctrl-C; a checkpoint is on disk."""


@final
class StopOnInterrupt(TrainerCallback):
    """Ends the run after the current step, with a checkpoint, at the first Ctrl-C."""

    def __init__(self, out: Console) -> None:
        self.out, self.asked = out, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the first Ctrl-C or SIGTERM inside; a second one acts as usual."""

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
    settings: Settings,
    splits: Splits[Any],
    out: Path,
    *,
    resume: bool,
    console: Console,
) -> LatentModel:
    """Train a model and write a run directory.

    Args:
        settings: the recipe with the user's changes; when resuming, those of the run.
        splits: training and validation texts, pictures, or both.
        out: the run directory; must not exist unless it is resumed.
        resume: continue from the last checkpoint in ``out``.
        console: for findings and progress.

    Returns:
        The trained model, as :func:`isthmus.load` would give it.

    Raises:
        IsthmusError: the folder is in use, settings changed, or a term is not finite.
        Interrupted: stopped by the user; resumable.
    """
    with bundle.writing_to(out):
        checkpoint = _claim(out, settings, splits, resume)
        if settings.first.epochs:
            first_phase(settings, splits, out / FIRST_PHASE, console)
        terminal, stop = TerminalCallback(console), StopOnInterrupt(console)
        try:
            trainer = _trainer(settings, splits, out, checkpoint, console, [terminal, stop])
        except BaseException:
            if not resume:
                _release(out)
            raise
        with stop.listening(), terminal.bar:
            trainer.fit(checkpoint)
        if trainer.state.global_step < trainer.args.max_steps:
            raise Interrupted(
                f"stopped at step {trainer.state.global_step} of {trainer.args.max_steps}; "
                "go on with the same command and --resume"
            )
        if is_first_process():
            _finish(trainer, splits, out, console)
        trainer.accelerator.wait_for_everyone()
        trainer.accelerator.end_training()
    return trainer.model.eval()


def train_once(settings: Settings, splits: Splits[Any], out: Path, console: Console) -> None:
    """Train a run directory unless it is finished; resume it if it was interrupted."""
    if not (out / bundle.RUN_FILE).is_file():
        resume = (out / SETTINGS_FILE).is_file()
        train(settings, splits, out, resume=resume, console=console)


def first_phase(settings: Settings, splits: Splits[Any], out: Path, console: Console) -> None:
    """Train or resume the first phase, unless it is finished."""
    if (out / bundle.RUN_FILE).is_file():
        return
    console.print(f"first phase, {settings.first.epochs:g} epochs at β = {settings.first.beta:g}")
    train_once(first_settings(settings), splits, out, console)
    console.print("main run")


def _trainer(
    settings: Settings,
    splits: Splits[Any],
    out: Path,
    checkpoint: Path | None,
    console: Console,
    callbacks: list[TrainerCallback],
) -> LatentTrainer:
    """The trainer, ready for its first step."""
    labels = _labels(settings, splits.train)
    model = _model(settings, splits.train, labels, out)
    examples = model.codec.prepare_training(splits.train.examples, labels)
    judged = _judged(splits, settings)
    valid = model.codec.prepare(judged.examples)
    everything, trained = parameter_count(model)
    console.print(f"training: {examples.report()}")
    console.print(f"validation: {valid.report()}")
    console.print(f"model: {everything:,} parameters, {trained:,} of them trained")
    if fixed := fixed_parts(model):
        more = f" and {len(fixed) - 4} more" if len(fixed) > 4 else ""
        console.print(f"not trained: {', '.join(fixed[:4])}{more}", markup=False)
    step = step_of(checkpoint) if checkpoint else 0
    return LatentTrainer(
        model,
        settings,
        examples,
        valid,
        out,
        floor=judged.floor,
        log=JsonLinesLog(out / LOG_FILE, step) if is_first_process() else None,
        warn=lambda finding: console.print(f"warning: {finding}", style="bold yellow"),
        callbacks=[*callbacks, *tensorboard(out)],
    )


def _judged(splits: Splits[Any], settings: Settings) -> Corpus:
    """The validation examples that the bound and the model card are measured on."""
    return splits.valid.sample(VALIDATION, settings.train.seed)


def _claim(out: Path, settings: Settings, splits: Splits[Any], resume: bool) -> Path | None:
    """Take a new folder, or find the checkpoint of the run that is in it."""
    identity = {
        "settings": dataclasses.asdict(settings),
        "training texts": splits.train.fingerprint,
        "validation texts": splits.valid.fingerprint,
    }
    if not resume and not is_first_process():
        return None  # under torchrun the first process makes the folder for all
    unfinished = resume and not (out / bundle.RUN_FILE).is_file()
    if unfinished and (path := out / SETTINGS_FILE).is_file():
        _check_version(path)
    claim(out, identity, resume=resume, finished=bundle.RUN_FILE)
    return last_checkpoint(out) if resume else None


def _check_version(path: Path) -> None:
    if "kind" not in read_json(path).get("settings", {}).get("model", {}):
        raise IsthmusError(
            f"{path.parent}: cannot be resumed, its settings are of version 0.1.0, which had no "
            "model.kind; start again in another folder"
        )


def _release(out: Path) -> None:
    """Empty a folder in which no step was made, so that the corrected command can take it."""
    for name in (SETTINGS_FILE, LOG_FILE):
        (out / name).unlink(missing_ok=True)
    for folder in (out / "checkpoints", out):
        with suppress(OSError):  # not empty: then it holds more than was put there
            folder.rmdir()


def _labels(settings: Settings, corpus: Corpus) -> list[str | None] | None:
    """The labels that training observes, None for a missing one; None for a model without y."""
    if settings.model.labels == "given":
        data = settings.data
        separator = data.code_separator if isinstance(data, CodeSettings) else ""
        return observed_labels(corpus, data.labelled, settings.train.seed, separator)
    if settings.data.labelled:
        raise IsthmusError(
            f"data.labelled: got {settings.data.labelled}, but nothing reads labels; "
            "add --model.labels given"
        )
    return [None] * len(corpus) if getattr(settings.model, "clusters", 0) else None


def _model(
    settings: Settings,
    corpus: Corpus,
    labels: list[str | None] | None,
    out: Path,
) -> LatentModel:
    """The model that the first step starts from."""
    if settings.train.start_from:
        return earlier_run(settings, corpus, labels)
    model = build(settings, corpus.examples, labels)
    if settings.first.epochs:
        take_over(model, bundle.load(out / FIRST_PHASE), settings.first.keeps)
    elif isinstance(settings.model, TextVAESettings) and settings.model.encoder.start_from:
        start_encoder(model, settings.model.encoder.start_from)
    return model


def _finish(trainer: LatentTrainer, splits: Splits[Any], out: Path, console: Console) -> None:
    """Measure, save the bundle, and remove the checkpoints that it replaces."""
    model, settings = trainer.model, trainer.settings
    judged = _judged(splits, settings)
    valid = model.codec.prepare(judged.examples)
    with counting(console, "measuring", work(valid, FINAL_TEXTS)) as progress:
        metrics = evaluate(
            model,
            valid,
            samples=FINAL_SAMPLES,
            texts=FINAL_TEXTS,
            seed=settings.train.seed,
            labels=judged.labels,
            floor=judged.floor,
            progress=progress,
        )
    record = {
        "settings": dataclasses.asdict(settings),
        "data": {
            "source": _shown(splits.train.source),
            f"{splits.train.kind.unit}s": len(splits.train),
            "fingerprint": splits.train.fingerprint,
            "validation_fingerprint": splits.valid.fingerprint,
        },
        "seed": settings.train.seed,
        "steps": trainer.state.global_step,
        "metrics": metrics,
    }
    training_curves(out / LOG_FILE, out / CURVES_FILE)
    bundle.save(model, out, record)
    console.print(f"saved {out}; how training went: {out / CURVES_FILE}", markup=False)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _shown(source: str) -> str:
    """The source of the data without the folders of this machine, because runs are shared."""
    path = Path(source)
    if path.parent.suffix == ".npz":  # the split inside the file
        return f"{path.parent.name}/{path.name}"
    return path.name if path.is_absolute() else source
