"""From the records of all rows to one table in which every column means the same for every row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from isthmus.bench.rows import Row

COLUMNS = (
    ("ppl_word", "PPL / word", 1),
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
"""Key of the record, heading, digits. Nats per sentence but for the perplexities, AU and BLEU."""


@final
@dataclass(frozen=True)
class Cell:
    """A figure of one row: its mean over seeds.

    Arguments:
        value: the mean.
        error: standard error over test sentences (mean of the seeds'), none where there is none.
        spread: standard deviation over seeds; none for one seed.
    """

    value: float
    error: float | None
    spread: float | None

    def shown(self, digits: int) -> str:
        """For the table."""
        text = f"{self.value:.{digits}f}"
        if self.error:
            text += f" ± {self.error:.{max(digits, 1)}f}"
        return text


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
    """How a row's IW-NLL differs from that of its language model, on the same sentences.

    Seeds are averaged sentence by sentence, then the differences are paired: their standard error
    says what the two rows' own errors, which they share, cannot. How much another training would
    change, only seeds can tell.

    Returns:
        nats per sentence, its standard error over sentences, that over seeds where both rows
        have several (the k-th of one against the k-th of the other), and the ratio of the
        perplexities per word; none where the language model has not been measured.
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
        "ppl_ratio": math.exp(difference.mean() / words),
    }


def _sentences(folder: Path, name: str) -> np.ndarray[Any, Any]:
    """IW-NLL of every test sentence, a row for each seed that is there."""
    return np.array([np.load(file) for file in sorted(folder.glob(f"{name}-[0-9]*.npy"))])


def summary(
    records: dict[str, list[dict[str, Any]]], table: dict[str, Row], folder: Path
) -> list[dict[str, Any]]:
    """The rows of a table that have been measured, as plain values, in the table's order."""
    rows = []
    for name, row in table.items():
        if name not in records:
            continue
        own = records[name]
        line: dict[str, Any] = {"row": name, "what": row.what, "seeds": len(own)}
        for key, _, _ in COLUMNS:
            found = cell(own, key)
            if found is not None:
                line[key] = found.value
                line[f"{key}_se"] = found.error
                line[f"{key}_sd_seeds"] = found.spread
        first = own[0]
        line["mutual_information_limit"] = first["metrics"]["mutual_information_limit"]
        line["sentences"] = first["metrics"]["sentences"]
        line["measured_on"] = first["measured_on"]
        line["iw_samples"] = first["metrics"]["iw_samples"]
        line["seconds"] = float(np.mean([record["seconds"] for record in own]))
        line["parameters"] = first["parameters"]
        line["against_plain"] = against_plain(row, own, folder)
        rows.append(line)
    return rows


def _difference(versus: dict[str, float | None]) -> str:
    shown = f"{versus['nats']:+.2f} ± {versus['nats_se']:.2f}"
    seeds = versus["nats_se_seeds"]
    return shown if seeds is None else f"{shown} (seeds ± {seeds:.2f})"


def markdown(rows: Sequence[dict[str, Any]], title: str) -> str:
    """The table for people: figure ± standard error over the test sentences."""
    heads = ["row", *(name for _, name, _ in COLUMNS), "− its LM", "s", "M param."]
    lines = [f"**{title}**", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row["row"] + (f" ({row['seeds']} seeds)" if row["seeds"] > 1 else "")]
        for key, _, digits in COLUMNS:
            if row.get(key) is None:
                cells.append("–")
            else:
                cells.append(Cell(row[key], row.get(f"{key}_se"), None).shown(digits))
        versus = row["against_plain"]
        cells.append("–" if versus is None else _difference(versus))
        cells += [f"{row['seconds']:.0f}", f"{row['parameters'] / 1e6:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    if rows:
        first = rows[0]
        lines += [
            "",
            f"{first['sentences']:,} {first['measured_on']} sentences, the same for all rows; "
            f"IW with K = {first['iw_samples']}; nats per sentence but for perplexities, AU and "
            f"BLEU; MI is at most ln N = {first['mutual_information_limit']:.2f}. “− its LM”: "
            "IW-NLL minus that of the language model with the same decoder and budget, paired by "
            "sentence; negative is better; in brackets its error over seeds. Amortisation gap: "
            "refined − amortised ELBO of 200 of them. s: seconds of training beside other work: "
            "no measure of speed.",
            "",
            *(f"* `{row['row']}`: {row['what']}" for row in rows),
        ]
    return "\n".join(lines) + "\n"
