"""The synthetic task of the Free Transformer (Fleuret 2025, arXiv 2510.17504), by its bridge.

    python benchmarks/free_transformer.py    # results/free_transformer.{json,md}; 20 minutes

A text is a letter, ">" and 64 characters: "_" but for eight of that letter in a row at a random
place; each of the 64 is "!" instead with probability 1/16. What a language model has to guess
while it writes is the place, and where the noise is. With κ, nats of KL a token that are free, the
latent is left out (κ near 0), holds the place, or the noise as well, as the paper shows in
pictures. Here that is measured, on texts not trained on: the codes of a text A are decoded behind
the letter of another text B. How often does the block stand where it stands in A, and how many of
the "!" of A come back?
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from common import (
    RUNS,
    kept,
    once,
    one_thread,
    plus_minus,
    settings_from,
    share,
    table,
    trained,
    write,
)
from isthmus.data.corpus import read_splits
from isthmus.evaluation.metrics import evaluate
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.settings import Settings

LENGTH, BLOCK, NOISE = 64, 8, 1 / 16
SIZES = {"train": 60_000, "valid": 500, "test": 500}
THRESHOLDS = (0.005, 0.05, 0.2, 1.0)
"""κ, nats a token. The place is worth ln 57 = 4.0 nats, 0.06 a token; the noise 15 nats, 0.23."""
NETWORK = {"layers": 2, "hidden_size": 64, "heads": 4}
FOLDER = RUNS / "free_transformer"


def text(source: random.Random) -> str:
    """One text."""
    letter, place = chr(65 + source.randrange(26)), source.randrange(LENGTH - BLOCK + 1)
    line = ["_"] * LENGTH
    line[place : place + BLOCK] = letter * BLOCK
    noisy = ("!" if source.random() < NOISE else one for one in line)
    return f"{letter}>{''.join(noisy)}"


def place_of(written: str) -> int:
    """Where most of eight characters in a row are the letter before ">"."""
    letter, line = written[:1], written[2:].ljust(LENGTH, "_")
    counts = [line[start : start + BLOCK].count(letter) for start in range(LENGTH - BLOCK + 1)]
    return counts.index(max(counts))


def corpus() -> Path:
    """The folder of texts, which a seed makes the same on every machine."""
    folder = FOLDER / "texts"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate(SIZES.items()):
        source = random.Random(seed)
        lines = "".join(f"{text(source)}\n" for _ in range(count))
        (folder / f"{part}.txt").write_text(lines, encoding="utf-8")
    return folder


def settings(threshold: float) -> Settings:
    """A Transformer of four layers, in whose middle a latent of 8 bits a token enters."""
    floor = {"free_bits": threshold, "free_bits_form": "latent"}
    return settings_from(
        {
            "model": {
                "posterior": "bits",
                "latents": LENGTH + 2,
                "latent_size": 8,
                "bridge": "middle",
                "encoder": {**NETWORK, "architecture": "bert", "pooling": "blocks"},
                "decoder": {**NETWORK, "layers": 4, "architecture": "gpt2"},
            },
            "data": {"tokenizer": "character", "maximum_length": LENGTH + 4},
            "objective": {"schedule": "constant", "beta": 1.0, **floor},
            "train": {
                "steps": 1500,
                "tokens_per_batch": 32 * (LENGTH + 4),
                "learning_rate": 2e-3,
                "evaluations": 3,
                "keep": "last",
                "precision": "float32",
            },
        }
    )


@torch.no_grad()
def transferred(model: LatentModel, texts: list[str]) -> list[str]:
    """What a draw of z of each text says behind the letter of the next one."""
    torch.manual_seed(0)
    z = model.encode(texts).rsample()[0]
    rows = defaultdict(list)
    for row, other in enumerate([*texts[1:], texts[0]]):
        rows[other[:2]].append(row)
    written = [""] * len(texts)
    for prompt, places in rows.items():
        how = Generation(max_new_tokens=LENGTH, prompt=prompt)
        for row, one in zip(places, model.decode(z[places], how), strict=True):
            written[row] = one
    return written


def measured(threshold: float) -> dict[str, Any]:
    """The figures of a threshold."""
    splits = read_splits(str(corpus()))
    model = trained(FOLDER / f"{threshold:g}", settings(threshold), splits)
    assert splits.test is not None
    texts = splits.test.texts
    found = evaluate(model, model.codec.prepare(texts), samples=50, texts=0)
    written = transferred(model, texts)
    pairs = [
        (one, other)
        for a, b in zip(texts, written, strict=True)
        for one, other in zip(a[2:], b[2:].ljust(LENGTH, "_"), strict=False)
    ]
    keys = ("elbo", "nll_iw", "kl", "swap_gap")
    bound = {key: {"value": found[key], "se": found[f"{key}_se"], "n": len(texts)} for key in keys}
    return {
        "threshold": threshold,
        **bound,
        "place": share([place_of(a) == place_of(b) for a, b in zip(texts, written, strict=True)]),
        "noise_kept": share([other == "!" for one, other in pairs if one == "!"]),
        "noise_added": share([other == "!" for one, other in pairs if one != "!"]),
        "examples": list(zip(texts[:3], written[:3], strict=True)),
    }


def main() -> None:
    one_thread()
    for threshold in THRESHOLDS:
        once(FOLDER / f"{threshold:g}.json", lambda kappa=threshold: measured(kappa))
    rows = [kept(FOLDER / f"{threshold:g}.json") for threshold in THRESHOLDS]
    noise = -NOISE * math.log(NOISE) - (1 - NOISE) * math.log(1 - NOISE)
    entropy = math.log(26) + math.log(LENGTH - BLOCK + 1) + LENGTH * noise
    columns = {
        "KL": ("kl", 2),
        "−ELBO": ("elbo", 2),
        "−log p(x), K = 50": ("nll_iw", 2),
        "swap gap": ("swap_gap", 2),
        "place kept": ("place", 3),
        "“!” kept": ("noise_kept", 3),
        "“!” added": ("noise_added", 3),
    }
    lines = table(
        ["κ", *columns],
        (
            [
                f"{row['threshold']:g}",
                *(
                    plus_minus(abs(row[key]["value"]), row[key]["se"], digits)
                    for key, digits in columns.values()
                ),
            ]
            for row in rows
        ),
    )
    examples = [
        f"κ = {row['threshold']:g}: {a}\n         {b}" for row in rows for a, b in row["examples"]
    ]
    write(
        "free_transformer",
        {"entropy": entropy, "rows": rows},
        "\n".join(
            [
                "**The synthetic task of the Free Transformer, by its threshold κ**",
                "",
                *lines,
                "",
                f"Nats a text, {SIZES['test']} test texts, 1,500 steps of 32 texts; one seed. The "
                f"entropy of a text is at most {entropy:.2f} nats. Codes drawn for a text are "
                "decoded greedily behind the letter of another: how often does the block keep its "
                "place, and how many “!” come back, or are new? A place by chance: 0.018.",
                "",
                "```",
                *examples,
                "```",
                "",
            ]
        ),
    )


if __name__ == "__main__":
    main()
