"""How z enters a decoder.

A bridge answers one question: what does this decoder get for this z? It is built from the size of
the latent and the shape of the decoder, and knows nothing else of either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Literal, final

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError

BridgeKind = Literal[
    "memory+embedding",
    "memory",
    "embedding",
    "prefix",
    "cross-attention",
    "state",
    "input",
    "start",
    "state+input",
]


@final
@dataclass(frozen=True)
class Conditioning:
    """What a decoder gets for N latents; what a bridge does not use stays empty.

    Arguments:
        embedding: a vector added to the embedding of every token, [N E].
        memory: for every layer the slots that stand before the text in its key/value cache, the
            same vector as key and as value, [N heads slots head_size].
        prefix: soft tokens before the text, [N k E].
        context: the encoder output that cross-attention reads, [N k H].
        state: the cell states that a recurrent decoder starts from, [N L·H].
        input: what joins the embedding of every token before the first layer, [N K·P].
        start: what stands in the place of the start token's embedding, [N E].
    """

    embedding: Tensor | None = None
    memory: tuple[Tensor, ...] | None = None
    prefix: Tensor | None = None
    context: Tensor | None = None
    state: Tensor | None = None
    input: Tensor | None = None
    start: Tensor | None = None

    @property
    def slots(self) -> int:
        """Places before the text that the memory and the prefix take."""
        memory = 0 if self.memory is None else self.memory[0].shape[2]
        return memory + (0 if self.prefix is None else self.prefix.shape[1])

    def repeat(self, times: int) -> Conditioning:
        """Every row ``times`` over, neighbours together: the layout of beams."""
        if times == 1:
            return self

        given = vars(self)
        repeated = {
            name: value.repeat_interleave(times, dim=0)
            for name, value in given.items()
            if isinstance(value, Tensor)
        }
        if self.memory is not None:
            memory = tuple(slots.repeat_interleave(times, dim=0) for slots in self.memory)
            return Conditioning(memory=memory, **repeated)
        return Conditioning(**repeated)


@final
@dataclass(frozen=True)
class DecoderShape:
    """What a bridge has to know of a decoder.

    Arguments:
        embedding_size: E, width of the token embeddings.
        cache: for every layer (key heads, head size) of its cache; none where the decoder keeps
            keys and values of different sizes or has no cache.
        context_size: width that cross-attention expects; none where there is no cross-attention.
        state_size: width of all cell states together; none where the decoder is not recurrent.
        input_size: width of what may join every token's embedding; 0 where nothing may.
    """

    embedding_size: int
    cache: tuple[tuple[int, int], ...] | None = None
    context_size: int | None = None
    state_size: int | None = None
    input_size: int = 0


class Bridge(nn.Module, ABC):
    """z → what the decoder gets."""

    @abstractmethod
    def forward(self, z: Tensor) -> Conditioning:
        """The conditioning of N latents: z [N K P], a grid of K latents (K = 1 for one vector)."""


@final
class EmbeddingBridge(Bridge):
    """h_Emb + W_D z at every position (Li et al. 2020, section 3.1, "Embedding")."""

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape) -> None:
        super().__init__()
        self.linear = nn.Linear(latents * latent_size, decoder.embedding_size, bias=False)

    def forward(self, z: Tensor) -> Conditioning:
        """One added vector an example."""
        return Conditioning(embedding=self.linear(z.flatten(1)))


@final
class MemoryBridge(Bridge):
    """h_Mem = W_M z, slots in every layer that all tokens attend to (Li et al. 2020, "Memory").

    A slot's vector is both key and value, as in the authors' code. It enters the cache of the
    decoder as it is: after the rotary embedding where there is one, in the first positions. The
    paper has one slot; with several, attention can choose among them which part of z it reads.
    T5-VAE (Park & Lee 2021) is this bridge on T5's decoder, whose cross-attention it leaves out.
    """

    def __init__(
        self, latents: int, latent_size: int, decoder: DecoderShape, length: int = 1
    ) -> None:
        super().__init__()
        if decoder.cache is None:
            raise IsthmusError(
                "the memory bridge needs a decoder whose cache holds keys and values of one size, "
                "and this decoder's does not; use --model.bridge prefix"
            )
        self.layers = decoder.cache
        self.length = length
        total = sum(heads * size for heads, size in self.layers)
        self.linear = nn.Linear(latent_size, length * total, bias=False)

    def forward(self, z: Tensor) -> Conditioning:
        """K × length slots a layer."""
        slots = self.linear(z).unflatten(-1, (self.length, -1)).flatten(1, 2)  # [N K·length ·]
        parts = slots.split([heads * size for heads, size in self.layers], dim=-1)
        memory = tuple(
            part.unflatten(-1, shape).transpose(1, 2)  # [N heads K head_size]
            for part, shape in zip(parts, self.layers, strict=True)
        )
        return Conditioning(memory=memory)


@final
class PrefixBridge(Bridge):
    """Soft tokens before the text (Li & Liang 2021; Lester et al. 2021), ``length`` a latent."""

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape, length: int) -> None:
        super().__init__()
        self.length = length
        self.linear = nn.Linear(latent_size, length * decoder.embedding_size, bias=False)

    def forward(self, z: Tensor) -> Conditioning:
        """K × length soft tokens."""
        return Conditioning(prefix=self.linear(z).unflatten(-1, (self.length, -1)).flatten(1, 2))


@final
class CrossAttentionBridge(Bridge):
    """z as the encoder output that the decoder of an encoder–decoder model was trained to read."""

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape, length: int) -> None:
        super().__init__()
        if decoder.context_size is None:
            raise IsthmusError(
                "the cross-attention bridge needs a decoder with cross-attention (T5, BART, or "
                "GPT-2 with add_cross_attention), and this one has none; "
                "use --model.bridge memory+embedding"
            )
        self.length = length
        self.linear = nn.Linear(latent_size, length * decoder.context_size, bias=False)

    def forward(self, z: Tensor) -> Conditioning:
        """K × length context vectors."""
        return Conditioning(context=self.linear(z).unflatten(-1, (self.length, -1)).flatten(1, 2))


@final
class StateBridge(Bridge):
    """c₀ = W z, the state that an LSTM starts from (Bowman et al. 2016; Li et al. 2019)."""

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape) -> None:
        super().__init__()
        if decoder.state_size is None:
            raise IsthmusError(
                "the state bridge needs a recurrent decoder (--model.decoder.architecture lstm); "
                "use --model.bridge memory+embedding"
            )
        self.linear = nn.Linear(latents * latent_size, decoder.state_size, bias=False)

    def forward(self, z: Tensor) -> Conditioning:
        """Cell states of all layers."""
        return Conditioning(state=self.linear(z.flatten(1)))


@final
class InputBridge(Bridge):
    """z ⊕ the embedding of every token (Bowman et al. 2016; Yang et al. 2017).

    It has no weights: the decoder's first layer maps both at once.
    """

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape) -> None:
        super().__init__()
        if decoder.input_size != latents * latent_size:
            raise IsthmusError(
                "the input bridge needs a decoder that reads z beside every token "
                "(--model.decoder.architecture lstm or dilated-cnn); "
                "use --model.bridge embedding, which adds it"
            )

    def forward(self, z: Tensor) -> Conditioning:
        """The latent itself."""
        return Conditioning(input=z.flatten(1))


@final
class StartBridge(Bridge):
    """What is given in the place of the start token (CTRL's control codes; Keskar et al. 2019).

    The text begins with it: [c, x₁, x₂, …]. It takes no place of its own.
    """

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape) -> None:
        super().__init__()
        self.linear = nn.Linear(latents * latent_size, decoder.embedding_size, bias=False)

    @torch.no_grad()
    def begin_as(self, start: Tensor) -> None:
        """Add the start token's own embedding [E] to every column: codes begin near it."""
        self.linear.weight += start.unsqueeze(1)

    def forward(self, z: Tensor) -> Conditioning:
        """One vector an example."""
        return Conditioning(start=self.linear(z.flatten(1)))


@final
class CombinedBridge(Bridge):
    """Several bridges at once, each with its own weights."""

    def __init__(self, parts: dict[str, Bridge]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, z: Tensor) -> Conditioning:
        """The parts' conditionings side by side."""
        merged: dict[str, Tensor | tuple[Tensor, ...]] = {}
        for part in self.parts.values():
            conditioning = part(z)
            for field in fields(conditioning):
                value = getattr(conditioning, field.name)
                if value is not None:
                    merged[field.name] = value
        return Conditioning(**merged)


def build_bridge(
    kind: BridgeKind, latents: int, latent_size: int, decoder: DecoderShape, length: int = 1
) -> Bridge:
    """The bridge of that name for that decoder.

    Arguments:
        kind: its name, parts joined by "+".
        latents: K, 1 for a single vector.
        latent_size: P.
        decoder: from :func:`isthmus.models.decoder.CausalDecoder.shape`.
        length: memory slots, soft tokens or context vectors a latent.

    Raises:
        IsthmusError: unknown name, or a bridge that this decoder cannot take.
    """
    size = (latents, latent_size, decoder)
    known = {
        "embedding": lambda: EmbeddingBridge(*size),
        "memory": lambda: MemoryBridge(*size, length),
        "prefix": lambda: PrefixBridge(*size, length),
        "cross-attention": lambda: CrossAttentionBridge(*size, length),
        "state": lambda: StateBridge(*size),
        "input": lambda: InputBridge(*size),
        "start": lambda: StartBridge(*size),
    }
    names = kind.split("+")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise IsthmusError(
            f"bridge: got {unknown[0]!r}, expected {', '.join(known)}, or several joined by +"
        )
    parts: dict[str, Bridge] = {name: known[name]() for name in names}
    return parts[names[0]] if len(parts) == 1 else CombinedBridge(parts)


def initialise(bridge: Bridge) -> None:
    """W ~ N(0, 0.02²), as the papers' code starts every map from z."""
    for parameter in bridge.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
