"""One training run from data to a run directory, resumable at every checkpoint."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console
from transformers import TrainerCallback

from isthmus.control.codes import CodeBook
from isthmus.data.kind import Corpus, Splits
from isthmus.data.labelled import codes, observed_labels
from isthmus.errors import IsthmusError
from isthmus.evaluation.measures import Metrics
from isthmus.evaluation.metrics import evaluate, work
from isthmus.evaluation.plots import training_curves
from isthmus.models.base import LatentModel
from isthmus.models.bf16 import slow_bf16
from isthmus.models.build import build
from isthmus.models.codec import Examples
from isthmus.models.tuning import fixed_parts, parameter_count
from isthmus.progress import (
    JsonLinesLog,
    Progress,
    counting,
    is_first_process,
    no_progress,
)
from isthmus.runs import bundle
from isthmus.runs.card import public_names, shown_source
from isthmus.runs.digests import MANIFEST
from isthmus.runs.folders import SETTINGS_FILE, claim, read_json
from isthmus.settings import (
    CodeSettings,
    LanguageModelSettings,
    Settings,
    TextVAESettings,
    load_recipe,
    to_toml,
)
from isthmus.training.callbacks import StopOnClock, StopOnSignal, errors_here_alone
from isthmus.training.checkpoints import COMPLETE, last_checkpoint, step_of
from isthmus.training.clock import Clock
from isthmus.training.duration import expected
from isthmus.training.fitting import fit_afterwards
from isthmus.training.pace import PROBED, paced
from isthmus.training.phases import (
    FIRST_PHASE,
    begin_at_decoder,
    earlier_run,
    first_settings,
    start_encoder,
    take_over,
)
from isthmus.training.precision import fixed_precision
from isthmus.training.processes import join, naming_a_loss
from isthmus.training.reporting import reporters
from isthmus.training.sharding import check_sharding
from isthmus.training.states import STATES, set_states
from isthmus.training.streaming import with_steps
from isthmus.training.terminal import TerminalCallback
from isthmus.training.threads import same_threads
from isthmus.training.trainer import ROW_0, LatentTrainer
from isthmus.training.unseen import unseen_line, unseen_shares

LOG_FILE = "log.jsonl"
RECIPE_FILE = "recipe.toml"
"""The settings with all that was chosen for the run: as a recipe, it repeats the run exactly."""
CURVES_FILE = "curves.png"
FINAL_SAMPLES = 20
"""K of the importance-weighted bound in the model card."""
FINAL_TEXTS = 200
"""Examples that are decoded for the model card: a random sample of those."""


@final
class Interrupted(IsthmusError):
    """A signal has stopped the run; a checkpoint is on disk."""


def train(
    settings: Settings,
    splits: Splits[Any],
    out: Path,
    *,
    resume: bool,
    console: Console,
    clock: Clock | None = None,
    report_to: Sequence[str] = (),
    temporary: bool = False,
) -> LatentModel:
    """Train a model and write a run directory.

    Under torchrun the process group is left as it is, so that another run can follow.

    Args:
        settings: the recipe with the user's changes; when resuming, those of the run.
        splits: training and validation texts, pictures, or both.
        out: the run directory; must not exist unless it is resumed.
        resume: continue from the last checkpoint in ``out``.
        console: for findings and progress.
        clock: of the command, where it began before this function and ``train.minutes`` counts.
        report_to: trackers, see :mod:`isthmus.settings.trackers`; a first phase is not reported.
        temporary: ``out`` will be removed: nobody looks at its curves, or wants to know its name.

    Returns:
        The trained model, as :func:`isthmus.load` would give it.

    Raises:
        IsthmusError: the folder is in use, settings changed, no whole checkpoint is left to resume
            from, or a term is not finite.
        Interrupted: stopped by the user; resumable.
    """
    check_sharding(settings, join(), resume)
    clock = clock or Clock(settings.train.minutes, settings.train.fit_prior)
    with (
        naming_a_loss(),
        bundle.writing_to(out),
        _claim(out, settings, splits, resume, console),
        same_threads(settings, out / RECIPE_FILE, out / FIRST_PHASE / RECIPE_FILE),
    ):
        keep_best = settings.train.keep == "best"
        say = _warner(console)
        checkpoint = last_checkpoint(out, keep_best=keep_best, say=say) if resume else None
        if settings.first.epochs:
            first_phase(settings, splits, out / FIRST_PHASE, console, clock)
        terminal, stop = TerminalCallback(console), StopOnSignal(console)
        try:
            callbacks = [terminal, stop, StopOnClock(clock), *reporters(report_to, out, say)]
            trainer = _trainer(settings, splits, out, checkpoint, console, callbacks, clock)
        except BaseException:
            if not resume and not settings.first.epochs:
                _release(out)
            raise
        with stop.listening(), terminal.bar, errors_here_alone():
            if not settings.train.minutes and not settings.train.sharding:
                console.print(expected(trainer, step_of(checkpoint) if checkpoint else 0))
            trainer.fit(checkpoint)
        _check_end(trainer, out, console)
        trainer.gather()
        if is_first_process():
            _finish(trainer, splits, out, console, temporary)
        set_states(trainer.model, None)
        trainer.accelerator.wait_for_everyone()
    return trainer.model.eval()


def _check_end(trainer: LatentTrainer, out: Path, console: Console) -> None:
    """Say that the clock has stopped the run, or raise if a signal has."""
    done, planned = trainer.state.global_step, trainer.args.max_steps
    if done == planned:
        return
    if not trainer.clock.struck:
        raise Interrupted(
            f"stopped at step {done} of {planned}; go on with the same command and --resume"
        )
    _warner(console)(
        f"the time was up at step {done:,} of {planned:,}, because the machine has become "
        f"slower; {out / RECIPE_FILE} has all {planned:,}"
    )


def train_once(settings: Settings, splits: Splits[Any], out: Path, console: Console) -> None:
    """Train a run directory unless it is finished; resume it if it was interrupted."""
    if (out / bundle.RUN_FILE).is_file():
        _tidy(out)
        return
    resume = (out / SETTINGS_FILE).is_file()
    train(settings, splits, out, resume=resume, console=console)


def first_phase(
    settings: Settings, splits: Splits[Any], out: Path, console: Console, clock: Clock
) -> None:
    """Train or resume the first phase, unless it is finished: the clock then counts its time."""
    first, finished = settings.first, (out / bundle.RUN_FILE).is_file()
    if not finished:
        console.print(f"first phase, {first.epochs:g} epochs at β = {first.beta:g}")
    train_once(first_settings(settings), splits, out, console)
    if finished:
        clock.add(bundle.read_run(out).get("seconds", 0.0))
    else:
        console.print("main run")


def _trainer(
    settings: Settings,
    splits: Splits[Any],
    out: Path,
    checkpoint: Path | None,
    console: Console,
    callbacks: list[TrainerCallback],
    clock: Clock,
) -> LatentTrainer:
    """The trainer, ready for its first step."""
    labels = _labels(settings, splits.train)
    model = _model(settings, splits.train, labels, out, loaded=checkpoint is not None)
    examples = model.codec.prepare_training(splits.train.examples, labels)
    settings = _fixed(settings, splits, model, examples, out, checkpoint, console, clock)
    judged = _judged(splits, settings)
    valid = model.codec.prepare(judged.examples)
    everything, trained = parameter_count(model)
    stream = splits.train.stream
    console.print(f"{'training' if stream is None else 'sample'}: {examples.report()}")
    part = len(judged) < len(splits.valid)
    of = f"; a random sample of {len(splits.valid):,}" if part else ""
    console.print(f"validation: {valid.report()}{of}")
    if stream is None and (unseen := valid.unseen(examples)) is not None:
        console.print(f"validation: {unseen_line(unseen, settings)}")
    row = None  # else it is in the log
    if not checkpoint:
        row = begin_at_decoder(model, settings, splits.train.examples, valid, console)
    console.print(f"model: {everything:,} parameters, {trained:,} of them trained")
    if fixed := fixed_parts(model):
        more = f" and {len(fixed) - 4} more" if len(fixed) > 4 else ""
        console.print(f"not trained: {', '.join(fixed[:4])}{more}", markup=False)
    step = step_of(checkpoint) if checkpoint else 0
    trainer = LatentTrainer(
        model,
        settings,
        examples,
        valid,
        out,
        floor=judged.floor,
        log=JsonLinesLog(out / LOG_FILE, step) if is_first_process() else None,
        warn=_warner(console),
        callbacks=callbacks,
        clock=clock,
        row_0=row,
        stream=stream,
    )
    if trainer.reading:
        console.print(trainer.reading, markup=False)
    return trainer


def _fixed(
    settings: Settings,
    splits: Splits[Any],
    model: LatentModel,
    examples: Examples,
    out: Path,
    checkpoint: Path | None,
    console: Console,
    clock: Clock,
) -> Settings:
    """The settings with what depends on the speed of this machine, written down for good."""
    recipe, undecided = out / RECIPE_FILE, settings.train.precision == "auto"
    stream = splits.train.stream
    if checkpoint and (settings.train.minutes or undecided or stream):
        return load_recipe(str(recipe))
    if stream and not settings.train.steps:
        settings = with_steps(settings, stream, examples, console)
    few = splits.valid.sample(PROBED, settings.train.seed)
    read = model.codec.prepare(few.examples)

    def trial(of: LatentModel) -> LatentTrainer:
        return LatentTrainer(
            of, settings, examples, read, out, log=None, warn=lambda line: None, callbacks=[]
        )

    if settings.train.precision == "auto":
        settings, line = fixed_precision(trial(model))
        if line:
            console.print(line)
    elif settings.train.precision == "bf16" and (line := slow_bf16(model.device)):
        _warner(console)(line)
    if settings.train.minutes:
        fixed = {id(p): p for p in model.parameters() if not p.requires_grad}  # not held twice
        copied = copy.deepcopy(model, fixed)
        settings, line = paced(trial(copied), lambda: _figures(copied, few, read, settings), clock)
        console.print(line)
    train = dataclasses.replace(settings.train, threads=torch.get_num_threads())
    settings = dataclasses.replace(settings, train=train)
    if is_first_process():
        recipe.write_text(to_toml(settings), encoding="utf-8")
    return settings


def _judged(splits: Splits[Any], settings: Settings) -> Corpus:
    """The validation examples that the bound and the model card are measured on."""
    return splits.valid.sample(settings.train.validation, settings.train.seed)


def _warner(console: Console) -> Callable[[str], None]:
    return lambda finding: console.print(f"warning: {finding}", style="bold yellow", markup=False)


@contextmanager
def _claim(
    out: Path, settings: Settings, splits: Splits[Any], resume: bool, console: Console
) -> Iterator[None]:
    """Hold a new folder, or that of the run to resume."""
    if not is_first_process():
        yield  # under torchrun the first process holds the folder for all
        return
    identity = {
        "settings": dataclasses.asdict(settings),
        "training texts": splits.train.fingerprint,
        "validation texts": splits.valid.fingerprint,
    }
    if resume and (out / bundle.RUN_FILE).is_file():
        _tidy(out)
    elif resume and (path := out / SETTINGS_FILE).is_file():
        _check_version(path)
    folders = ("checkpoints", "tensorboard", FIRST_PHASE, STATES)
    leaves = (SETTINGS_FILE, RECIPE_FILE, LOG_FILE, *folders)
    work = (MANIFEST, COMPLETE, bundle.RUN_FILE)
    with claim(
        out, identity, resume=resume, finished=bundle.RUN_FILE, leaves=leaves, work=work
    ) as replaced:
        if replaced:
            console.print(f"{out}: starting anew; the run there had completed no checkpoint")
        yield


def _tidy(out: Path) -> None:
    """Remove what a kill at the very end of a run leaves beside the finished run."""
    if is_first_process():
        for place in [out / "checkpoints", out / STATES, *out.glob(".unfinished-*")]:
            shutil.rmtree(place, ignore_errors=True)


def _check_version(path: Path) -> None:
    if "kind" not in read_json(path).get("settings", {}).get("model", {}):
        raise IsthmusError(
            f"{path.parent}: cannot be resumed, its settings are of version 0.1.0, which had no "
            "model.kind; start again in another folder"
        )


def _release(out: Path) -> None:
    """Empty a folder in which no step was made, so that the corrected command can take it."""
    for name in (SETTINGS_FILE, RECIPE_FILE, LOG_FILE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / STATES, ignore_errors=True)
    for folder in (out / "checkpoints", out):
        with suppress(OSError):  # not empty: then it holds more than was put there
            folder.rmdir()


def _labels(settings: Settings, corpus: Corpus) -> list[str | None] | None:
    """The labels that training observes, None for a missing one; None for a model without y."""
    if settings.model.labels == "given":
        data = settings.data
        separator = data.code_separator if isinstance(data, CodeSettings) else ""
        observed = observed_labels(corpus, data.labelled, settings.train.seed, separator)
        if isinstance(settings.model, LanguageModelSettings):
            names = {name for name in codes(observed, separator) if name is not None}
            CodeBook(tuple(sorted(names)), separator)  # refuses what no code can be
        return observed
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
    *,
    loaded: bool,
) -> LatentModel:
    """The model that the first step starts from, or that a checkpoint is loaded into."""
    if settings.train.start_from:
        return earlier_run(settings, corpus, labels)
    loaded |= settings.first.epochs > 0 and settings.first.keeps == "all"
    model = build(settings, corpus.examples, labels, loaded=loaded)
    if settings.first.epochs:
        take_over(model, bundle.load(out / FIRST_PHASE), settings.first.keeps)
    elif isinstance(settings.model, TextVAESettings) and settings.model.encoder.start_from:
        start_encoder(model, settings.model.encoder.start_from)
    return model


def _finish(
    trainer: LatentTrainer, splits: Splits[Any], out: Path, console: Console, temporary: bool
) -> None:
    """Measure, save the bundle, and remove the checkpoints that it replaces."""
    model, settings, streamed = trainer.model, trainer.settings, trainer.streamed
    fitted = fit_afterwards(trainer, splits, console) if settings.train.fit_prior else {}
    judged = _judged(splits, settings)
    valid = model.codec.prepare(judged.examples)
    with counting(console, "measuring", work(model, valid, FINAL_TEXTS)) as progress:
        metrics = _figures(model, judged, valid, settings, progress)
    for row in trainer.state.log_history:
        metrics |= {name: value for name, value in row.items() if name.startswith(ROW_0)}
    shown = dataclasses.asdict(settings)
    if given := shown["data"].get("embeddings"):
        shown["data"]["embeddings"] = shown_source(given)
    record = {
        "settings": shown,
        "data": {
            "source": shown_source(splits.train.source),
            f"{splits.train.kind.unit}s": streamed.texts if streamed else len(splits.train),
            "fingerprint": splits.train.fingerprint,
            "validation_fingerprint": splits.valid.fingerprint,
            **({} if streamed else unseen_shares(valid, trainer.examples)),
        },
        "public": public_names(settings, splits.train.source),
        "seed": settings.train.seed,
        "steps": trainer.state.global_step,
        "remedy": trainer.watch.remedy,
        "seconds": round(trainer.clock.elapsed, 1),
        **fitted,
        "metrics": metrics,
    }
    bundle.save(model, out, record)
    if not temporary:
        training_curves(out / LOG_FILE, out / CURVES_FILE)
        console.print(f"saved {out}; how training went: {out / CURVES_FILE}", markup=False)
    _tidy(out)


def _figures(
    model: LatentModel,
    judged: Corpus,
    valid: Examples,
    settings: Settings,
    progress: Progress = no_progress,
) -> Metrics:
    """The final figures on validation examples."""
    return evaluate(
        model,
        valid,
        samples=FINAL_SAMPLES,
        texts=FINAL_TEXTS,
        seed=settings.train.seed,
        labels=judged.labels,
        floor=judged.floor,
        progress=progress,
    )
