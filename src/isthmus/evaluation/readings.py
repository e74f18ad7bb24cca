"""The evaluation table in plain words: every row with its reading, its reason and its source.

A rule reads the metrics of :func:`isthmus.evaluation.metrics.evaluate` (docs/numbers.md). It
gives a row if its quantity was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import cleandoc
from typing import Any, final

from isthmus.evaluation import verdicts
from isthmus.evaluation import verdicts_returned as returned
from isthmus.evaluation import verdicts_walking as walking
from isthmus.evaluation.measures import Metrics
from isthmus.evaluation.verdicts import Level, Measured, Said
from isthmus.runs.card import OF_BOTH, SUMMARY, summary_of


@final
@dataclass(frozen=True)
class Reading:
    """A row of the evaluation table."""

    key: str
    name: str
    value: float
    standard_error: float | None
    unit: str
    reading: str
    level: Level
    why: str
    """The reason for the rule and its source."""


@final
@dataclass(frozen=True)
class Rule:
    """One row; ``{one}`` becomes sentence, picture or example."""

    key: str
    name: str
    unit: str
    read: Callable[[Measured], Said | None]
    derived: bool = False
    """The key is no metric: the rule computes the value from others."""

    def __call__(self, measured: Measured) -> Reading | None:
        """The row, or None if its quantity was not measured."""
        if not (self.derived or measured.has(self.key)):
            return None
        if (said := self.read(measured)) is None:
            return None
        return Reading(
            self.key,
            self.name.format(one=measured.one),
            measured(self.key) if said.value is None else said.value,
            measured.metrics.get(f"{self.key}_se"),
            self.unit.format(one=measured.one),
            said.reading,
            said.level,
            cleandoc(self.read.__doc__ or ""),
        )


RULES = (
    Rule("nll_iw", "−log p(x), importance-weighted", "nats per {one}", verdicts.likelihood),
    Rule(
        "inference_gap",
        "ELBO against the importance-weighted bound",
        "nats per {one}",
        verdicts.inference_gap,
    ),
    Rule("amortisation_gap", "amortisation gap", "nats per {one}", verdicts.amortisation),
    Rule("approximation_gap", "approximation gap", "nats per {one}", verdicts.approximation),
    Rule(
        "reconstruction",
        "reconstruction −E[log p(x|z)]",
        "nats per {one}",
        verdicts.reconstruction,
    ),
    Rule("kl", "KL(q(z|x) ‖ p(z))", "nats per {one}", verdicts.kl),
    Rule("mutual_information", "mutual information I(x; z)", "nats", verdicts.information),
    Rule("active_units", "active units", "dimensions", verdicts.active_units),
    Rule(
        "swap_gap",
        "increase of the reconstruction with another {one}'s z",
        "nats per {one}",
        verdicts.swap_gap,
    ),
    Rule(
        "aggregate_mismatch",
        "aggregate posterior against the prior",
        "nats, at least",
        verdicts.aggregate,
        derived=True,
    ),
    Rule("exact_match", "reconstructed word for word", "fraction", returned.exact_match),
    Rule("bleu", "BLEU of reconstructions", "of 100", returned.bleu),
    Rule("meaning_share", "meaning of reconstructions", "of 0 … 1", walking.meaning),
    Rule("content_kept", "content words of reconstructions", "fraction", walking.content),
    Rule("walk_ends_reproduced", "ends of walks, word for word", "fraction", walking.ends),
    Rule("walk_rises", "steps towards the end of a walk", "fraction", walking.steps),
    Rule("fluency_midpoints", "perplexity of midpoints", "× real texts", walking.midpoints),
    Rule("fluency_samples", "perplexity of samples", "× real texts", walking.samples),
    Rule("meaning_radius", "reach of a text", "deviations", walking.smoothness),
    Rule("squared_error", "squared error of reconstructions", "of 0 … 1", returned.squared_error),
    Rule("bits_per_dimension", "−log p(x), importance-weighted", "bits per value", returned.bits),
    Rule("ppl_word", "perplexity", "per word", returned.perplexity),
    Rule("bits_per_character", "−log p(x)", "bits per character", returned.characters),
    Rule("unknown_tokens", "unknown words or tokens", "tokens", returned.unknown),
    Rule("prior_unique", "distinct samples", "fraction", returned.variety),
    Rule("label_accuracy", "accuracy of q(y|x)", "fraction", returned.accuracy),
    Rule("calibration_error", "calibration error of p(y|x)", "fraction", returned.calibration),
    Rule("label_leakage", "label information left in z", "fraction", returned.leakage),
    Rule("labels_used", "labels in use", "labels", returned.labels_used),
    Rule("cut", "sentences cut", "sentences", returned.cut),
)
"""The evaluation table, from the bound to the labels."""

OF_THE_LATENT = frozenset(
    {
        *("inference_gap", "amortisation_gap", "approximation_gap", "reconstruction", "kl"),
        *("mutual_information", "active_units", "swap_gap", "aggregate_mismatch"),
        "label_leakage",
    }
)
"""Rows left out for a plain language model, where they are 0 by definition."""


OF_THE_SUMMARY = frozenset(
    {
        *("nll_iw", "inference_gap", "amortisation_gap", "approximation_gap"),
        *("mutual_information", "active_units", "aggregate_mismatch"),
        *("ppl_word", "bits_per_character", "prior_unique", "fluency_samples", "meaning_radius"),
    }
)
"""Rows that a model with a summary has of that alone: its likelihood, and what samples and texts
moved in the space are made of. Its details cost more nats than a text holds, on purpose."""


def read(measured: Measured) -> list[Reading]:
    """The rows whose quantities were measured, in the order of the table.

    With a summary, those of all latents come first, then those of the summary by itself.
    """
    if not (summary := summary_of(measured.metrics)):
        return _rows(measured, lambda key: True)
    alone = replace(measured, metrics=measured.metrics | summary)
    return _rows(measured, lambda key: key not in OF_THE_SUMMARY) + [
        replace(row, key=f"{SUMMARY}{row.key}", name=f"summary: {row.name}")
        for row in _rows(alone, lambda key: key in OF_THE_SUMMARY | OF_BOTH)
    ]


def _rows(measured: Measured, shown: Callable[[str], bool]) -> list[Reading]:
    applying = [
        rule
        for rule in RULES
        if shown(rule.key) and (measured.latent_size or rule.key not in OF_THE_LATENT)
    ]
    return [reading for rule in applying if (reading := rule(measured)) is not None]


def readings_of(
    metrics: Metrics, record: Mapping[str, Any], entropy: float | None = None
) -> list[Reading]:
    """The same for a run.

    Args:
        metrics: Of an evaluation; may be empty.
        record: run.json, which holds how the KL was charged and what the watch advised.
        entropy: Of the data in nats per example, where it is known.
    """
    objective = record.get("settings", {}).get("objective", {})
    trained = (float(objective.get("beta", 1.0)), record.get("steps", 0), record.get("remedy", ""))
    # Where a text is cut or a word unknown, the model predicts less than the data.
    whole = not metrics.get("cut") and not metrics.get("unknown_tokens")
    return read(Measured(metrics, entropy if whole else None, *trained))
