"""How long a run will take on this machine, said before its first step."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import final

import torch

from isthmus.training.loading import EpochKeys, Key
from isthmus.training.states import seconds_of_reading
from isthmus.training.trainer import LatentTrainer

_ENOUGH = 0.05
"""Seconds of a pass over examples from which more of them take longer in proportion."""
_EVALUATION = 0.5
"""Time of the validation bound in that of training on the same examples: without a way back, but
with another example's z as well."""
_MEASURING = 4.0
"""Time of all final figures, in the same unit: many samples of z, and texts that are decoded."""
_FEW = 8
"""Texts that a frozen encoder reads to see how long it takes."""
_STEP, _RUN = 0.004, 0.4
"""Seconds of a step and of a run beside all passes, with two slow cores: AdamW and the
Trainer's records; curves and files. They matter for small networks only."""


@final
@dataclass(frozen=True)
class Duration:
    """The time that a run is expected to take.

    Attributes:
        seconds: Of all steps, evaluations and final figures.
        steps: Optimiser steps.
        size: Of a typical one, in words.
    """

    seconds: float
    steps: int
    size: str

    def __str__(self) -> str:
        """One line."""
        steps = f"{self.steps:,} steps of ~{self.size}"
        return f"time: about {spoken(self.seconds)} on this machine ({steps})"

    def __rich__(self) -> str:
        """The same line, where rich would show the fields."""
        return str(self)


def expected(trainer: LatentTrainer, done: int = 0) -> Duration:
    """The time of a run, from passes over a typical batch, or over a part of it.

    They take about half a second, and change neither weights nor the state of a random generator.

    Args:
        trainer: before its first step.
        done: steps that an earlier part of the run has made.
    """
    train, total = trainer.settings.train, trainer.args.max_steps
    left = total - done
    symbols, keys = typical_batch(trainer)
    evaluating = _EVALUATION * train.evaluations * left / total + _MEASURING
    batches = left * train.accumulation + evaluating * trainer.valid.lengths.sum() / symbols
    kind = trainer.model.kind
    count, unit = (symbols, "token") if kind.field == "text" else (len(keys), kind.unit)
    size = f"{count * train.accumulation:,} {unit}s"
    seconds = float(batches) * _seconds(trainer, keys) + left * _STEP + _RUN
    if trainer.states is not None:  # those that a frozen encoder has read before
        epoch = len(trainer.loader())
        again = total * train.accumulation - max(epoch, done * train.accumulation)
        seconds -= max(0, again) * _reading(trainer, keys)
    return Duration(seconds, left, size)


def _reading(trainer: LatentTrainer, keys: list[Key]) -> float:
    """Seconds that the encoder reads a batch, from a few of its texts."""
    some = keys[:_FEW]
    batch = trainer._prepare_inputs(trainer.loader().collate_fn(some))
    seconds_of_reading(trainer.model, batch)  # libraries set themselves up
    return seconds_of_reading(trainer.model, batch) * len(keys) / len(some)


def typical_batch(trainer: LatentTrainer) -> tuple[int, list[Key]]:
    """Symbols of the median of the first batches, and its examples."""
    sampler = trainer.loader().batch_sampler
    assert isinstance(sampler, EpochKeys)
    sized = [(_symbols(trainer, keys), keys) for keys in islice(iter(sampler), 99)]
    return sorted(sized)[len(sized) // 2]


def _symbols(trainer: LatentTrainer, keys: list[Key]) -> int:
    places = trainer.places[[place for _, place in keys]]
    return int(trainer.examples.lengths[places].sum())


@contextmanager
def undisturbed(trainer: LatentTrainer) -> Iterator[None]:
    """Passes in here change neither the sums of the log nor the state of a random generator."""
    meter, trainer.meter = trainer.meter, copy.deepcopy(trainer.meter)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        trainer.meter = meter


def _seconds(trainer: LatentTrainer, keys: list[Key]) -> float:
    """Of a pass over a batch and back; where a part of it takes long, the rest is left out."""
    with undisturbed(trainer):
        size, seconds = timed_part(trainer, keys, _ENOUGH)
    return seconds * len(keys) / size


def timed_part(trainer: LatentTrainer, keys: list[Key], enough: float) -> tuple[int, float]:
    """Examples of a batch over which a pass takes enough seconds, or all; and what it takes."""
    one_pass(trainer, keys[:1])  # libraries set themselves up
    size = 1
    while True:
        seconds = sum(one_pass(trainer, keys[:size]) for _ in range(2)) / 2
        if size == len(keys) or seconds > enough:
            return size, seconds
        size = min(len(keys), 4 * size)


def one_pass(trainer: LatentTrainer, keys: list[Key]) -> float:
    """Seconds of a training pass over examples and back, which changes no weights."""
    begun = time.perf_counter()
    batch = trainer.loader().collate_fn(keys)
    with trainer.accelerator.autocast():
        trainer.training_step(trainer.model, batch, torch.tensor(len(keys)))
    trainer.model.zero_grad()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter() - begun


def spoken(seconds: float) -> str:
    """A duration, no more exact than an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds, -1 if seconds >= 10 else None)):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 10:
        return f"{minutes} min"
    hours, rest = divmod(5 * round(minutes / 5), 60)
    if hours == 0:
        return f"{rest} min"
    return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours} h"
