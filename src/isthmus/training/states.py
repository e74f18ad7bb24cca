"""Whether a run keeps the states of its frozen encoder, and where."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from isthmus.data.corpus import TEXT
from isthmus.latent.pooling import POOLINGS
from isthmus.models.base import LatentModel
from isthmus.models.codec import Batch
from isthmus.models.optimus import OptimusModel
from isthmus.models.states import KeptStates, digest_of
from isthmus.settings import Settings

STATES = "states"
"""The folder of the kept states in a run directory."""


def states_to_keep(
    model: LatentModel, settings: Settings, out: Path, rank: int = 0, world_size: int = 1
) -> tuple[KeptStates | None, str]:
    """Where a frozen encoder needs to read each text only once, and a line about it.

    Args:
        model: in training.
        settings: of the run.
        out: the run directory.
        rank: of this process, which keeps what it reads itself.
        world_size: number of processes.

    Returns:
        What keeps the states, for :func:`set_states`, None if the same text may give others; and
        what to say, nothing without a frozen encoder.
    """
    text = _encoder_of(model)
    if text is None or text.config.encoder_tuning != "frozen":
        return None, ""
    if reason := _changes(text, settings):
        return None, f"encoder: frozen; it reads each text in every epoch, because {reason}"
    config, head = text.config, text.encoder.head
    digest = digest_of(text.encoder, f"{config.pooling} {config.sentence}", ("head.",))
    name = f"{digest}-{rank}-of-{world_size}"
    states = KeptStates(out / STATES, name, head.in_features, head.weight.dtype)
    return states, f"encoder: frozen; it reads each text once, its states are kept in {STATES}"


def begin_states(
    model: LatentModel, states: KeptStates | None, count: int, warn: Callable[[str], None]
) -> None:
    """Keep states from here on, beginning with the first ones of the folder.

    Args:
        model: in training.
        states: what keeps them, if anything does.
        count: how many there were at the checkpoint that the run goes on from.
        warn: called with a line where they are lost.
    """
    if states is None:
        return
    if not states.restore(count):
        warn(
            f"{STATES} is missing or damaged: the encoder reads all texts again, and numbers may "
            "differ in their last digits from those of a run without a stop"
        )
    set_states(model, states)


def set_states(model: LatentModel, states: KeptStates | None) -> None:
    """Let the encoder of texts keep its states, or read again."""
    if (text := _encoder_of(model)) is not None:
        text.kept_states = states


def seconds_of_reading(model: LatentModel, batch: Batch) -> float:
    """What a frozen encoder that keeps its states saves on a batch that it has read before."""
    if not isinstance(model, OptimusModel):  # of a joint model it is a part of a part
        return 0.0
    begun = time.perf_counter()
    model.read_states(batch)
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter() - begun


def _encoder_of(model: LatentModel) -> OptimusModel | None:
    """The part of a model that has an encoder of texts."""
    text = model.member(TEXT)
    return text if isinstance(text, OptimusModel) else None


def _changes(text: OptimusModel, settings: Settings) -> str:
    """Why the same text may give another state; empty if it cannot."""
    if getattr(settings.data, "streaming", False):
        return "a stream may have more texts than can be kept"
    for name in ("deletion", "masking"):
        if getattr(settings.data, name, 0):
            return f"data.{name} changes its input"
    if settings.train.sharding:
        return "each process has a part of it"
    if text.config.pooling not in {"own", "pooler", *POOLINGS}:
        return f"the pooling {text.config.pooling} is trained or keeps every token"
    return ""
