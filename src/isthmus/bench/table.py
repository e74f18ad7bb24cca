"""One table from the records of all rows, and the published figures to compare with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.bench.rows import Row
from isthmus.published.figures import TEST_SETS, per_word, published, remarks
from isthmus.runs.card import vain

COLUMNS = (
    ("ppl_word", "PPL / word", 1),
    ("bits_per_character", "bits / char.", 3),
    ("ppl_token", "PPL / token", 1),
    ("negative_elbo", "−ELBO", 2),
    ("nll_iw", "IW-NLL", 2),
    ("kl", "KL", 2),
    ("reconstruction", "rec.", 2),
    ("mutual_information", "MI", 2),
    ("active_units", "AU", 0),
    ("swap_gap", "swap gap", 2),
    ("bleu", "BLEU", 1),
    ("amortisation_gap", "amort. gap", 2),
    ("inference_gap", "infer. gap", 2),
)
"""Key of the record, heading, digits. Nats per sentence except perplexities, bits, AU and BLEU.
Of texts without words a table shows bits per character, of others the perplexity per word."""

PUBLISHED_HEADS = (
    *("system", "paper", "PPL", "counts", "PPL / word"),
    *("KL", "−ELBO", "MI", "AU", "remarks"),
)


class Cell(NamedTuple):
    """A figure of one row: its mean over seeds."""

    value: float
    error: float | None
    """Standard error over test sentences, averaged over seeds."""
    spread: float | None
    """Standard deviation over seeds; None for one seed."""


def cell(records: Sequence[dict[str, Any]], key: str) -> Cell | None:
    """The figure of one row over its seeds."""
    values, errors = [], []
    for record in records:
        metrics = record["metrics"]
        if key == "negative_elbo":
            values.append(-metrics["elbo"])
            errors.append(metrics["elbo_se"])
        elif metrics.get(key) is not None:
            values.append(metrics[key])
            errors.append(metrics.get(f"{key}_se"))
    if not values:
        return None
    known = [error for error in errors if error is not None]
    return Cell(
        float(np.mean(values)),
        float(np.mean(known)) if known else None,
        float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )


def against_plain(
    row: Row, records: Sequence[dict[str, Any]], folder: Path
) -> dict[str, float | None] | None:
    """The difference in IW-NLL between a row and its language model on the same sentences.

    Each sentence is averaged over seeds, then paired: the standard error of the differences does
    not contain the errors that both rows share. Only several seeds show the variation between
    trainings.

    Returns:
        Nats per sentence, its standard error over sentences and, if both rows have several seeds,
        over seeds (pairing them in order), and the ratio of the perplexities per word, if there
        are words; None if the language model has not been measured.
    """
    ours, theirs = _sentences(folder, row.name), _sentences(folder, row.plain or row.name)
    if not row.plain or not len(ours) or not len(theirs) or ours.shape[1] != theirs.shape[1]:
        return None
    difference = ours.mean(0) - theirs.mean(0)
    both = min(len(ours), len(theirs))
    by_seed = ours[:both].mean(1) - theirs[:both].mean(1)
    metrics = records[0]["metrics"]
    words = metrics["words"] / metrics["sentences"]
    return {
        "nats": float(difference.mean()),
        "nats_se": float(difference.std(ddof=1) / math.sqrt(len(difference))),
        "nats_se_seeds": float(by_seed.std(ddof=1) / math.sqrt(both)) if both > 1 else None,
        "ppl_ratio": math.exp(difference.mean() / words) if metrics.get("ppl_word") else None,
    }


def _sentences(folder: Path, name: str) -> np.ndarray[Any, Any]:
    """IW-NLL of every test sentence [seeds N]."""
    return np.array([np.load(file) for file in sorted(folder.glob(f"{name}-[0-9]*.npy"))])


def summary(
    records: dict[str, list[dict[str, Any]]], table: dict[str, Row], folder: Path
) -> list[dict[str, Any]]:
    """The measured rows of a table as plain values, in the table's order."""
    rows = []
    for name, row in table.items():
        if name not in records:
            continue
        own = records[name]
        line: dict[str, Any] = {
            "row": name,
            "what": row.what,
            "plain": row.plain,
            "seeds": len(own),
        }
        for key, _, _ in COLUMNS:
            found = cell(own, key)
            if found is not None:
                line[key] = found.value
                line[f"{key}_se"] = found.error
                line[f"{key}_sd_seeds"] = found.spread
        first = own[0]
        for key in ("mutual_information_limit", "sentences", "iw_samples"):
            line[key] = first["metrics"][key]
        line["measured_on"] = first["measured_on"]
        line["seconds"] = float(np.mean([record["seconds"] for record in own]))
        line["parameters"] = first["parameters"]
        line["against_plain"] = against_plain(row, own, folder)
        rows.append(line)
    return rows


