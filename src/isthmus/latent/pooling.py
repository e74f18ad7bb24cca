"""Pooling: one vector from the hidden states of a text, without the padding."""

from __future__ import annotations

from typing import Final, Literal, final

import torch
from torch import Tensor, nn

Pooling = Literal["pooler", "first", "last", "mean", "max", "attention"]


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of every text: hidden [N T H], mask [N T] → [N H]."""
    weights = mask.to(hidden).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1)


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


POOLINGS: Final = {"first": first_pool, "last": last_pool, "mean": mean_pool, "max": max_pool}
"""Those without parameters."""
