"""Which weights of a stock model are trained: all, none, or a low-rank update."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from isthmus.errors import IsthmusError
from isthmus.models.inspection import computed_weights

Tuning = Literal["full", "lora", "frozen"]


def apply_tuning(model: PreTrainedModel, tuning: Tuning, rank: int) -> None:
    """Freeze a model, or put LoRA updates on all its linear maps (Hu et al. 2021), in place.

    Args:
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
    """Train what that tuning trains, and fix everything else and what the model computes."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(tuning == "full" or (tuning == "lora" and "lora_" in name))
    for weight in computed_weights(model):
        weight.requires_grad_(False)


def hold(model: PreTrainedModel, tuning: Tuning, dtype: torch.dtype) -> None:
    """Hold the weights that a tuning keeps fixed in another type; buffers stay as they are."""
    if tuning == "full":
        return
    for name, parameter in model.named_parameters():
        if "lora_" not in name and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def widest_type(model: nn.Module) -> torch.dtype:
    """The widest type of a model's weights, which all that is trained has.

    transformers takes it for that of all weights when it saves a model.
    """
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return max(types, key=lambda kind: kind.itemsize)


def fixed_parts(module: nn.Module) -> list[str]:
    """Names of the outermost parts of a model in which nothing is trained."""
    parts = [name for name, p in module.named_parameters(recurse=False) if not p.requires_grad]
    for name, child in module.named_children():
        trained = [parameter.requires_grad for parameter in child.parameters()]
        if trained and not any(trained):
            parts.append(name)
        else:
            parts += [f"{name}.{part}" for part in fixed_parts(child)]
    return parts


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


def parameter_count(model: nn.Module) -> tuple[int, int]:
    """The number of all parameters, and of those that are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)
