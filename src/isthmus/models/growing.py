"""A key/value cache that grows in place while a text is written."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor
from transformers import Cache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Further tokens that a buffer has room for when it is made."""


@final
class GrowingLayer(DynamicLayer):
    """Keys and values in a buffer with room to spare: a token costs no copy of those before it.

    Not for training: the backward pass needs what was read, and this writes beside it.
    """

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.buffers: tuple[Tensor, Tensor]
        if layer.get_seq_length():
            self.update(*_held(layer))

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """All keys and values [N heads T head_size], after these further ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = _held(self)
        before = self.get_seq_length()
        size = before + key_states.shape[-2]
        # Where beams or texts were chosen, the keys are no longer the first ones of the buffer.
        if not before or keys.data_ptr() != self.buffers[0].data_ptr() or self._full(size):
            self.buffers = _with_room(keys, key_states), _with_room(values, value_states)
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[..., before:size, :] = new
        self.keys, self.values = (buffer[..., :size, :] for buffer in self.buffers)
        return self.keys, self.values

    def _full(self, size: int) -> bool:
        return self.buffers[0].shape[-2] < size


def _held(layer: DynamicLayer) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer in use."""
    assert layer.keys is not None
    assert layer.values is not None
    return layer.keys, layer.values


def _with_room(old: Tensor, new: Tensor) -> Tensor:
    """A buffer for the old ones, which it holds, the new ones and :data:`ROOM` more."""
    before = old.shape[-2] if old.numel() else 0
    buffer = new.new_empty(*new.shape[:-2], before + new.shape[-2] + ROOM, new.shape[-1])
    if before:
        buffer[..., :before, :] = old
    return buffer


def grow_in_place(cache: Cache) -> None:
    """Let the layers of a cache that keep all keys grow in place; others stay as they are."""
    if isinstance(cache, EncoderDecoderCache):
        cache = cache.self_attention_cache
    for place, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[place] = GrowingLayer(layer)
