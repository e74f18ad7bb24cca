"""Training on transformers' Trainer, with its traps for a latent-variable model closed."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback
from transformers.trainer import TRAINER_STATE_NAME

from isthmus.data.batches import BucketBatches
from isthmus.data.denoise import Denoising
from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate, active_units, mutual_information
from isthmus.latent.objective import Objective, Terms
from isthmus.latent.schedule import Schedule
from isthmus.models.base import Inference, LatentModel
from isthmus.models.codec import Batch, Examples
from isthmus.models.labels import label_set
from isthmus.models.pictures.comparators import Distances
from isthmus.models.pictures.training import training_distances, with_features
from isthmus.progress import JsonLinesLog
from isthmus.settings import ObjectiveSettings, Settings, shared_fields
from isthmus.training.meter import Meter
from isthmus.training.semi_amortised import semi_amortised
from isthmus.training.watch import CollapseWatch, kl_matrix

COMPLETE = "complete"
"""Marker file that a checkpoint gets last; without it the checkpoint is half-written."""


def make_objective(settings: ObjectiveSettings, total_steps: int) -> Objective:
    """The objective that settings name."""
    makers = {
        "constant": lambda: Schedule.constant(settings.beta),
        "linear": lambda: Schedule.linear(settings.beta, settings.ramp),
        "cyclical": lambda: Schedule.cyclical(settings.beta, settings.cycles, settings.ramp),
        "zero-ramp": lambda: Schedule.zero_ramp(
            settings.beta, settings.cycles, settings.zero, settings.ramp
        ),
    }
    if settings.schedule not in makers:
        raise IsthmusError(
            f"schedule: got {settings.schedule!r}, expected one of {', '.join(makers)}"
        )
    try:
        return Objective(
            makers[settings.schedule](),
            total_steps,
            free_bits=settings.free_bits,
            form=settings.free_bits_form,
            label_nats=settings.label_nats,
            weights=settings.weights,
        )
    except ValueError as error:
        raise IsthmusError(f"objective: {error}") from error


@final
class Keys:
    """Batches of (epoch, index): all that a batch's tensors are a function of, beside the seed."""

    def __init__(self, batches: BucketBatches) -> None:
        self.batch_sampler = batches
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order, the noise and the corruption of an epoch."""
        self.epoch = epoch
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for indices in self.batch_sampler:
            yield [(self.epoch, index) for index in indices]


@final
class Itself:
    """A data set whose items are their keys; the collator looks the examples up."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
        return key


@final
class EpochLoader(DataLoader[Any]):
    """A loader that passes the epoch on to its keys."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of an epoch."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


@final
class LogAtCheckpoints(TrainerCallback):
    """No interval of the log spans a checkpoint, so that a resumed run writes the same log."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Log where a checkpoint is due."""
        control.should_log |= control.should_save
        return control


