"""How many steps fit into the time: measured before the first of them, then fixed."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import final

import torch
from accelerate.utils import broadcast_object_list

from isthmus.models.codec import Batch
from isthmus.settings import Settings
from isthmus.training.clock import TRAINED, Clock
from isthmus.training.states import seconds_of_reading
from isthmus.training.trainer import LatentTrainer

PROBED = 16
"""Validation examples that are measured to know what measuring takes."""
_PROBING = 0.015
"""Share of the time that goes into measuring the steps."""
_LEAST_STEPS, _MOST_STEPS = 3, 40
_LEAST_LEFT = 0.05
"""Least share of a step that is left if the encoder does not read: measuring has an error."""
_VALIDATING = 0.05
"""Largest share of the time that all measurements of the validation bound together may take."""
_FINAL = 0.04
"""Largest share of the time that the final figures may take."""
_FEWEST = 32
"""Validation examples that are measured even if they take longer."""
_BYTES_A_SECOND = 1.5e8
"""Of a checkpoint: written, with the digests of its files."""


@final
@dataclasses.dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a run take."""

    step: float
    """An optimiser step."""
    again: float
    """An optimiser step whose texts a frozen encoder has read before."""
    bound: float
    """The validation bound of an example."""
    final: float
    """All final figures of an example."""
    checkpoint: float


def paced(
    trial: LatentTrainer, measure: Callable[[], object], clock: Clock
) -> tuple[Settings, str]:
    """Settings whose steps and validation examples fit into what is left of the time.

    They have no limit of time themselves: whoever repeats the run with them gets the same weights,
    however fast the machine is. All processes get those of the first.

    Args:
        trial: a trainer that is thrown away, with a copy of the model and `PROBED` validation
            examples; its settings have ``train.minutes``. The run has no more steps than it has.
        measure: takes the final figures of those examples.
        clock: of the run.

    Returns:
        The settings, and a line on them.
    """
    pace = _measured(trial, measure, clock)
    train, planned = trial.settings.train, trial.args.max_steps
    in_passes = _VALIDATING * clock.seconds / (train.evaluations * pace.bound)
    in_the_end = _FINAL * clock.seconds / pace.final
    validation = min(train.validation, max(_FEWEST, int(min(in_passes, in_the_end))))
    passes = train.evaluations * (validation * pace.bound + pace.checkpoint)
    left = clock.until(TRAINED)
    epoch = math.ceil(len(trial.get_train_dataloader()) / train.accumulation)
    steps = max(1, min(planned, _fitting(left - passes, pace, epoch)))
    agreed = [dataclasses.replace(train, steps=steps, validation=validation, minutes=0.0)]
    broadcast_object_list(agreed)
    line = (
        f"time: {pace.again:.2g} s a step, so {agreed[0].steps:,} of {planned:,} steps in the "
        f"{max(left, 0) / 60:.1f} minutes that are left to train"
    )
    return dataclasses.replace(trial.settings, train=agreed[0]), line


def _fitting(seconds: float, pace: Pace, epoch: int) -> int:
    """Steps that fit, of which those of the first epoch take longer."""
    first = int(seconds / pace.step)
    return first if first <= epoch else epoch + int((seconds - epoch * pace.step) / pace.again)


def _measured(trial: LatentTrainer, measure: Callable[[], object], clock: Clock) -> Pace:
    step, again = _seconds_a_step(trial, _PROBING * clock.seconds)
    bound = _seconds(trial.measured) / len(trial.valid)
    final = _seconds(measure) / len(trial.valid)
    # Weights and two moments of each that is trained, in four bytes.
    size = sum(4 * p.numel() * (3 if p.requires_grad else 1) for p in trial.model.parameters())
    return Pace(step, again, bound, final, size / _BYTES_A_SECOND)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _seconds_a_step(trainer: LatentTrainer, limit: float) -> tuple[float, float]:
    """The mean over some steps; the first does not count: libraries set themselves up in it.

    And that of a step whose texts a frozen encoder has read before.
    """
    optimizer = trainer.create_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the peak, without warm-up, might diverge
    most = min(_MOST_STEPS, max(_LEAST_STEPS, trainer.args.max_steps // 10))
    begun, taken, read = time.perf_counter(), [], 0.0
    before = begun
    for batch in trainer.get_train_dataloader():
        _step(trainer, optimizer, batch)
        now = time.perf_counter()
        taken.append(now - before)
        before = now
        if trainer.states is not None:
            read += seconds_of_reading(trainer.model, trainer._prepare_inputs(batch))
            before = time.perf_counter()
        if len(taken) >= most or (now - begun > limit and len(taken) >= _LEAST_STEPS):
            break
    counted = taken[1:] or taken
    step, several = sum(counted) / len(counted), trainer.settings.train.accumulation
    again = max(step - read / len(taken), _LEAST_LEFT * step)
    return step * several, again * several


def _step(trainer: LatentTrainer, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """What the Trainer does for a batch, without its collectives: processes need not keep step."""
    count = torch.tensor(len(batch["noise"]), device=trainer.args.device)
    with trainer.accelerator.autocast():
        trainer.training_step(trainer.model, batch, count)
    clip = trainer.settings.train.clip or math.inf
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
