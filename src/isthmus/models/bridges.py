"""How z enters a decoder.

A bridge maps z to what the decoder reads: its conditioning. It knows the size of z and the shape
of the decoder, and nothing else. A new bridge is a class in this file and a line in
:data:`BRIDGES`; one that conditions in a new way adds a field to
:class:`isthmus.models.conditioning.Conditioning`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError
from isthmus.models.conditioning import Conditioning, DecoderShape


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
class MiddleBridge(Bridge):
    """One of 2^P vectors for each latent of P bits, half-way up the decoder (Fleuret 2025).

    Latent k stands for token k + 1, as for "aligned": what the upper half of the layers reads at
    its place has the vector of its code added. The Free Transformer (arXiv 2510.17504) adds it to
    keys and values alone, and its encoder begins as the lower half of the decoder; here any
    encoder reads the text. The gradient of a bit is the difference between the vectors of the code
    with and without it.
    """

    can_widen = False
    most_bits: ClassVar[int] = 16

    def __init__(self, latents: int, latent_size: int, decoder: DecoderShape, length: int) -> None:
        super().__init__(latents, latent_size, decoder, length)
        if decoder.layers < 2:
            raise IsthmusError(
                "the middle bridge needs a decoder of two Transformer layers or more; "
                "use --model.bridge aligned"
            )
        if latent_size > self.most_bits:
            raise IsthmusError(
                f"the middle bridge has a vector for each code of P bits: got P = {latent_size} "
                f"(labels included), expected {self.most_bits} or fewer; use a smaller "
                "--model.latent-size"
            )
        size = decoder.output_size or decoder.embedding_size
        self.table = nn.Embedding(2**latent_size, size)

    def forward(self, z: Tensor) -> Conditioning:
        """The vectors of the codes of z, whose numbers count as 1 above a half."""
        bits = 2 ** torch.arange(z.shape[-1], device=z.device)  # no buffer: loading would lose it
        on = z > 0.5
        codes = (on * bits).sum(-1)  # [N K]
        rows = self.table(codes)
        if z.requires_grad:
            without = codes.unsqueeze(-1) - on * bits  # [N K P]
            table = self.table.weight.detach()
            moves = table[without + bits] - table[without]  # [N K P H]
            rows = rows + ((z - z.detach()).unsqueeze(-2) @ moves).squeeze(-2)
        return Conditioning(middle=rows)


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
    "middle": MiddleBridge,
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
