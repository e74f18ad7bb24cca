"""Which weights of a stock model are trained: all, none, or a low-rank update."""

from __future__ import annotations

from typing import Literal

from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from isthmus.errors import IsthmusError

Tuning = Literal["full", "lora", "frozen"]


def apply_tuning(model: PreTrainedModel, tuning: Tuning, rank: int) -> None:
    """Freeze a model, or put LoRA updates on all its linear maps (Hu et al. 2021), in place.

    Arguments:
        model: a stock model.
        tuning: "full" changes nothing.
        rank: r of the updates B·A; their scale α/r is 2, as in the paper's GPT-2 runs.

    Raises:
        IsthmusError: unknown tuning, or "lora" without peft.
    """
    if tuning == "full":
        return
    if tuning not in ("lora", "frozen"):
        raise IsthmusError(f"tuning: got {tuning!r}, expected full, lora or frozen")
    if tuning == "lora":
        _add_updates(model, rank)
    freeze(model, tuning)


def freeze(model: PreTrainedModel, tuning: Tuning) -> None:
    """Keep fixed what that tuning does not train; "full" leaves the model as it is."""
    if tuning != "full":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(tuning == "lora" and "lora_" in name)


def _add_updates(model: PreTrainedModel, rank: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise IsthmusError(
            "LoRA needs the package peft, which is not installed; run: pip install 'isthmus[lora]'"
        ) from error
    transposed = any(isinstance(module, Conv1D) for module in model.modules())  # as GPT-2's are
    inject_adapter_in_model(
        LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules="all-linear",
            fan_in_fan_out=transposed,
        ),
        model,
    )
