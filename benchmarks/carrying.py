"""What makes z carry a text soon: pooling, bridge, start, and what is hidden from the decoder.

Every row is a fresh model of one size, trained on the same texts of 12 domains for
the same steps, batches and seed (`misc_domains`). Figures are of 500 validation texts.

    python benchmarks/carrying.py        # about ten minutes on two cores
"""

from __future__ import annotations

from typing import Any

from common import DATA, RUNS, plus_minus, settings_from, table, trained, write
from isthmus.commands.common import quiet
from isthmus.data.corpus import read_splits
from isthmus.evaluation.metrics import evaluate
from isthmus.settings import with_changes

STEPS, TEXTS, LATENTS = 400, 500, 39
WIDTH = {"hidden_size": 128, "heads": 4}
ENCODER = {**WIDTH, "architecture": "modernbert", "layers": 1}
DECODER = {**WIDTH, "architecture": "llama", "layers": 2}
BASE: dict[str, Any] = {
    "model": {
        "latents": LATENTS,
        "latent_size": 32,
        "latent_dropout": 0.3,
        "start": "copy",
        "bridge": "aligned",
        "encoder": {**ENCODER, "pooling": "blocks", "options": {"intermediate_size": 256}},
        "decoder": {
            **DECODER,
            "options": {"intermediate_size": 256, "tie_word_embeddings": True},
        },
    },
    "data": {"vocabulary_size": 4096, "maximum_length": LATENTS + 1, "word_dropout": 0.3},
    "objective": {"schedule": "constant", "beta": 0.1},
    "train": {
        "steps": STEPS,
        "tokens_per_batch": 1024,
        "learning_rate": 2e-3,
        "evaluations": 1,
        "validation": 200,
        "keep": "last",
    },
}
FRESH: dict[str, Any] = {"model": {"start": "fresh", "latent_dropout": 0.0}}
ROWS: dict[str, list[dict[str, Any]]] = {
    "one vector, mean of the states, memory + embedding": [
        FRESH,
        {
            "model": {
                "latents": 1,
                "latent_size": 256,
                "bridge": "memory+embedding",
                "bridge_length": 4,
                "encoder": {"pooling": "mean", "head_scale": 0.5},
            }
        },
    ],
    "16 latents by learned queries, prefix": [
        FRESH,
        {
            "model": {
                "latents": 16,
                "bridge": "prefix",
                "encoder": {"pooling": "queries", "head_scale": 0.5},
            }
        },
    ],
    "a latent a token (blocks, aligned), fresh": [
        FRESH,
        {"model": {"encoder": {"head_scale": 0.5}}},
    ],
    "… that starts as a copy": [{"model": {"latent_dropout": 0.0}}],
    "… with hidden latents": [],
    "… and no hidden tokens": [{"data": {"word_dropout": 0.0}}],
    "… with hidden latents, β = 0.3": [{"objective": {"beta": 0.3}}],
}
KEYS = ("reconstruction", "kl", "exact_match", "bleu", "swap_gap")


def main() -> None:
    quiet()
    splits = read_splits(str(DATA / "misc_domains" / "train.tsv.gz"))
    texts = splits.valid.sample(TEXTS, 0).examples
    rows = []
    for number, (name, changes) in enumerate(ROWS.items()):
        settings = settings_from(BASE)
        for change in changes:
            settings = with_changes(settings, change, "benchmark")
        model = trained(RUNS / "carrying" / str(number), settings, splits)
        metrics = evaluate(model, model.codec.prepare(texts), samples=5, texts=TEXTS)
        row = {"row": name, "steps": STEPS}
        for key in KEYS:
            row |= {key: metrics[key], f"{key}_se": metrics.get(f"{key}_se")}
        rows.append(row)
        print(row)
    cells = [
        [row["row"], *(plus_minus(row[key], row[f"{key}_se"], 2) for key in KEYS)] for row in rows
    ]
    lines = table(["model", *KEYS], cells)
    write("carrying", {"seed": 0, "texts": TEXTS, "rows": rows}, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
