"""Published figures of text VAEs and language models, and their perplexities per word.

``published.csv`` has them as printed, errors included; :mod:`isthmus.published.identities` finds
the errors. Sources: Li et al. 2020 (Optimus, with its language models and LSTM-AE), whose KL and
−ELBO are printed only for Yahoo at λ = 0.5, by Park & Lee; Park & Lee 2021; Li et al. 2019; and
the README of texar's VAE example, whose perplexity follows from its NLL. ``pool`` is inferred from
test sets and code, not printed.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple, cast, final

from isthmus.errors import IsthmusError
from isthmus.published.identities import check
from isthmus.published.printed import Finding, read_table

Unit = Literal["subword", "word", "sentencepiece", ""]
"""What a perplexity counts: GPT-2 subwords, start and end; words and end; T5's SentencePiece
tokens without the end, in texts cut at 256 tokens. Empty: no perplexity is printed."""

WORD_ROWS = {"yahoo": "encoder pretraining λ=3", "ptb": "VAE-LSTM"}
"""The row per word whose −ELBO / ln PPL is the number of words per text, end included."""
SUBWORD_ROWS = {"yahoo": "Optimus λ=0.50"}
"""The same for GPT-2's subwords: an upper bound, as this PPL is importance-weighted."""
SIGN_ERROR = "Park & Lee 2021"
"""Its −ELBO is reconstruction − KL: only then do its rows agree on 113.0 tokens per text."""
TEST_SETS: Mapping[str, str] = {
    "ptb": "Penn Treebank, 3,761 test sentences",
    "yelp": "a Yelp test set of 10,000 texts",
    "yahoo": "a Yahoo test set of 10,000 documents",
    "snli": "an SNLI test set of 10,000 sentences",
}
"""What the figures were measured on; other splits of the same source are not comparable."""


@final
@dataclass(frozen=True)
class Published:
    """A row as printed; nats per text, None if nothing is printed."""

    system: str
    paper: str
    dataset: str
    unit: Unit
    perplexity: float | None
    kl: float | None
    negative_elbo: float | None
    """With a wrong sign in one paper, see :attr:`true_negative_elbo`."""
    mutual_information: float | None
    """I(x; z) by the paper's estimate."""
    active_units: float | None
    """Number of dimensions with Var_x(mean) ≥ 0.01."""
    latent_size: float | None
    pool: float | None
    """N of the estimate of I(x; z): its maximum is ln N."""

    @property
    def true_negative_elbo(self) -> float | None:
        """Reconstruction + KL, nats per text."""
        if self.paper == SIGN_ERROR and self.negative_elbo is not None and self.kl is not None:
            return self.negative_elbo + 2 * self.kl
        return self.negative_elbo


_COLUMNS = ("PPL", "KL", "-ELBO", "MI", "AU", "latent size", "pool")
"""Columns of the numbers, in the order of the fields of :class:`Published`."""


class PerWord(NamedTuple):
    """A perplexity per word (end of text included), or None if it is unknown, and why."""

    value: float | None
    reason: str


def published(dataset: str) -> list[Published]:
    """The published rows of a dataset.

    Raises:
        IsthmusError: There are none.
    """
    if dataset not in TEST_SETS:
        raise IsthmusError(
            f"no published figures for {dataset!r}; expected one of {', '.join(TEST_SETS)}"
        )
    return [figure for figure in _all() if figure.dataset == dataset]


def remarks(figure: Published) -> list[str]:
    """The findings of the table check about this row alone."""
    return [
        finding.message
        for finding in _findings()
        if [(row.name, row.dataset) for row in finding.rows] == [(figure.system, figure.dataset)]
    ]


def per_word(figure: Published) -> PerWord:
    """The perplexity per word: exp(−ELBO / words), or ln PPL times subwords per word.

    The number of words per text follows from a row of the same dataset that counts words, as
    −ELBO / ln PPL; see :data:`WORD_ROWS`.
    """
    test_set = TEST_SETS[figure.dataset]
    words = _symbols(WORD_ROWS, figure.dataset)
    subwords = _symbols(SUBWORD_ROWS, figure.dataset)
    bound, perplexity, value = figure.true_negative_elbo, figure.perplexity, None
    if perplexity is None:
        reason = "not comparable: no perplexity is printed"
    elif figure.unit == "word":
        value, reason = perplexity, "per word as printed, with its own vocabulary"
    elif words and bound is not None:
        value = math.exp(bound / words)
        reason = f"about exp(−ELBO {bound:.2f} / {words:.1f} words per text)"
        if figure.paper == SIGN_ERROR:
            reason += ", sign of the KL corrected; a lower bound, as its texts were cut"
    elif words and subwords and figure.unit == "subword":
        value = math.exp(math.log(perplexity) * subwords / words)
        reason = f"about {perplexity:.2f} ^ ({subwords:.1f} subwords / {words:.1f} words per text)"
    else:
        reason = (
            "not comparable: it counts GPT-2's subwords, start and end, and −ELBO is not printed"
        )
    return PerWord(value, f"{reason}; {test_set}")


def _symbols(systems: Mapping[str, str], dataset: str) -> float | None:
    """−ELBO / ln PPL of the row that a mapping names for a dataset."""
    for figure in _all():
        named = figure.dataset == dataset and figure.system == systems.get(dataset)
        if named and figure.negative_elbo and figure.perplexity:
            return figure.negative_elbo / math.log(figure.perplexity)
    return None


def _text() -> str:
    return (files("isthmus.published") / "published.csv").read_text(encoding="utf-8")


@cache
def _all() -> tuple[Published, ...]:
    return tuple(
        Published(
            *(row["system"], row["paper"], row["dataset"], cast(Unit, row["unit"])),
            *(float(row[column]) if row[column] else None for column in _COLUMNS),
        )
        for row in csv.DictReader(io.StringIO(_text(), newline=""))
    )


@cache
def _findings() -> tuple[Finding, ...]:
    return tuple(check(read_table(_text(), "published.csv")))
