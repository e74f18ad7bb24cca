"""The evaluation table in plain words: every row with its rule, its reason and its source.

A rule is a pure function of the metrics that :func:`isthmus.evaluation.metrics.evaluate` gives
(docs/numbers.md). It speaks where its quantity was measured and is silent where it was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, final

from isthmus.evaluation import verdicts
from isthmus.evaluation import verdicts_returned as returned
from isthmus.evaluation.measures import Metrics
from isthmus.evaluation.verdicts import Level, Measured, Said


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
    """One row; ``{one}`` in its words becomes sentence or picture."""

    key: str
    name: str
    unit: str
    read: Callable[[Measured], Said | None]

    def __call__(self, measured: Measured) -> Reading | None:
        """The row, or None where nothing of the kind was measured."""
        said = self.read(measured)
        if said is None:
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
        "ELBO beside the importance-weighted bound",
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
        "rise of the reconstruction under another {one}'s z",
        "nats per {one}",
        verdicts.swap_gap,
    ),
    Rule(
        "aggregate_mismatch",
        "aggregate posterior beside the prior",
        "nats, at least",
        verdicts.aggregate,
    ),
    Rule("exact_match", "word for word", "fraction", returned.exact_match),
    Rule("bleu", "BLEU of what comes back", "of 100", returned.bleu),
    Rule("squared_error", "squared error of what comes back", "of 0 … 1", returned.squared_error),
    Rule("bits_per_dimension", "−log p(x), importance-weighted", "bits per value", returned.bits),
    Rule("ppl_word", "perplexity", "per word", returned.perplexity),
    Rule("prior_unique", "distinct samples", "fraction", returned.variety),
    Rule("label_accuracy", "accuracy of q(y|x)", "fraction", returned.accuracy),
    Rule("calibration_error", "calibration error of p(y|x)", "fraction", returned.calibration),
    Rule("label_leakage", "what z still tells of the label", "fraction", returned.leakage),
    Rule("labels_used", "labels that some text has", "labels", returned.labels_used),
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
"""Rows that a plain language model has no use for: its numbers are 0 by definition."""


def read(measured: Measured) -> list[Reading]:
    """Every row that the metrics have something to say on, in the order of the table."""
    applying = [rule for rule in RULES if measured.latent_size or rule.key not in OF_THE_LATENT]
    return [reading for rule in applying if (reading := rule(measured)) is not None]


def readings_of(
    metrics: Metrics, record: Mapping[str, Any], entropy: float | None = None
) -> list[Reading]:
    """The same for metrics of a run, whose run.json tells what its KL was charged with.

    Arguments:
        metrics: of an evaluation; empty where there was none.
        record: run.json.
        entropy: of the data, nats an example, where it is known.
    """
    objective = record.get("settings", {}).get("objective", {})
    return read(Measured(metrics, entropy, float(objective.get("beta", 1.0))))
