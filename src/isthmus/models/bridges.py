"""How z enters a decoder.

A bridge maps z to what the decoder reads: its conditioning. It knows the size of z and the shape
of the decoder, and nothing else. A new bridge is a class in this file and a line in
:data:`BRIDGES`; one that conditions in a new way adds a field to :class:`Conditioning`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

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
            beyond = nn.functional.pad(self.aligned, (0, 0, 0, 1))  # a row of zeros
            tokens = tokens + beyond[:, places.clamp_max(self.aligned.shape[1])].to(tokens)
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
        pretrained: its weights were not made for this bridge, so that what the bridge puts in the
            way of the text has a constant, which :mod:`isthmus.models.starting` sets.
    """

    embedding_size: int
    cache: tuple[tuple[int, int], ...] | None = None
    context_size: int | None = None
    state_size: int | None = None
    input_size: int = 0
    output_size: int = 0
    pretrained: bool = False


class Bridge(nn.Module, ABC):
    """z → what the decoder reads.

    Args:
        latents: K, 1 for a single vector.
        latent_size: P.
        decoder: its shape.
        length: memory slots, soft tokens or context vectors for each latent.
    """

    can_widen = True
    """Whether :meth:`widen` works."""

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape, length: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, z: Tensor) -> Conditioning:
        """The conditioning of N latents: z [N K P], a grid of K latents (K = 1 for one vector)."""

    @classmethod
    def decoder_options(cls, width: int) -> dict[str, int]:
        """Fields that a fresh decoder's configuration needs for a z (and y) of that width."""
        return {}

    def begin_as(self, start: Tensor) -> None:
        """Let every code begin as the start token, whose embedding is [E], if it replaces it."""

    @torch.no_grad()
    def widen(self, count: int) -> None:
        """Read ``count`` more numbers at the end of z; each starts with the map of the first."""
        for linear in self.modules():
            if isinstance(linear, nn.Linear):
                first = linear.weight[:, :1].expand(-1, count)
                linear.weight = nn.Parameter(torch.cat([linear.weight, first], dim=1))
                linear.in_features = linear.weight.shape[1]


class LinearBridge(Bridge, ABC):
    """One linear map W: of all K latents to a vector, or of each latent to ``length`` rows.

    Before a pretrained decoder it may have a constant beside W z.
    """

    field: ClassVar[str]
    """The field of the conditioning that it fills."""
    in_rows: ClassVar[bool] = False
    """Whether W maps each latent to rows."""
    constant: ClassVar[bool] = False
    """Whether a pretrained decoder reads a constant as well. Rows that stand before or in place of
    tokens need one, because zeros are no start for them."""

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape, length: int) -> None:
        super().__init__(latents, latent_size, decoder, length)
        inputs = latent_size if self.in_rows else latents * latent_size
        self.length = length if self.in_rows else 1
        size = self.length * self.size(decoder)
        self.linear = nn.Linear(inputs, size, bias=self.constant and decoder.pretrained)

    def size(self, decoder: DecoderShape) -> int:
        """Width of the vector, or of a row."""
        return decoder.embedding_size

    @torch.no_grad()
    def begin_at(self, row: Tensor) -> None:
        """Make a row [size] the constant of every row."""
        self.linear.bias.copy_(row.repeat(self.length))

    def mapped(self, z: Tensor) -> Tensor:
        """W z: [N K P] → [N size], or [N K·length size]."""
        if not self.in_rows:
            return self.linear(z.flatten(1))
        return self.linear(z).unflatten(-1, (self.length, -1)).flatten(1, 2)

    def forward(self, z: Tensor) -> Conditioning:
        """W z in its field."""
        given: dict[str, Any] = {self.field: self.mapped(z)}
        return Conditioning(**given)


@final
class EmbeddingBridge(LinearBridge):
    """A vector added to every token embedding (Li et al. 2020)."""

    field = "embedding"


@final
class MemoryBridge(LinearBridge):
    """In every layer, extra slots that all tokens attend to (Li et al. 2020).

    A slot's vector is both key and value, as in the authors' code. It enters the cache of the
    decoder as it is: after the rotary embedding, if there is one, in the first positions. The
    paper has one slot; with several, attention can choose which part of z it reads. T5-VAE (Park &
    Lee 2021) is this bridge on T5's decoder without its cross-attention.
    """

    in_rows = constant = True

    def size(self, decoder: DecoderShape) -> int:
        """Width of the slots of all layers."""
        if decoder.cache is None:
            raise IsthmusError(
                "the memory bridge needs a decoder whose cache holds keys and values of one size, "
                "and this decoder's does not; use --model.bridge prefix"
            )
        self.layers = decoder.cache
        return sum(heads * size for heads, size in self.layers)

    def forward(self, z: Tensor) -> Conditioning:
        """K × length slots in each layer."""
        parts = self.mapped(z).split([heads * size for heads, size in self.layers], dim=-1)
        memory = tuple(
            part.unflatten(-1, shape).transpose(1, 2)  # [N heads K·length head_size]
            for part, shape in zip(parts, self.layers, strict=True)
        )
        return Conditioning(memory=memory)


@final
class PrefixBridge(LinearBridge):
    """Soft tokens before the text (Li & Liang 2021, Lester et al. 2021)."""

    field, in_rows, constant = "prefix", True, True


@final
class StartBridge(LinearBridge):
    """A vector in place of the start token, like CTRL's control codes (Keskar et al. 2019).

    The text begins with it: [c, x₁, x₂, …]. It takes no position of its own.
    """

    field, constant = "start", True

    @torch.no_grad()
    def begin_as(self, start: Tensor) -> None:
        """Add the start token's embedding to every column."""
        self.linear.weight += start.unsqueeze(1)


