"""Captions and Penn Treebank: a VAE beside a plain language model of the same decoder and budget.

Both rows see the same batches for the same number of optimiser steps; the VAE has its encoder
and bridge on top. Every row is a run directory under runs/benchmarks and resumes where it was
stopped; its figures go to results/real_text_ROW.json as they come, and the table is made of them.

    python benchmarks/real_text.py                 # all rows, about an hour on two cores
    python benchmarks/real_text.py ptb-vae         # one row
    python benchmarks/real_text.py --table         # results/real_text.md from what is there
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import torch

from common import DATA, read, write
from isthmus.commands.common import quiet
from isthmus.data.corpus import read as read_corpus
from isthmus.data.corpus import read_splits
from isthmus.evaluation.metrics import evaluate
from isthmus.progress import console
from isthmus.runs.bundle import load, read_run
from isthmus.settings import Settings, change_kind, load_recipe
from isthmus.training import train

ROWS = {
    "ptb-lm": ("ptb", "language-model"),
    "ptb-vae": ("ptb", "text-vae"),
    "captions-lm": ("captions", "language-model"),
    "captions-vae": ("captions", "text-vae"),
}
RUNS = Path("runs/benchmarks")
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


def settings_of(row: str) -> tuple[str, Settings]:
    data, kind = ROWS[row]
    recipe = load_recipe(str(Path(__file__).parent / f"{data}.toml"))
    return data, change_kind(recipe, kind)


def measure(row: str) -> None:
    """Train (or go on), then measure on the data's test or validation file."""
    data, settings = settings_of(row)
    out = RUNS / row
    if not (out / "run.json").is_file():
        resume = (out / "settings.json").is_file()
        splits = read_splits(str(DATA / data), seed=settings.train.seed)
        train(settings, splits, out, resume=resume, console=console())
    model = load(out)
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
            "training_minutes": training_minutes(out),
            "steps": read_run(out)["steps"],
            "parameters": sum(p.numel() for p in model.parameters()),
            "decoder_parameters": sum(p.numel() for p in model.decoder.parameters()),
            "settings": dataclasses.asdict(settings),
            "metrics": metrics,
        },
    )


def training_minutes(out: Path) -> float:
    """As the last session of the run logged it."""
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    [*_, seconds] = [json.loads(line).get("train_runtime") for line in lines[-2:]]
    return seconds / 60


def table() -> str:
    """Markdown of all rows that have been measured."""
    lines = [
        "| row | " + " | ".join(name for _, name, _ in COLUMNS) + " | exact match | steps |",
        "|---|" + "---|" * (len(COLUMNS) + 2),
    ]
    for row in ROWS:
        record = read(f"real_text_{row}")
        if record is None:
            continue
        metrics = record["metrics"]
        cells = []
        for key, _, digits in COLUMNS:
            error = metrics.get(f"{key}_se")
            shown = f"{metrics[key]:.{digits}f}"
            cells.append(shown if not error else f"{shown} ± {error:.2f}")
        match = metrics.get("exact_match")
        cells += ["–" if match is None else f"{match:.3f}", str(record["steps"])]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    quiet()
    arguments = sys.argv[1:]
    if arguments != ["--table"]:
        for row in arguments or ROWS:
            measure(row)
    path = Path(__file__).parent / "results" / "real_text.md"
    path.write_text(table(), encoding="utf-8")
    print(table())


if __name__ == "__main__":
    main()
