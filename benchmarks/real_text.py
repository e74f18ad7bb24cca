"""Captions and Penn Treebank: a VAE and a plain language model of the same decoder and budget.

Both rows see the same batches for the same number of optimiser steps; the VAE has its encoder
and bridge in addition. Every row is a run directory in runs/benchmarks, and resumes; its figures
go to results/real_text_ROW.json at once, and the table is made of them.

    python benchmarks/real_text.py                 # all rows, about an hour on two cores
    python benchmarks/real_text.py ptb-vae         # one row
    python benchmarks/real_text.py --table         # results/real_text.md from the result files
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import torch

import common
from common import BENCHMARKS, DATA, read, settings_of, trained, write, write_text
from common import table as markdown
from isthmus.bench.measure import training_seconds
from isthmus.commands.common import quiet
from isthmus.data.corpus import read as read_corpus
from isthmus.data.corpus import read_splits
from isthmus.evaluation.metrics import evaluate
from isthmus.models.tuning import parameter_count
from isthmus.runs.bundle import read_run

PLAIN = {"model": {"kind": "language-model"}}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "ptb-lm": ("ptb", PLAIN),
    "ptb-vae": ("ptb", {}),
    "captions-lm": ("captions", PLAIN),
    "captions-vae": ("captions", {}),
}
RUNS = common.RUNS / "benchmarks"
SAMPLES = 100
SUBSET = 1000
COLUMNS = (
    ("ppl_word", "perplexity per word", 2),
    ("nll_iw", "−log p(x), nats", 2),
    ("elbo", "ELBO, nats", 2),
    ("reconstruction", "reconstruction", 2),
    ("kl", "KL", 2),
    ("mutual_information", "MI", 2),
    ("active_units", "AU", 0),
    ("swap_gap", "swap gap", 2),
)


def measure(row: str) -> None:
    """Train, then measure on the data's test or validation file."""
    data, changes = ROWS[row]
    settings, out = settings_of(str(BENCHMARKS / f"{data}.toml"), changes), RUNS / row
    model = trained(out, settings, read_splits(str(DATA / data), seed=settings.train.seed))
    corpus = read_corpus(str(DATA / data), split="test" if data == "ptb" else "valid")
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(corpus), generator=generator)[:SUBSET].sort().values.tolist()
    examples = model.codec.prepare([corpus.texts[index] for index in chosen])
    metrics = evaluate(model, examples, samples=SAMPLES, texts=200)
    write(
        f"real_text_{row}",
        {
            "data": data,
            "measured_on": f"{len(chosen)} random sentences of {corpus.source.split('/')[-1]}",
            "training_minutes": training_seconds(out) / 60,
            "steps": read_run(out)["steps"],
            "parameters": parameter_count(model)[0],
            "decoder_parameters": parameter_count(model.decoder)[0],
            "settings": dataclasses.asdict(settings),
            "metrics": metrics,
        },
    )


def table() -> str:
    """Markdown of all measured rows."""
    rows = []
    for row in ROWS:
        if (record := read(f"real_text_{row}")) is None:
            continue
        metrics = record["metrics"]
        cells = []
        for key, _, digits in COLUMNS:
            error = metrics.get(f"{key}_se")
            shown = f"{metrics[key]:.{digits}f}"
            cells.append(shown if not error else f"{shown} ± {error:.2f}")
        match = metrics.get("exact_match")
        rows.append([row, *cells, "–" if match is None else f"{match:.3f}", record["steps"]])
    names = [name for _, name, _ in COLUMNS]
    return "\n".join(markdown(["row", *names, "exact match", "steps"], rows)) + "\n"


def main() -> None:
    quiet()
    arguments = sys.argv[1:]
    if arguments != ["--table"]:
        for row in arguments or ROWS:
            measure(row)
    write_text("real_text", table())


if __name__ == "__main__":
    main()