@final
class AlignedBridge(LinearBridge):
    """To each token's embedding, a vector from the latent that stands for its place in the text.

    Latent k stands for tokens k·length + 1 … (k + 1)·length, as for the pooling "blocks": the
    decoder reads its own latent where it predicts them, and finds the others by attention.
    """

    field, in_rows = "aligned", True


@final
class OutputBridge(LinearBridge):
    """A vector added to every last hidden state, so that z reaches each word's logit at once.

    A skip connection around the decoder (Dieng et al. 2019, arXiv 1807.04863): it says which words
    the text has, and leaves it to the other bridges where they stand. Before a pretrained decoder
    its start is found in closed form, see :mod:`isthmus.models.newton`.
    """

    field, constant = "output", True

    def size(self, decoder: DecoderShape) -> int:
        """Width of the last hidden states."""
        if not decoder.output_size:
            raise IsthmusError(
                "the output bridge needs a decoder whose output layer says how wide its input is, "
                "and this decoder's does not; use --model.bridge embedding"
            )
        return decoder.output_size


@final
class CrossAttentionBridge(LinearBridge):
    """Vectors in place of an encoder's output, for a decoder with cross-attention."""

    field, in_rows, constant = "context", True, True

    def size(self, decoder: DecoderShape) -> int:
        """Width of a context vector."""
        if decoder.context_size is None:
            raise IsthmusError(
                "the cross-attention bridge needs a decoder with cross-attention (T5, BART, or "
                "GPT-2 with add_cross_attention), and this one has none; "
                "use --model.bridge memory+embedding"
            )
        return decoder.context_size


@final
class StateBridge(LinearBridge):
    """The cell state that an lstm starts from (Bowman et al. 2016, Li et al. 2019)."""

    field = "state"

    def size(self, decoder: DecoderShape) -> int:
        """Width of the cell states of all layers."""
        if decoder.state_size is None:
            raise IsthmusError(
                "the state bridge needs a recurrent decoder (--model.decoder.architecture lstm); "
                "use --model.bridge memory+embedding"
            )
        return decoder.state_size


@final
class InputBridge(Bridge):
    """The latent itself, read with every token by an lstm or a dilated-cnn (Yang et al. 2017).

    Bowman et al. (2016) do so too. It has no weights: the decoder's first layer maps z and the
    token's embedding at once.
    """

    can_widen = False

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape, length: int) -> None:
        super().__init__(latents, latent_size, decoder, length)
        if decoder.input_size != latents * latent_size:
            raise IsthmusError(
                "the input bridge needs a decoder that reads z with every token "
                "(--model.decoder.architecture lstm or dilated-cnn); "
                "use --model.bridge embedding, which adds it"
            )

    @classmethod
    def decoder_options(cls, width: int) -> dict[str, int]:
        """The decoder's first layer is wider by z and y."""
        return {"latent_input": width}

    def forward(self, z: Tensor) -> Conditioning:
        """The latent itself."""
        return Conditioning(input=z.flatten(1))


BRIDGES: Final[dict[str, type[Bridge]]] = {
    "memory": MemoryBridge,
    "embedding": EmbeddingBridge,
    "prefix": PrefixBridge,
    "start": StartBridge,
    "aligned": AlignedBridge,
    "output": OutputBridge,
    "cross-attention": CrossAttentionBridge,
    "state": StateBridge,
    "input": InputBridge,
}
"""Every bridge by its name; help shows the first line of its docstring."""


@final
class CombinedBridge(Bridge):
    """Several bridges at once, each with its own weights."""

    def __init__(self, parts: dict[str, Bridge]) -> None:
        nn.Module.__init__(self)
        self.parts = nn.ModuleDict(parts)
        self.can_widen = all(part.can_widen for part in parts.values())

    def begin_as(self, start: Tensor) -> None:
        """Of every part."""
        for part in self.parts.values():
            assert isinstance(part, Bridge)
            part.begin_as(start)

    def forward(self, z: Tensor) -> Conditioning:
        """The parts' conditionings as one."""
        return Conditioning.merge({name: part(z) for name, part in self.parts.items()})


def bridge_parts(name: str) -> dict[str, type[Bridge]]:
    """The bridges that a name joins by "+".

    Raises:
        IsthmusError: an unknown bridge, or one that is named twice.
    """
    names = name.split("+")
    for part in names:
        if part not in BRIDGES:
            raise IsthmusError(
                f"bridge: got {part!r}, expected {', '.join(BRIDGES)}, or several joined by +"
            )
        if names.count(part) > 1:
            raise IsthmusError(f"bridge: got {name!r}, which repeats {part}; name it once")
    return {part: BRIDGES[part] for part in names}


def build_bridge(
    name: str, latents: int, latent_size: int, decoder: DecoderShape, length: int = 1
) -> Bridge:
    """The bridge of that name for that decoder; see :class:`Bridge` for the other arguments.

    Raises:
        IsthmusError: see :func:`bridge_parts`, or a bridge that this decoder cannot take.
    """
    kinds = bridge_parts(name)
    parts = {part: kind(latents, latent_size, decoder, length) for part, kind in kinds.items()}
    return parts[name] if len(parts) == 1 else CombinedBridge(parts)


def initialise(bridge: Bridge) -> None:
    """W ~ N(0, 0.02²), as the papers' code starts every map from z; constants are 0."""
    for parameter in bridge.parameters():
        torch.nn.init.normal_(parameter, std=0.02 if parameter.ndim > 1 else 0.0)
