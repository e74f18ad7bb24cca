"""What a decoder reads besides its tokens, and what a bridge knows of a decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError


@final
@dataclass(frozen=True)
class Conditioning:
    """What a decoder reads for N latents; fields that no bridge fills stay empty.

    Args:
        embedding: a vector added to the embedding of every token, [N E].
        memory: for every layer the slots that precede the text in its key/value cache, the same
            vector as key and as value, [N heads slots head_size].
        prefix: soft tokens before the text, [N k E].
        context: the encoder output that cross-attention reads, [N k H].
        state: the cell states that a recurrent decoder starts from, [N L·H].
        input: joins the embedding of every token before the first layer, [N K·P].
        start: replaces the embedding of the start token, [N E].
        aligned: a vector for each position of the text, added to the embedding of the token that
            is read there, [N T E]; positions beyond them get none.
        output: a vector added to every last hidden state, before the output layer, [N H].
        middle: a vector for each position of the text, added to what the upper half of the layers
            reads there, [N T H]; positions beyond them get none.
    """

    embedding: Tensor | None = None
    memory: tuple[Tensor, ...] | None = None
    prefix: Tensor | None = None
    context: Tensor | None = None
    state: Tensor | None = None
    input: Tensor | None = None
    start: Tensor | None = None
    aligned: Tensor | None = None
    output: Tensor | None = None
    middle: Tensor | None = None

    @classmethod
    def merge(cls, parts: Mapping[str, Conditioning]) -> Conditioning:
        """The conditionings of several bridges, by their names, as one.

        Raises:
            IsthmusError: two of them fill the same field.
        """
        merged: dict[str, Any] = {}
        owners: dict[str, str] = {}
        for name, part in parts.items():
            for field, value in vars(part).items():
                if value is None:
                    continue
                if field in owners:
                    raise IsthmusError(
                        f"bridge: {owners[field]} and {name} both set the {field} that the "
                        "decoder reads; leave out one of them"
                    )
                owners[field], merged[field] = name, value
        return cls(**merged)

    @property
    def slots(self) -> int:
        """Positions before the text that the memory and the prefix take."""
        memory = 0 if self.memory is None else self.memory[0].shape[2]
        return memory + (0 if self.prefix is None else self.prefix.shape[1])

    @property
    def stack_inputs(self) -> dict[str, Tensor]:
        """What the decoder's stack reads besides tokens and cache, as its keyword arguments."""
        given = {"encoder_hidden_states": self.context, "latent_input": self.input}
        return {name: value for name, value in given.items() if value is not None}

    def embed(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Token embeddings as the decoder reads them.

        Args:
            tokens: their own embeddings, [N T E].
            places: where they stand in the text, [T]; the start token at 0.
        """
        if self.start is not None and places[0] == 0:
            tokens = torch.cat([self.start.to(tokens).unsqueeze(1), tokens[:, 1:]], dim=1)
        if self.aligned is not None:
            tokens = tokens + rows_at(self.aligned, places).to(tokens)
        return tokens if self.embedding is None else tokens + self.embedding.unsqueeze(1)

    def shifted(self, hidden: Tensor) -> Tensor:
        """Last hidden states [N T H] as the output layer reads them."""
        return hidden if self.output is None else hidden + self.output.to(hidden).unsqueeze(1)

    def changed(self, change: Callable[[str, Tensor], Tensor]) -> Conditioning:
        """The conditioning that a function of (field, tensor) makes of every tensor."""

        def of(field: str, value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(of(field, part) for part in value)
            return None if value is None else change(field, value)

        return Conditioning(**{field: of(field, value) for field, value in vars(self).items()})

    def repeat(self, times: int) -> Conditioning:
        """Every row ``times`` over, neighbours together: the layout of beams."""
        if times == 1:
            return self
        return self.changed(lambda _, value: value.repeat_interleave(times, dim=0))


def rows_at(rows: Tensor, places: Tensor) -> Tensor:
    """Rows [N K H] of places [T], [N T H]; those of places beyond K are zeros."""
    beyond = nn.functional.pad(rows, (0, 0, 0, 1))
    return beyond[:, places.clamp_max(rows.shape[1])]


@final
@dataclass(frozen=True)
class DecoderShape:
    """What a bridge knows of a decoder.

    Args:
        embedding_size: E, width of the token embeddings.
        cache: for every layer (key heads, head size) of its cache; None where the decoder keeps
            keys and values of different sizes or has no cache.
        context_size: width that cross-attention expects; None without cross-attention.
        state_size: width of all cell states together; None where the decoder is not recurrent.
        input_size: width of the vector that joins every token's embedding; 0 for none.
        output_size: H, width of the last hidden states; 0 if it is unknown.
        layers: that follow each other in its stack; 0 if they are not known.
        pretrained: its weights were not made for this bridge, so that what the bridge puts in the
            way of the text has a constant, which :mod:`isthmus.models.starting` sets.
    """

    embedding_size: int
    cache: tuple[tuple[int, int], ...] | None = None
    context_size: int | None = None
    state_size: int | None = None
    input_size: int = 0
    output_size: int = 0
    layers: int = 0
    pretrained: bool = False
