"""Tokens of some texts that no other text has."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np

from isthmus.data.tokens import Tokens


@final
class Unseen(NamedTuple):
    """What part of the tokens of some texts occurs in no training text, start and end left out."""

    tokens: float
    """Share of all tokens."""
    types: float
    """Share of the different tokens."""


def unseen_share(texts: Tokens, training: Tokens) -> Unseen:
    """The share of tokens that no training text has: a model knows nothing of them.

    The unknown token counts as any other: training texts without it do not teach it.
    """
    around = [id_ for id_ in (texts.start, texts.end) if id_ is not None]
    ids, counts = np.unique(texts.ids, return_counts=True)
    counts = np.where(np.isin(ids, around), 0, counts)
    new = ~np.isin(ids, np.unique(training.ids))
    types = (counts > 0).sum()
    return Unseen(
        float(counts[new].sum() / max(1, counts.sum())),
        float((counts[new] > 0).sum() / max(1, types)),
    )