class LatentTrainer(Trainer):
    """transformers' Trainer for models that return terms in nats.

    What differs, and why: the loss of an optimiser step is a mean over all its *sentences*,
    whatever micro-batches and processes they came in; noise and corruption are functions of
    (seed, epoch, example); β is a function of the step; the validation bound is the true one at
    β = 1; a term that is not finite stops the run and is named; checkpoints are marked complete
    last; nothing pickled is written beside the optimiser's own state.
    """

    model: LatentModel

    # The loss is divided by the number of sentences of the whole step in compute_loss.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: LatentModel,
        settings: Settings,
        examples: Examples,
        valid: Examples,
        out: Path,
        *,
        log: JsonLinesLog | None,
        warn: Callable[[str], None],
        callbacks: list[TrainerCallback],
    ) -> None:
        self.settings = settings
        self.examples, self.valid = examples, valid
        self.jsonl, self.warn = log, warn
        self.meter = Meter(model.family, label_set(model).names)
        has_latent = math.prod(model.latent_shape) > 0
        self.ascent_steps = settings.train.semi_amortised if has_latent else 0
        rates = shared_fields(settings.data, Denoising)
        if not label_set(model).separator:
            rates["detail_dropout"] = 0.0
        self.denoising = Denoising(**rates)
        self.order = self._order()
        super().__init__(
            model=model,
            args=_arguments(settings, out),
            train_dataset=Itself(len(self.order)),
            eval_dataset=Itself(len(valid)),
            callbacks=[*callbacks, LogAtCheckpoints()],
        )
        self.remove_callback(PrinterCallback)  # it prints every log to standard output
        vars(model.config).pop("use_cache", None)  # the Trainer's, and no setting of ours
        steps = self._total_steps()
        self.args.max_steps = steps
        self.args.eval_steps = self.args.save_steps = max(1, steps // settings.train.evaluations)
        self.objective = make_objective(settings.objective, steps)
        self.distances: Distances | None = None
        if settings.objective.feature:
            self.distances = training_distances(model, examples, settings.train.seed)
            self.distances.comparator.to(self.args.device)
        self.watch = CollapseWatch(self.objective, math.prod(model.latent_shape))

    def fit(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint or from the start."""
        if checkpoint is not None and step_of(checkpoint) >= self.args.max_steps:
            self._load_finished(checkpoint)
            return
        self.meter.clear()
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _load_finished(self, checkpoint: Path) -> None:
        """The end of a run whose every step is done; the Trainer would do one more."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        chosen = checkpoint
        if self.args.load_best_model_at_end:
            chosen = checkpoint.with_name(f"checkpoint-{self.state.best_global_step}")
        self._load_from_checkpoint(str(chosen))

    def _total_steps(self) -> int:
        train = self.settings.train
        if train.steps:
            return train.steps
        per_epoch = math.ceil(len(self.get_train_dataloader()) / train.accumulation)
        return max(1, math.ceil(train.epochs * per_epoch))

    def _order(self) -> NDArray[np.int64]:
        """Which example stands at each place of an epoch: each once, or as often as balance asks.

        Balanced, texts of a label, chosen by the seed, are repeated until they are as many as
        those of the commonest label; a text without a label stays alone. What is repeated within
        an epoch has the same noise.
        """
        labels = getattr(self.examples, "labels", None)
        if self.settings.data.sampling == "natural" or labels is None:
            return np.arange(len(self.examples))
        generator = np.random.Generator(np.random.Philox(key=self.settings.train.seed))
        places = generator.permutation(len(self.examples))
        groups = [places[labels[places] == label] for label in np.unique(labels[labels >= 0])]
        largest = max(map(len, groups))
        even = [np.resize(group, largest) for group in groups]
        return np.concatenate([*even, places[labels[places] < 0]])

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Length-bucketed batches; each process takes its share of the same global batches."""
        train = self.settings.train
        batches = BucketBatches(
            self.examples.lengths[self.order],
            tokens_per_batch=None if train.sentences_per_batch else train.tokens_per_batch,
            sentences_per_batch=train.sentences_per_batch or None,
            seed=train.seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )
        return EpochLoader(
            Itself(len(self.order)), batch_sampler=Keys(batches), collate_fn=self._collate
        )

    def _collate(self, keys: list[tuple[int, int]]) -> Batch:
        draws = (self.ascent_steps + 1,) if self.ascent_steps else ()
        return self.examples.collate(
            self.order[[place for _, place in keys]].tolist(),
            seed=self.settings.train.seed,
            epoch=keys[0][0],
            noise_shape=(*draws, *self.model.latent_shape),
            denoising=self.denoising,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        """Sentences of the whole optimiser step, over all processes."""
        count = torch.tensor(sum(len(batch["noise"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Σ loss / sentences of the step, times the processes that data-parallel averages over."""
        output = model(**inputs, inference=self._inference())
        terms = output.terms
        loss = self.objective(terms, self.state.global_step).sum()
        # The terms too: β = 0 and the mask of free bits would hide a KL that is not finite.
        if not torch.isfinite(loss + terms.negative_elbo.sum()):
            self._name_the_fault(terms)
        self.meter.add(output, inputs)
        loss = loss / num_items_in_batch * self.args.world_size
        return (loss, output) if return_outputs else loss

    def _inference(self) -> Inference | None:
        """With a feature term, or semi-amortised under this step's objective, where asked for."""
        if self.distances is not None:
            return partial(with_features, distances=self.distances)
        if not self.ascent_steps:
            return None
        step, rate = self.state.global_step, self.settings.train.semi_amortised_rate
        return partial(
            semi_amortised,
            loss=lambda terms: self.objective(terms, step),
            steps=self.ascent_steps,
            learning_rate=rate,
        )

    def _name_the_fault(self, terms: Terms) -> None:
        parts = {"reconstruction": terms.reconstruction, "KL": terms.kl}
        parts |= {f"{name} term": term for name, term in terms.named.items()}
        bad = [name for name, value in parts.items() if not torch.isfinite(value).all()]
        raise IsthmusError(
            f"step {self.state.global_step + 1}: {' and '.join(bad) or 'the loss'} "
            f"{'are' if len(bad) > 1 else 'is'} not finite; "
            "lower --train.learning-rate or --train.clip, or use --train.precision float32"
        )

    def floating_point_ops(self, inputs: Batch) -> int:
        """Not counted: the estimate walks over all parameters in every step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the bound to what the Trainer logs, and keep it all as JSON Lines."""
        record: dict[str, Any] = {}
        if "loss" in logs and self.meter.examples:
            values, record = self.meter.summary(self.accelerator.reduce)
            logs |= values | {"beta": self.objective.beta(self.state.global_step - 1)}
            self.meter.clear()
        super().log(logs, start_time)
        if self.jsonl is not None:
            self.jsonl.write({"step": self.state.global_step} | logs | record)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The true bound at β = 1 on the validation examples, the same in every process."""
        measured = bounds(self.model, self.valid, samples=1, seed=self.settings.train.seed)
        kl = kl_matrix(measured.kl)
        active = active_units(measured.posterior).value
        metrics = {
            "eval_elbo": -(measured.reconstruction.mean() + kl.sum(1).mean()).item(),
            "eval_reconstruction": measured.reconstruction.mean().item(),
            "eval_kl": kl.sum(1).mean().item(),
            "eval_active_units": active,
            "eval_mutual_information": mutual_information(measured.posterior, measured.z).value,
        }
        gap = None
        if measured.swapped is not None:
            gap = Estimate.mean_of(measured.swapped - measured.own)
            metrics["eval_swap_gap"] = gap.value
        self.log(metrics)
        for finding in self.watch.look(self.state.global_step, kl, active, gap):
            self.warn(finding)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights and configuration; the Trainer would add its arguments as a pickle."""
        if self.args.should_save:
            self.model.save_pretrained(output_dir, state_dict=state_dict)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
        except RuntimeError as error:
            if "inline_container" not in str(error):
                raise
            # torch's writer of archives does not tell the errno; this is how it meets a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        if self.args.should_save:
            (folder / COMPLETE).touch()
        # A resumed run remembers nothing older; and this time belongs to no training interval.
        self.meter.forget()


def _arguments(settings: Settings, out: Path) -> TrainingArguments:
    train = settings.train
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(out / "checkpoints"),
        # These three are set once the batches are counted.
        max_steps=1,
        eval_steps=1,
        save_steps=1,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.decay if train.decay != "constant" else "constant_with_warmup",
        warmup_steps=train.warmup,
        weight_decay=train.weight_decay,
        max_grad_norm=train.clip,
        gradient_accumulation_steps=train.accumulation,
        logging_steps=train.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=2,
        load_best_model_at_end=train.keep == "best",
        metric_for_best_model="eval_elbo",
        greater_is_better=True,
        report_to=[],
        log_level_replica="error",
        disable_tqdm=True,
        bf16=train.precision == "bf16",
        use_cpu=not cuda,
        seed=train.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
    )


def tensorboard(out: Path) -> list[TrainerCallback]:
    """Event files in the run directory, where TensorBoard is installed."""
    if not find_spec("tensorboard"):
        return []
    callback = TensorBoardCallback()
    # By itself it would write among the checkpoints, which a finished run does not keep.
    callback.logging_dir = str(out / "tensorboard")
    return [callback]


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def last_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint of a run; half-written ones are removed."""
    folders = list((out / "checkpoints").glob("checkpoint-*"))
    whole = [folder for folder in folders if (folder / COMPLETE).is_file()]
    for folder in set(folders) - set(whole):
        shutil.rmtree(folder, ignore_errors=True)  # another process may be at it
    return max(whole, key=step_of, default=None)
