"""``isthmus evaluate`` and ``isthmus prior``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isthmus.commands.common import (
    Command,
    Data,
    RunDirectory,
    check_refine,
    console,
    load_model,
    read_corpus,
)
from isthmus.errors import IsthmusError
from isthmus.settings.choices import LearnedPriorKind

if TYPE_CHECKING:
    from isthmus.evaluation.readings import Reading


@dataclass(frozen=True)
class Evaluate(Command):
    """Measure a run on texts or pictures: bounds, perplexities, use of the latent, reconstruction.

    Nats per sentence or picture unless the name says otherwise, with standard errors.
    """

    run_directory: RunDirectory
    """A run directory."""
    data: Data
    """Texts, in any form that train reads; of a folder its test file."""
    json: bool = False
    """Print everything as one JSON object."""
    samples: int = 100
    """K of the importance-weighted bound."""
    subset: int = 0
    """Measure N examples, drawn at random by the seed; 0 takes all."""
    texts: int = 1000
    """How many sentences are decoded for exact match, BLEU and diversity; 0 for none."""
    refine: int = 0
    """Steps of gradient ascent on each sentence's own posterior, which show how much of the bound
    the encoder loses; 0 for none, 20 to 50 are usual."""
    seed: int = 0
    """Of all noise."""

    def run(self) -> None:
        """Measure and print."""
        check_refine(self.refine)
        if self.samples < 1 or self.subset < 0 or self.texts < 0:
            raise IsthmusError(
                "expected samples ≥ 1, subset ≥ 0 and texts ≥ 0, got "
                f"{self.samples}, {self.subset} and {self.texts}"
            )
        corpus = read_corpus(self.data, run=self.run_directory)
        model = load_model(self.run_directory)
        import numpy as np

        from isthmus.evaluation.metrics import evaluate, finite, work
        from isthmus.evaluation.readings import readings_of
        from isthmus.progress import counting
        from isthmus.runs.bundle import read_run

        texts, labels = corpus.examples, corpus.labels
        if 0 < self.subset < len(texts):
            chosen = np.random.default_rng(self.seed).choice(len(texts), self.subset, False)
            texts = [texts[index] for index in sorted(chosen)]
            labels = labels and [labels[index] for index in sorted(chosen)]
        examples = model.codec.prepare(texts)
        out = console()
        out.print(f"evaluated: {examples.report()}")
        with counting(out, "evaluating", work(examples, self.texts, self.refine)) as progress:
            metrics = evaluate(
                model,
                examples,
                samples=self.samples,
                texts=self.texts,
                refine_steps=self.refine,
                seed=self.seed,
                labels=labels,
                progress=progress,
            )
        if self.json:
            sys.stdout.write(json.dumps(finite(metrics)) + "\n")
        else:
            print_table(metrics, readings_of(metrics, read_run(self.run_directory)))


def print_table(metrics: dict[str, Any], readings: Sequence[Reading]) -> None:
    """The numbers as a table, and in plain words what is not as it should be."""
    from rich.console import Console
    from rich.table import Table

    from isthmus.runs.card import counted

    number, many = counted(metrics)
    one = many.removesuffix("s")
    table = Table(title=f"{number:,} {many}, nats per {one} unless named")
    for column in ("quantity", "value", "standard error"):
        table.add_column(column, justify="left" if column == "quantity" else "right")
    for name, value in metrics.items():
        if name.endswith("_se") or isinstance(value, (dict, list, bool)):
            continue
        shown = f"{value:,.4f}" if isinstance(value, float) else str(value)
        error = metrics.get(f"{name}_se")
        table.add_row(name, shown, "" if error is None else f"{error:,.4f}")
    out = Console(width=None if sys.stdout.isatty() else 100)
    out.print(table)
    for line in per_label(metrics):
        out.print(line)
    for reading in readings:
        if reading.level != "good":
            out.print(f"{reading.level}: {reading.name}: {reading.reading}", highlight=False)


def per_label(metrics: dict[str, Any]) -> list[str]:
    """The bound under each label, never only the mean."""
    lines = []
    for label, found in metrics.get("per_label", {}).items():
        error = "" if found["nll_se"] is None else f" ± {found['nll_se']:.3f}"
        lines.append(
            f"under its label {label}: {found['nll']:.3f}{error} nats per sentence, "
            f"{found['nll_per_token']:.3f} per token ({found['sentences']:,} sentences)"
        )
    return lines


@dataclass(frozen=True)
class FitPrior(Command):
    """Fit a prior to the aggregate posterior of a trained run and save it as a new run.

    The encoder and the decoder stay as they are; samples get better and the bound can only rise
    on the texts that it is fitted to.
    """

    run_directory: RunDirectory
    """A run directory."""
    data: Data
    """The training texts."""
    out: str
    """The run directory to make."""
    kind: LearnedPriorKind = "mixture"
    """Which prior."""
    components: int = 64
    """Components of the mixture, or pseudo-inputs of VampPrior."""
    limit: int = 20_000
    """Use N texts at most."""
    steps: int = 1000
    """Optimiser steps."""
    seed: int = 0
    """Of the fit."""

    def run(self) -> None:
        """Encode, fit, save."""
        from pathlib import Path

        if self.components < 1 or self.steps < 1:
            raise IsthmusError(
                f"expected components ≥ 1 and steps ≥ 1, got {self.components} and {self.steps}"
            )
        target = Path(self.out)
        if target.exists():
            raise IsthmusError(f"{self.out}: exists already; choose another folder with --out")
        corpus = read_corpus(self.data, self.limit, self.run_directory)
        model = load_model(self.run_directory)
        from isthmus.explore.refit import refit
        from isthmus.runs.bundle import read_run, save

        losses = refit(model, corpus.examples, self.kind, self.components, self.steps, self.seed)
        record = read_run(self.run_directory)
        record["metrics"] = {}  # they were the old prior's
        record["fitted_prior"] = {"kind": self.kind, "data": corpus.fingerprint}
        save(model, target, record)
        tail = losses[-50:]
        print(f"−log p(z) fell from {losses[0]:.2f} to {sum(tail) / len(tail):.2f} nats; {target}")
