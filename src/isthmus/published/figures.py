"""Published figures of text VAEs and their language models, and what they are per word.

``published.csv`` holds them as printed, faults included; :mod:`isthmus.published.identities` tells
which. Sources: Li et al. 2020 (Optimus; its language models and LSTM-AE beside it), of which KL
and −ELBO are printed for Yahoo at λ = 0.5 alone, by Park & Lee; Park & Lee 2021; Li et al. 2019;
the README of texar's VAE example, whose NLL its perplexity is made of. ``pool`` is inferred from
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
"""What a perplexity counts: GPT-2 subwords, begin and end; words and end; T5's SentencePiece
tokens without the end, texts cut at 256 of them. Empty: no perplexity is printed."""

WORD_ROWS = {"yahoo": "encoder pretraining λ=3", "ptb": "VAE-LSTM"}
"""The row per word whose −ELBO / ln PPL is the words of a text, its end included."""
SUBWORD_ROWS = {"yahoo": "Optimus λ=0.50"}
"""The same for GPT-2's subwords. The PPL being importance-weighted, these are at most so many."""
SIGN_ERROR = "Park & Lee 2021"
"""Its −ELBO is reconstruction − KL: the rows agree on 113.0 tokens a text in no other way."""
TEST_SETS: Mapping[str, str] = {
    "ptb": "Penn Treebank, 3,761 test sentences",
    "yelp": "a Yelp test set of 10,000 texts",
    "yahoo": "a Yahoo test set of 10,000 documents",
    "snli": "an SNLI test set of 10,000 sentences",
}
"""What the figures were measured on; another split of the same source does not compare."""


@final
@dataclass(frozen=True)
class Published:
    """A printed row, as printed; nats per text, None where nothing is printed.

    Arguments:
        system: the model and its setting.
        paper: where the figures stand.
        dataset: ptb, yelp, yahoo or snli.
        unit: what the perplexity counts.
        perplexity: per symbol of that unit.
        kl: KL(q(z|x) ‖ p(z)).
        negative_elbo: −ELBO, in one paper with a wrong sign; see :attr:`true_negative_elbo`.
        mutual_information: I(x; z) by the paper's estimate.
        active_units: dimensions with Var_x(mean) ≥ 0.01.
        latent_size: P.
        pool: N of the estimate of I(x; z), so that its ceiling is ln N.
    """

    system: str
    paper: str
    dataset: str
    unit: Unit
    perplexity: float | None
    kl: float | None
    negative_elbo: float | None
    mutual_information: float | None
    active_units: float | None
    latent_size: float | None
    pool: float | None

    @property
    def true_negative_elbo(self) -> float | None:
        """Reconstruction + KL, nats per text."""
        if self.paper == SIGN_ERROR and self.negative_elbo is not None and self.kl is not None:
            return self.negative_elbo + 2 * self.kl
        return self.negative_elbo


class PerWord(NamedTuple):
    """A perplexity per word (end of text included), None where none can be had, and why."""

    value: float | None
    reason: str


def published(dataset: str) -> list[Published]:
    """The published rows of a dataset.

    Raises:
        IsthmusError: there are none.
    """
    if dataset not in TEST_SETS:
        raise IsthmusError(
            f"no published figures for {dataset!r}; expected one of {', '.join(TEST_SETS)}"
        )
    return [figure for figure in _all() if figure.dataset == dataset]


def remarks(figure: Published) -> list[str]:
    """What the table check says of a row by itself, in plain words."""
    return [
        finding.message
        for finding in _findings()
        if [(row.name, row.dataset) for row in finding.rows] == [(figure.system, figure.dataset)]
    ]


def per_word(figure: Published) -> PerWord:
    """The perplexity per word: exp(−ELBO / words), or ln PPL times subwords per word.

    The words of a text follow from the rows of the same dataset that count words, by
    −ELBO / ln PPL; see :data:`WORD_ROWS`.
    """
    where = TEST_SETS[figure.dataset]
    if figure.perplexity is None:
        return PerWord(None, f"not comparable: no perplexity is printed; {where}")
    if figure.unit == "word":
        return PerWord(figure.perplexity, f"per word as printed, vocabulary of its own; {where}")
    words = _symbols(WORD_ROWS, figure.dataset)
    subwords = _symbols(SUBWORD_ROWS, figure.dataset)
    bound = figure.true_negative_elbo
    if words and bound is not None:
        reason = f"about exp(−ELBO {bound:.2f} / {words:.1f} words a text)"
        if figure.paper == SIGN_ERROR:
            reason += ", sign of the KL corrected; at least so much, for its texts were cut"
        return PerWord(math.exp(bound / words), f"{reason}; {where}")
    if words and subwords and figure.unit == "subword":
        value = math.exp(math.log(figure.perplexity) * subwords / words)
        reason = (
            f"about {figure.perplexity:.2f} ^ ({subwords:.1f} subwords / {words:.1f} words a text)"
        )
        return PerWord(value, f"{reason}; {where}")
    return PerWord(
        None,
        "not comparable: it counts GPT-2's subwords, begin and end, and −ELBO is not printed; "
        + where,
    )


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
    def number(cell: str) -> float | None:
        return float(cell) if cell else None

    return tuple(
        Published(
            system=row["system"],
            paper=row["paper"],
            dataset=row["dataset"],
            unit=cast(Unit, row["unit"]),
            perplexity=number(row["PPL"]),
            kl=number(row["KL"]),
            negative_elbo=number(row["-ELBO"]),
            mutual_information=number(row["MI"]),
            active_units=number(row["AU"]),
            latent_size=number(row["latent size"]),
            pool=number(row["pool"]),
        )
        for row in csv.DictReader(io.StringIO(_text(), newline=""))
    )


@cache
def _findings() -> tuple[Finding, ...]:
    return tuple(check(read_table(_text(), "published.csv")))
