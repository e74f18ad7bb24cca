"""Runs of LatentTrainer as tests need them: to the end, cut short, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from isthmus.data.kind import Floor
from isthmus.data.stream import TextStream
from isthmus.models.base import LatentModel
from isthmus.models.codec import Examples
from isthmus.progress import JsonLinesLog, is_first_process
from isthmus.settings import Settings
from isthmus.training import LatentTrainer
from isthmus.training.checkpoints import last_checkpoint, step_of

PART = {"layers": 1, "hidden_size": 32, "heads": 2}
TINY = {
    "model": {"latent_size": 4, "encoder": PART | {"pooling": "mean"}, "decoder": PART},
    "data": {"tokenizer": "word", "maximum_length": 24},
    "objective": {"schedule": "linear", "ramp": 0.5},
    "train": {
        "steps": 6,
        "sentences_per_batch": 8,
        "learning_rate": 3e-3,
        "evaluations": 1,
        "log_every": 2,
        "keep": "last",
    },
}
TIMES = {"tokens_per_second", "train_runtime", "train_steps_per_second"}


def weights(trainer: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def log_of(out: Path) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def timeless(out: Path) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key not in TIMES} for row in log_of(out)]


class Do(TrainerCallback):
    """Call a function at the end of a step."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, model=None, **_):
        if state.global_step == self.step:
            self.action(model)


class PowerCut(Exception):
    """Stands for kill -9, which the tests of the command line send in earnest."""


def cut_power(_: Any) -> None:
    raise PowerCut


def trained(
    out: Path,
    settings: Settings,
    model: LatentModel,
    examples: Examples,
    valid: Examples,
    *,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    warn: Callable[[str], None] = lambda finding: None,
    floor: Floor | None = None,
    stream: TextStream | None = None,
) -> LatentTrainer:
    """A run to its end, resumed from the last checkpoint in the folder on request."""
    out.mkdir(exist_ok=True)
    checkpoint = last_checkpoint(out) if resume else None
    step = step_of(checkpoint) if checkpoint else 0
    trainer = LatentTrainer(
        model,
        settings,
        examples,
        valid,
        out,
        log=JsonLinesLog(out / "log.jsonl", step) if is_first_process() else None,
        warn=warn,
        floor=floor,
        callbacks=list(callbacks),
        stream=stream,
    )
    trainer.fit(checkpoint)
    return trainer
