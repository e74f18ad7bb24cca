"""The insides of a stock decoder, read from a copy without storage and not from its settings.

Configurations name the same thing in many ways, and a size computed from others is wrong for some
model (T5's head size is not its width divided by its heads). The copy costs no memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedConfig, PreTrainedModel


def without_storage(
    build: Callable[[PreTrainedConfig], PreTrainedModel], config: PreTrainedConfig
) -> PreTrainedModel:
    """The model that ``build`` makes of a configuration, on the meta device."""
    plain = copy.deepcopy(config)
    plain._attn_implementation = "eager"  # the others look at the values of a mask
    plain._experts_implementation = "batched_mm"  # the others look where tokens go
    with torch.device("meta"):
        return build(plain)


def token_embeddings(model: PreTrainedModel) -> Tensor:
    """The token embeddings of a stock model, [V E]."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


def known_ids(model: PreTrainedModel) -> int:
    """Number of ids that a stock model reads, also if one embedding stands for all of them."""
    rows = len(token_embeddings(model))
    return int(getattr(model.get_input_embeddings(), "known", rows))


def layers_of(stack: PreTrainedModel) -> Sequence[nn.Module]:
    """The layers that follow each other in a stack; none where it does not list them."""
    lists = [list(part) for part in stack.children() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len, default=[])


@contextmanager
def read_as_well(layer: nn.Module, given: Tensor) -> Iterator[None]:
    """Inside the block a layer reads these vectors [N T H] added to its hidden states."""

    def add(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if inputs:
            hidden, *rest = inputs
            return (hidden + given.to(hidden), *rest), named
        hidden = named["hidden_states"]
        return inputs, named | {"hidden_states": hidden + given.to(hidden)}

    handle = layer.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def computed_weights(model: nn.Module) -> list[nn.Parameter]:
    """Weights that a stock model computes and never learns: the sinusoids of its positions.

    transformers marks them as fixed in a fresh model (Marian, Pegasus, RoFormer), and forgets it
    in one that it loads; Marian's are not even saved.
    """
    computing = (module for module in model.modules() if hasattr(module, "create_weight"))
    return [each.weight for each in computing if isinstance(each.weight, nn.Parameter)]


def learned_positions(stack: PreTrainedModel) -> bool:
    """Whether a stack has a vector for each position, of which it may know the first alone."""
    given = "position_ids" in signature(stack.forward).parameters
    return given and sum(isinstance(part, nn.Embedding) for part in stack.modules()) > 1


@torch.no_grad()
def cache_sizes(
    stack: PreTrainedModel, context_size: int | None
) -> tuple[tuple[int, int], ...] | None:
    """(key heads, head size) of every layer of the cache that the stack fills with one token.

    None if its keys and values differ in size, or if it has no cache. T5Gemma does nothing without
    a context.
    """
    width = token_embeddings(stack).shape[1]
    with torch.device("meta"):
        cache = DynamicCache(config=stack.config)
        given: dict[str, Any] = {"past_key_values": cache}
        if context_size is not None:
            given["past_key_values"] = EncoderDecoderCache(
                cache, DynamicCache(config=stack.config)
            )
            given["encoder_hidden_states"] = torch.zeros(1, 1, context_size)
        stack(inputs_embeds=torch.zeros(1, 1, width), use_cache=True, **given)
    sizes = []
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is None or values is None or keys.shape != values.shape:
            return None
        sizes.append((keys.shape[1], keys.shape[3]))
    return tuple(sizes) or None


@torch.no_grad()
def modules_called(stack: PreTrainedModel, context_size: int | None) -> set[str]:
    """Names of the modules that one token runs through, with a context of that width or none."""
    called: set[str] = set()
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.add(name))
        for name, module in stack.named_modules()
    ]
    with torch.device("meta"):
        token = torch.zeros(1, 1, dtype=torch.long)
        context = None if context_size is None else torch.zeros(1, 1, context_size)
        stack(input_ids=token, encoder_hidden_states=context, use_cache=False)
    for handle in handles:
        handle.remove()
    return called