def _difference(versus: dict[str, float | None] | None) -> str:
    if versus is None:
        return "–"
    shown = f"{versus['nats']:+.2f} ± {versus['nats_se']:.2f}"
    seeds = versus["nats_se_seeds"]
    return shown if seeds is None else f"{shown} (seeds ± {seeds:.2f})"


def _figure(row: dict[str, Any], key: str, digits: int) -> str:
    if row.get(key) is None or vain(row, key):
        return "–"
    error = row.get(f"{key}_se")
    return f"{row[key]:.{digits}f}" + (f" ± {error:.{max(digits, 1)}f}" if error else "")


def markdown_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a title and a table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    return [f"**{title}**", "", lines[0], "|---" * len(heads) + "|", *lines[1:]]


def cells_of(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table: figure ± standard error over the test sentences."""
    worded = any(row.get("ppl_word") is not None for row in rows)
    hidden = "bits_per_character" if worded else "ppl_word"
    columns = [column for column in COLUMNS if column[0] != hidden]
    heads = ["row", *(name for _, name, _ in columns), "− its LM", "s", "M param."]
    cells = [
        [
            row["row"] + (f" ({row['seeds']} seeds)" if row["seeds"] > 1 else ""),
            *(_figure(row, key, digits) for key, _, digits in columns),
            _difference(row["against_plain"]),
            f"{row['seconds']:.0f}",
            f"{row['parameters'] / 1e6:.1f}",
        ]
        for row in rows
    ]
    return heads, cells


def explained(row: dict[str, Any]) -> str:
    """What the figures of a table are, with the numbers that all of its rows share."""
    return (
        f"{row['sentences']:,} {row['measured_on']} sentences, the same for all rows; "
        f"IW with K = {row['iw_samples']}; nats per sentence except perplexities, bits, AU "
        f"and BLEU; MI is at most ln N = {row['mutual_information_limit']:.2f}. “− its LM”: "
        "IW-NLL minus that of the language model with the same decoder and budget, paired by "
        "sentence; negative is better; in brackets the error over seeds. Amortisation gap: "
        "refined − amortised ELBO of 200 of the sentences. s: seconds of training, possibly "
        "on a shared machine: not a measure of speed."
    )


def markdown(rows: Sequence[dict[str, Any]], title: str) -> str:
    """The table for readers."""
    lines = markdown_table(title, *cells_of(rows))
    if rows:
        what = [f"* `{row['row']}`: {row['what']}" for row in rows]
        lines += ["", explained(rows[0]), "", *what]
    return "\n".join(lines) + "\n"


def published_rows(dataset: str) -> list[list[str]]:
    """Cells under :data:`PUBLISHED_HEADS` of what others published on a corpus.

    The figures are as printed; the perplexity per word is converted, or the remarks say why it
    cannot be.
    """
    rows = []
    for figure in published(dataset):
        word = per_word(figure)
        # The column per word already covers remarks on units.
        others = [remark for remark in remarks(figure) if not remark.startswith("PPL ")]
        rows.append(
            [
                figure.system,
                figure.paper,
                _shown(figure.perplexity),
                figure.unit or "–",
                "not comparable" if word.value is None else f"{word.value:.1f}",
                _shown(figure.kl),
                _shown(figure.true_negative_elbo),
                _shown(figure.mutual_information),
                _shown(figure.active_units),
                "; ".join([word.reason.removesuffix(f"; {TEST_SETS[dataset]}"), *others]),
            ]
        )
    return rows


def published_title(dataset: str) -> tuple[str, str]:
    """The title of the published rows, and in what they differ from those measured here.

    None of their test sets is the one that Isthmus measures on: they give context, not a ranking.
    """
    differ = "as printed; other splits, vocabularies and budgets than above"
    return f"Published on {TEST_SETS[dataset]}", differ


def published_block(dataset: str) -> str:
    """Markdown of the published rows of a corpus; empty if there are none."""
    if dataset not in TEST_SETS:
        return ""
    title, differ = published_title(dataset)
    first, *lines = markdown_table(title, PUBLISHED_HEADS, published_rows(dataset))
    return "\n".join([f"{first} ({differ})", *lines]) + "\n"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
