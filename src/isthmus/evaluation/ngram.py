"""A language model of counts: interpolated Kneser–Ney (Chen & Goodman 1999, section 3).

It judges texts where no trained language model is at hand. It has seen nothing but the texts that
it is fitted to, and takes a second for a million words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError

Ids = NDArray[np.int64]
START, END, UNKNOWN = 0, 1, 2


@final
@dataclass(frozen=True, eq=False)
class _Order:
    """Counts of the n-grams of one order. A key is a context and a symbol in one number."""

    keys: Ids
    counts: Ids
    contexts: Ids
    totals: Ids
    """Counts after each context."""
    followers: Ids
    """Different symbols after each context."""
    discount: float

    @classmethod
    def of(cls, keys: Ids, counts: Ids, size: int) -> _Order:
        """The counts of different n-grams, in any order of their keys."""
        order = np.argsort(keys)
        keys, counts = keys[order], counts[order]
        contexts, back = np.unique(keys // size, return_inverse=True)
        totals = np.bincount(back, counts).astype(np.int64)
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        # Of texts that never repeat or always do, no discount can be estimated.
        discount = once / (once + 2 * twice) if once and twice else 0.5
        return cls(keys, counts, contexts, totals, np.bincount(back), discount)

    def interpolated(
        self, keys: Ids, size: int, lower: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """p of n-grams, given the p of what is left of each without its first symbol."""
        place = np.searchsorted(self.contexts, keys // size).clip(max=len(self.contexts) - 1)
        known = self.contexts[place] == keys // size
        own = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        count = np.where(self.keys[own] == keys, self.counts[own], 0)
        kept = np.maximum(count - self.discount, 0)
        left = self.discount * self.followers[place]
        return np.where(known, (kept + left * lower) / self.totals[place], lower)


@final
class NGrams:
    """p of texts by the counts of other texts.

    The lowest order is mixed with the uniform distribution over all symbols that it knows and one
    for those that it does not, so an unknown word costs as much as the rarest.

    Args:
        texts: What to count in.
        words: Whether the symbols are words between spaces; otherwise they are characters.
        order: n; by default 3 for words, and as many characters as a number holds, at most 6.

    Raises:
        IsthmusError: There is no text.
    """

    def __init__(self, texts: Sequence[str], words: bool = True, order: int | None = None) -> None:
        if not texts:
            raise IsthmusError("n-grams: got no texts, expected some to count in")
        self.words = words
        known = sorted({symbol for text in texts for symbol in self.split(text)})
        self._ids = {symbol: place for place, symbol in enumerate(known, start=UNKNOWN + 1)}
        self.size = len(known) + UNKNOWN + 1
        longest = int(62 / np.log2(self.size))  # keys are numbers of 63 bits
        self.order = min(longest, order or (3 if words else 6))
        keys, counts = np.unique(self._keys(texts, self.order), return_counts=True)
        self._orders = [_Order.of(keys, counts, self.size)]
        for length in range(self.order - 1, 0, -1):
            # Below the highest order, in how many contexts it occurs counts, not how often.
            keys, counts = np.unique(keys % self.size**length, return_counts=True)
            self._orders.append(_Order.of(keys, counts, self.size))

    def split(self, text: str) -> list[str]:
        """The symbols of a text."""
        return text.split() if self.words else list(text)

    @property
    def symbols(self) -> list[str]:
        """The symbols known; besides these there are the end and the unknown one."""
        return list(self._ids)

    def _keys(self, texts: Sequence[str], order: int) -> Ids:
        """Every n-gram of the texts, as a number, one for each symbol and each end."""
        rows: list[int] = []
        for text in texts:
            rows += [START] * (order - 1)
            rows += [self._ids.get(symbol, UNKNOWN) for symbol in self.split(text)]
            rows.append(END)
        ids = np.array(rows, dtype=np.int64)
        grams = np.lib.stride_tricks.sliding_window_view(ids, order)
        keys = grams @ (self.size ** np.arange(order - 1, -1, -1, dtype=np.int64))
        return keys[grams[:, -1] != START]

    def counts(self, texts: Sequence[str]) -> Ids:
        """Symbols of each text and its end, [N]."""
        return np.array([len(self.split(text)) + 1 for text in texts], dtype=np.int64)

    def surprisals(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """−log p of each symbol and of each end given those before it, one text after another."""
        keys = self._keys(texts, self.order)
        p = np.full(len(keys), 1 / (self.size - 1))  # a start is never predicted
        for length, order in enumerate(reversed(self._orders), start=1):
            p = order.interpolated(keys % self.size**length, self.size, p)
        return -np.log(p)

    def nats(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """−log p of each text, its end included, [N]."""
        firsts = np.concatenate([[0], np.cumsum(self.counts(texts))[:-1]])
        return np.add.reduceat(self.surprisals(texts), firsts)
