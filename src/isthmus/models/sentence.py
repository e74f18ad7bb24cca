"""The vector that a sentence-transformers encoder makes of hidden states, as that library does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import precise
from isthmus.latent.pooling import SENTENCE_POOLINGS

UNLIMITED: Final = 1 << 20
"""Tokens of the longest text where a tokenizer has no limit."""


@final
@dataclass(frozen=True)
class SentenceSettings:
    """What a folder says, as a saved model keeps it.

    Args:
        poolings: keys of SENTENCE_POOLINGS; the vectors of several are joined.
        layers: what follows, in order, each with its ``kind``, see ``_BUILDERS``.
        prompt: put before every text.
        unpooled: tokens of the prompt that the pooling leaves out.
        maximum_length: tokens of the longest text, prompt, start and end included.
        truncated: leading features that are kept, 0 for all.
    """

    poolings: tuple[str, ...] = ("mean",)
    layers: tuple[Mapping[str, Any], ...] = ()
    prompt: str = ""
    unpooled: int = 0
    maximum_length: int = UNLIMITED
    truncated: int = 0

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> SentenceSettings:
        """From :meth:`saved`."""
        values = dict(saved)
        for name in ("poolings", "layers"):
            values[name] = tuple(values[name])
        return cls(**values)

    def saved(self) -> dict[str, Any]:
        """Values for JSON."""
        return asdict(self) | {"poolings": list(self.poolings), "layers": list(self.layers)}


@final
class Dense(nn.Module):
    """act(W x + b), plus x if it is residual."""

    def __init__(
        self, inputs: int, outputs: int, bias: bool, activation: str, residual: bool
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.activation: nn.Module = getattr(nn, activation)()
        self.residual: nn.Module | None = None
        if residual:
            same = inputs == outputs
            self.residual = nn.Identity() if same else nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [N in] → [N out]."""
        found: Tensor = self.activation(self.linear(x))
        return found if self.residual is None else found + self.residual(x)


@final
class Normalize(nn.Module):
    """Vectors of length 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [N E] → [N E]."""
        return nn.functional.normalize(x, dim=-1)


@final
class LayerNorm(nn.Module):
    """A layer norm, its weights under the names of the library."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [N E] → [N E]."""
        found: Tensor = self.norm(x)
        return found


_BUILDERS: Final[dict[str, Callable[..., nn.Module]]] = {
    "dense": Dense,
    "normalize": Normalize,
    "layer-norm": LayerNorm,
}


@final
class SentenceLayers(nn.Module):
    """From hidden states to the vector that sentence-transformers returns.

    Args:
        settings: of the folder.
        hidden_size: H of the states.
    """

    def __init__(self, settings: SentenceSettings, hidden_size: int) -> None:
        super().__init__()
        self.settings = settings
        size = hidden_size * len(settings.poolings)
        layers = []
        for layer in settings.layers:
            values = dict(layer)
            kind = values.pop("kind")
            if values.get("inputs", size) != size or values.get("size", size) != size:
                raise IsthmusError(
                    f"encoder source: its {kind} layer reads {values.get('inputs', size)} "
                    f"features, and the one before gives {size}; restore its module folders"
                )
            layers.append(_BUILDERS[kind](**values))
            size = values.get("outputs", size)
        self.layers = nn.ModuleList(layers)
        self.size = min(size, settings.truncated) if settings.truncated else size

    def forward(self, hidden: Tensor, mask: Tensor, prompted: bool = True) -> Tensor:
        """States [N T H] under a mask [N T] → [N size].

        Args:
            hidden: padded on the right.
            mask: 1 for tokens.
            prompted: the texts begin with the prompt.
        """
        hidden, read = precise(hidden), mask
        if prompted and self.settings.unpooled:
            read = mask.clone()
            read[:, : self.settings.unpooled] = 0
        x = torch.cat(
            [SENTENCE_POOLINGS[name](hidden, read) for name in self.settings.poolings], 1
        )
        for layer in self.layers:
            x = layer(x)
        return x[:, : self.size]
