"""Pooling: one vector from the hidden states of a text, without the padding."""

from __future__ import annotations

from typing import Final, Literal, final

import torch
from torch import Tensor, nn

Pooling = Literal[
    "own", "pooler", "first", "last", "mean", "max", "attention", "queries", "blocks", "given"
]

_LEAST = 1e-9


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of every text: hidden [N T H], mask [N T] → [N H]."""
    return _weighted(hidden, mask.to(hidden))


def mean_sqrt_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Sum over the tokens divided by the root of their number: [N T H], [N T] → [N H]."""
    weights = mask.to(hidden).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp_min(_LEAST).sqrt()


def position_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of the states, weighted by their positions 1, 2, … (SGPT, arXiv 2202.08904).

    Hidden [N T H], mask [N T], padded on the right → [N H].
    """
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _weighted(hidden, (mask * positions).to(hidden))


def _weighted(hidden: Tensor, weights: Tensor) -> Tensor:
    weights = weights.unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp_min(_LEAST)


def max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Largest value of every feature over the tokens: [N T H], [N T] → [N H]."""
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(1)


def first_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The state of the first real token, on whichever side the padding is: → [N H]."""
    first = mask.to(torch.int64).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), first]


def last_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The state of the last real token, an LSTM's summary of a text: → [N H]."""
    last = (mask.to(torch.int64) * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


@final
class AttentionPool(nn.Module):
    """Σ_t softmax_t(w · h_t) h_t with one learned query w (Lin et al. 2017, arXiv 1703.03130)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [N T H] under a mask [N T] → [N H]."""
        scores = self.query(hidden).squeeze(-1).masked_fill(mask == 0, -torch.inf)
        return torch.einsum("nt,nth->nh", scores.softmax(-1), hidden)


@final
class QueryPool(nn.Module):
    """K learned queries, each with a softmax of its own over the tokens: [N T H] → [N K H].

    Attention of H-wide queries on the hidden states, softmax_t(q_k · h_t / √H) h_t, as in the
    Perceiver (Jaegle et al. 2021, arXiv 2103.03206).

    Args:
        latents: K.
        hidden_size: H.
    """

    def __init__(self, latents: int, hidden_size: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(latents, hidden_size))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [N T H] under a mask [N T] → [N K H]."""
        scores = hidden @ self.queries.T / hidden.shape[-1] ** 0.5  # [N T K]
        scores = scores.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf)
        return scores.softmax(1).transpose(1, 2) @ hidden


def block_pool(hidden: Tensor, mask: Tensor, latents: int, length: int) -> Tensor:
    """The states of each latent's own tokens, joined: [N T H] → [N K length·H].

    Latent k reads tokens k·length + 1 … (k + 1)·length: token 0 is the start of the text, which
    holds nothing. A missing token gives zeros; what stands beyond the last latent is not read.

    Args:
        hidden: padded on the right.
        mask: [N T].
        latents: K.
        length: tokens of each.
    """
    kept = hidden * mask.to(hidden).unsqueeze(-1)
    return _blocks(kept, latents, length).flatten(2)


def has_tokens(mask: Tensor, latents: int, length: int) -> Tensor:
    """Which latents have a token in :func:`block_pool`: mask [N T] → [N K]."""
    return _blocks(mask.unsqueeze(-1), latents, length).flatten(2).any(-1)


def _blocks(tokens: Tensor, latents: int, length: int) -> Tensor:
    """[N T H] → [N K length H], from token 1 on, zeros at the end."""
    tokens = tokens[:, 1 : latents * length + 1]
    missing = latents * length - tokens.shape[1]
    return nn.functional.pad(tokens, (0, 0, 0, missing)).unflatten(1, (latents, length))


POOLINGS: Final = {"first": first_pool, "last": last_pool, "mean": mean_pool, "max": max_pool}
"""Those without parameters."""

SENTENCE_POOLINGS: Final = {
    "cls": first_pool,
    "mean": mean_pool,
    "max": max_pool,
    "mean_sqrt_len_tokens": mean_sqrt_pool,
    "weightedmean": position_pool,
    "lasttoken": last_pool,
}
"""Those of the sentence-transformers library, by its names."""
