"""Whether a run computes its matrix products in bfloat16: measured before its first step."""

from __future__ import annotations

import dataclasses
from statistics import median
from typing import Literal

import torch
from accelerate.utils import broadcast_object_list

from isthmus.models.bf16 import product_gain
from isthmus.models.text_model import TextModel
from isthmus.settings import Settings
from isthmus.training.duration import one_pass, timed_part, typical_batch, undisturbed
from isthmus.training.trainer import LatentTrainer

NARROW = 192
"""Width below which converting the numbers takes longer than their products in float32 do."""
GAIN = 1.1
"""Least gain for which bf16 is chosen: it rounds, and the measurement has an error."""
_PAIRS = 5
_ENOUGH = 0.1
"""Seconds of a pass from which more examples would not change the ratio much: a large model need
not read a whole batch a dozen times."""


def fixed_precision(trainer: LatentTrainer) -> tuple[Settings, str]:
    """The trainer's settings with a precision in the place of "auto", and a line that says why.

    bf16 is chosen where a model of texts is trained in full and a pass over a typical batch takes
    less time in it. Weights that are kept fixed would be rounded with it, which changes the
    language model itself (docs/models.md): there it has to be asked for. Where nothing was
    measured there is no line, but for a model in parts. All processes get what the first one
    chose.

    Args:
        trainer: before its first step, with ``train.precision`` "auto".
    """
    if trainer.settings.train.sharding:
        train = dataclasses.replace(trainer.settings.train, precision="float32")
        line = "precision: float32; no process has the whole model, so that nothing is measured"
        return dataclasses.replace(trainer.settings, train=train), line
    measured = [_measured(trainer) if _may_gain(trainer) else None]
    broadcast_object_list(measured)
    name: Literal["float32", "bf16"] = "float32"
    line = ""
    if measured[0] is not None:
        what, gain = measured[0]
        name = "bf16" if gain >= GAIN else "float32"
        line = f"precision: {name}; a {what} in bf16 is {gain:.2f} × as fast here"
    train = dataclasses.replace(trainer.settings.train, precision=name)
    return dataclasses.replace(trainer.settings, train=train), line


def _may_gain(trainer: LatentTrainer) -> bool:
    model = trainer.model
    if not isinstance(model, TextModel):
        return False
    stock = [(part.config.get_text_config(), tuning) for part, tuning in model.stock_models()]
    return all(tuning == "full" and part.hidden_size >= NARROW for part, tuning in stock)


def _measured(trainer: LatentTrainer) -> tuple[str, float]:
    """What was measured, and how many times as fast it is in bf16.

    Where single products are far slower no step is tried: on such processors it takes seconds.
    """
    product = product_gain(trainer.args.device)
    return ("product", product) if product < GAIN / 2 else ("step", _gain(trainer))


def _gain(trainer: LatentTrainer) -> float:
    """By how many times a training pass is faster in bf16: the median of some pairs in turn."""
    device = trainer.args.device.type
    _, keys = typical_batch(trainer)

    def seconds(bf16: bool) -> float:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return one_pass(trainer, keys)

    with undisturbed(trainer):
        size, _ = timed_part(trainer, keys, _ENOUGH)
        keys = keys[:size]
        seconds(bf16=True)  # libraries set themselves up
        return median(seconds(bf16=False) / seconds(bf16=True) for _ in range(_PAIRS))
