"""What each entry of a codebook stands for, read off texts (the posterior quantised)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.latent.codebook import CodebookDistribution
from isthmus.models.base import LatentModel, evaluating, in_batches
from isthmus.models.codec import Batch
from isthmus.models.optimus import OptimusModel
from isthmus.progress import Progress, no_progress

PIECES: Final = 5
"""Pieces of text that are shown for an entry."""


@final
@dataclass(frozen=True)
class Piece:
    """A piece of text that an entry stands for.

    Args:
        text: a word, or the tokens of one latent.
        share: of the uses of the entry, those that have it.
        lift: that share over the share of all uses that have it; 1 means nothing.
    """

    text: str
    share: float
    lift: float


@final
@dataclass(frozen=True)
class Entry:
    """An entry of a codebook, as texts use it.

    Args:
        code: its number.
        latent: the latent that uses it; −1 where all latents are alike, each the code of its own
            tokens.
        count: how often it is used.
        share: of all uses.
        nats: its rate, the mean of −log p(c_k|c_<k).
        pieces: what stands in these texts more often than in others, the most telling first.
        example: the first text that uses it.
    """

    code: int
    latent: int
    count: int
    share: float
    nats: float
    pieces: tuple[Piece, ...]
    example: str


def quantised(model: LatentModel) -> OptimusModel:
    """The model as one with a codebook.

    Raises:
        IsthmusError: it has none.
    """
    if not isinstance(model, OptimusModel) or model.codebook is None:
        raise IsthmusError(
            "codebook: this run's latents are no entries of one; train with --recipe codebook"
        )
    return model


@torch.no_grad()
def codebook(
    model: LatentModel, texts: Sequence[str], progress: Progress = no_progress
) -> list[Entry]:
    """The entries that texts use, the most used first.

    A piece counts once for each use of an entry. Pieces are ordered by p(s|c) log(p(s|c) / p(s)),
    their parts of KL(p(s|c) ‖ p(s)).

    Args:
        model: of the posterior quantised.
        texts: a few thousand say what the entries stand for.
        progress: called with the number of texts just read.

    Raises:
        IsthmusError: the model has no codebook.
    """
    owner = quantised(model)
    blocks = owner.config.pooling == "blocks"
    uses: dict[tuple[int, int], _Uses] = defaultdict(_Uses)
    examples = owner.read(texts)
    with evaluating(owner):
        for indices, batch in in_batches(owner, examples, progress):
            codes, rates = _coded(owner, batch)
            for row, index in enumerate(indices):
                pieces = _pieces(owner, batch["input_ids"][row], batch["attention_mask"][row])
                for latent, (code, nats) in enumerate(zip(codes[row], rates[row], strict=True)):
                    said = pieces[latent : latent + 1] if blocks else sorted(set(pieces))
                    if said:  # a block without tokens says nothing
                        uses[-1 if blocks else latent, code].add(index, nats, said)
    return _entries(uses, texts)


def _coded(model: OptimusModel, batch: Batch) -> tuple[list[list[int]], list[list[float]]]:
    """Codes and rates of a batch, [N K] each."""
    assert model.codebook is not None
    prior = model.prior
    assert isinstance(prior, CodebookDistribution)
    z = prior.module.rows(model.posterior(batch).mean)
    return model.codebook.codes(z).tolist(), prior.rates(z).tolist()


def _pieces(model: OptimusModel, ids: Tensor, mask: Tensor) -> list[str]:
    """The tokens of each latent, or the words of the text."""
    tokenizer, special = model.codec.encoder_tokenizer, model.codec.encoder_special
    own, around = ids[mask > 0].tolist(), {special.start, special.end, special.pad}

    def written(span: Sequence[int]) -> str:
        return str(tokenizer.decode([token for token in span if token not in around])).strip()

    if model.config.pooling != "blocks":
        return written(own).split()
    block = model.config.bridge_length
    spans = [own[first : first + block] for first in range(1, len(own), block)]
    return [written(span) or "(end)" for span in spans][: model.config.latents]


@final
class _Uses:
    """The uses of an entry so far."""

    def __init__(self) -> None:
        self.count, self.nats, self.first = 0, 0.0, -1
        self.pieces: Counter[str] = Counter()

    def add(self, index: int, nats: float, pieces: Sequence[str]) -> None:
        self.count += 1
        self.nats += nats
        self.first = index if self.first < 0 else min(self.first, index)
        self.pieces.update(pieces)


def _entries(uses: dict[tuple[int, int], _Uses], texts: Sequence[str]) -> list[Entry]:
    all_pieces: dict[int, Counter[str]] = defaultdict(Counter)
    totals: Counter[int] = Counter()
    for (latent, _), of in uses.items():
        all_pieces[latent].update(of.pieces)
        totals[latent] += of.count

    def telling(latent: int, of: _Uses) -> list[Piece]:
        pieces = []
        for text, count in of.pieces.items():
            share = count / of.count
            pieces.append(Piece(text, share, share * totals[latent] / all_pieces[latent][text]))
        pieces.sort(key=lambda piece: (-piece.share * math.log(piece.lift), piece.text))
        return pieces[:PIECES]

    entries = [
        Entry(
            code,
            latent,
            of.count,
            of.count / totals[latent],
            of.nats / of.count,
            tuple(telling(latent, of)),
            texts[of.first],
        )
        for (latent, code), of in uses.items()
    ]
    return sorted(entries, key=lambda entry: (-entry.count, entry.latent, entry.code))
