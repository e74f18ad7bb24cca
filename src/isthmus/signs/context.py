"""Codes of signs from their surroundings, never from the sign's own picture.

In every strategy the code at a position is a function of the codes at other positions alone. Born
et al. mask the diagonal of their Transformer's attention, but its residual path carries each token
to its own code. Here a query depends on its position alone and each key on one token, so no number
of layers brings a token back to itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, final

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError
from isthmus.signs.settings import ContextKind

REACH: Final = 8
"""Offsets beyond this share one bias of attention."""


class Context(nn.Module, ABC):
    """A strategy for codes of `latent_size` P."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size

    @abstractmethod
    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """Summary of the surroundings of each position, [N T P].

        Args:
            z: [N T P] codes of pictures.
            mask: [N T] True for tokens; padding comes after the last one.
        """

    def known(self, mask: Tensor) -> Tensor:
        """[N T] True for tokens that have surroundings: those of sequences of two and more."""
        return mask & (mask.sum(1, keepdim=True) > 1)


@final
class Neighbours(Context):
    """Both neighbours, concatenated, through a linear map; VAE+Neighbor.

    A learned vector extends either end, so the first and the last token are predicted
    as well; the published code leaves them out.
    """

    def __init__(self, latent_size: int) -> None:
        super().__init__(latent_size)
        self.edges = nn.Parameter(torch.zeros(2, latent_size))
        self.both = nn.Linear(2 * latent_size, latent_size)

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """Linear map of [z of t − 1, z of t + 1]."""
        first, last = (edge.expand(len(z), 1, -1) for edge in self.edges)
        there = torch.where(mask[..., None], z, self.edges[1])
        left = torch.cat([first, there[:, :-1]], 1)
        right = torch.cat([there[:, 1:], last], 1)
        return self.both(torch.cat([left, right], -1))


@final
class Recurrent(Context):
    """The state of an LSTM after all tokens before; VAE+LSTM."""

    def __init__(self, latent_size: int) -> None:
        super().__init__(latent_size)
        self.lstm = nn.LSTM(latent_size, latent_size, batch_first=True)

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """State after token t − 1; zeros at the first."""
        states, _ = self.lstm(z[:, :-1])
        return nn.functional.pad(states, (0, 0, 1, 0))

    def known(self, mask: Tensor) -> Tensor:
        """All but the first."""
        return mask & (torch.arange(mask.shape[1], device=mask.device) > 0)


@final
class SelfBlind(Context):
    """Attention to all other tokens from queries that depend on position alone; VAE+Transformer.

    Keys and values are linear maps of single tokens; positions enter as a learned bias per head
    and offset (as in T5), initially highest at −1, +1, −2, +2, ….
    """

    def __init__(self, latent_size: int, layers: int = 2, heads: int = 8, width: int = 64) -> None:
        super().__init__(latent_size)
        self.query = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(_Block(latent_size, heads, width) for _ in range(layers))
        self.out = nn.Linear(width, latent_size)

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """[N T P]; zeros if there is nothing to attend to."""
        places = torch.arange(z.shape[1], device=z.device)
        offsets = (places - places[:, None]).clamp(-REACH, REACH) + REACH
        allowed = mask[:, None, :] & ~torch.eye(len(places), dtype=torch.bool, device=z.device)
        state = self.query.expand(*z.shape[:2], -1)
        for block in self.blocks:
            state = block(state, z, offsets, allowed)
        return torch.where(self.known(mask)[..., None], self.out(state), 0.0)


@final
class _Block(nn.Module):
    """Attention of states to tokens, then a perceptron, each added to the state."""

    def __init__(self, latent_size: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.tokens = nn.Linear(latent_size, 2 * width)
        self.attended = nn.Linear(width, width)
        self.before = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.perceptron = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        favourite = torch.arange(heads) // 2 + 1
        favourite = torch.where(torch.arange(heads) % 2 == 0, -favourite, favourite)
        distance = torch.arange(-REACH, REACH + 1) - favourite[:, None]
        self.bias = nn.Parameter(-2.0 * distance.abs())

    def forward(self, state: Tensor, z: Tensor, offsets: Tensor, allowed: Tensor) -> Tensor:
        """State [N T H], z [N T P], offsets [T T], allowed [N T T] → [N T H]."""
        query = self._split(self.query(self.before[0](state)))
        key, value = (self._split(part) for part in self.tokens(z).chunk(2, dim=-1))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + self.bias[:, offsets]
        # If nothing is allowed, as in a sequence of one, weights are zero and not NaN.
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~allowed[:, None], lowest).softmax(-1) * allowed[:, None]
        read = (weights @ value).transpose(1, 2).flatten(2)
        state = state + self.attended(read)
        return state + self.perceptron(self.before[1](state))

    def _split(self, values: Tensor) -> Tensor:
        """[N T H] → [N heads T H/heads]."""
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def make_context(kind: ContextKind, latent_size: int) -> Context | None:
    """The strategy of that name; None for "none"."""
    makers = {"neighbor": Neighbours, "lstm": Recurrent, "transformer": SelfBlind}
    if kind == "none":
        return None
    if kind not in makers:
        raise IsthmusError(f"context: got {kind!r}, expected none, {', '.join(makers)}")
    return makers[kind](latent_size)
