"""Layers that are computed again in the backward pass, with the cache that brings them z.

transformers' gradient checkpointing takes the cache from the layers: they would write into it a
second time. Here each computation writes into a copy, so that the memory of a bridge stays what it
was. It costs nothing: a copy shares all tensors, which writing replaces and does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer

from isthmus.errors import IsthmusError


def keep_caches(model: nn.Module) -> None:
    """Let all layers of a model keep the cache they are given while they are recomputed.

    Some stacks would take it from them as well, GPT-2's for example. They do so only where they
    are marked themselves, which nothing else needs.

    Raises:
        IsthmusError: transformers is too old to let them.
    """
    if not hasattr(GradientCheckpointingLayer, "_can_checkpoint_with_cache"):
        raise IsthmusError(
            "gradient checkpointing: this version of transformers drops the cache that carries z; "
            "run: pip install --upgrade transformers"
        )
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module._can_checkpoint_with_cache = True
        elif hasattr(module, "gradient_checkpointing"):
            setattr(module, "gradient_checkpointing", False)  # noqa: B010 - unknown to types


def recomputing(function: Callable[..., Any], *given: Any) -> Any:
    """A layer's output, which the backward pass computes again.

    Args:
        function: The layer's forward pass, with its keyword arguments.
        given: Its other arguments.
    """
    assert isinstance(function, partial)  # of modeling_layers

    def run(*given: Any) -> Any:
        named = {name: _own(value) for name, value in function.keywords.items()}
        return function.func(*function.args, *map(_own, given), **named)

    # The other kind of checkpoint has no gradient for what comes with the cache.
    return checkpoint(run, *given, use_reentrant=False)


def _own(value: Any) -> Any:
    """A cache to write into; anything else is unchanged."""
    if not isinstance(value, Cache):
        return value
    other: Any = copy.copy(value)
    if isinstance(value, EncoderDecoderCache):
        other.self_attention_cache = _own(value.self_attention_cache)
        other.cross_attention_cache = _own(value.cross_attention_cache)
        other.is_updated = dict(value.is_updated)
    else:
        other.layers = [copy.copy(layer) for layer in value.layers]
    return other
