"""What bf16 does to training: speed, and the validation bound after as many steps as in float32.

    python benchmarks/precision.py optimus captions 200   # recipe, data, steps; one core

Three seeds, the two precisions in turn; every run is kept in ``runs/`` and results/precision.json
gets the rows of all recipes and data that were run. What is measured is measured in float32.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import torch

import common
from common import DATA, RUNS, Clock, fitted, once, one_thread, settings_of, table
from isthmus.data.corpus import read_splits
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.build import build

SEEDS = (0, 1, 2)
PRECISIONS = ("float32", "bf16")
VALID = 1000
"""Validation texts that the bound is measured on."""
FOLDER = RUNS / "precision"


def main() -> None:
    one_thread()
    recipe, data, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for seed in SEEDS:
        for precision in PRECISIONS:
            path = FOLDER / f"{recipe}-{data}-{steps}-{seed}-{precision}.json"
            once(path, partial(row, recipe, data, steps, seed, precision))
    report()


def row(recipe: str, data: str, steps: int, seed: int, precision: str) -> dict[str, object]:
    """Tokens per processor second of the steps after a warm-up, and −ELBO of each text."""
    train = {"steps": steps, "seed": seed, "precision": precision, "evaluations": 1}
    settings = settings_of(recipe, {"train": train})
    splits = read_splits(str(DATA / data))
    torch.manual_seed(seed)
    model = build(settings, splits.train.examples)
    examples = model.codec.prepare(splits.train.examples)
    valid = model.codec.prepare(splits.valid.sample(VALID, 0).examples)
    first = max(1, steps // 20)
    # The last step is followed by the validation bound.
    clock = Clock(first, steps - 1, time.process_time)
    model = fitted(model, settings, examples, valid, clock)
    found = bounds(model, valid, samples=1, seed=0).negative_elbo
    return {
        "recipe": recipe,
        "data": data,
        "steps": steps,
        "seed": seed,
        "precision": precision,
        "seconds_a_step": clock.seconds / (steps - 1 - first),
        "negative_elbo": found.tolist(),
    }


def report() -> None:
    """Each recipe and data: the ratio of times and the paired difference of bounds."""
    runs = {
        (run["recipe"], run["data"], run["steps"], run["seed"], run["precision"]): run
        for run in common.all_kept(FOLDER)
    }
    lines, rows = [], []
    for recipe, data, steps in sorted({key[:3] for key in runs}):
        for seed in SEEDS:
            pair = [runs.get((recipe, data, steps, seed, name)) for name in PRECISIONS]
            if None in pair:
                continue
            exact, rounded = (torch.tensor(run["negative_elbo"]) for run in pair)
            whole, difference = Estimate.mean_of(exact), Estimate.mean_of(rounded - exact)
            ratio = pair[0]["seconds_a_step"] / pair[1]["seconds_a_step"]
            rows.append(
                {
                    **{"recipe": recipe, "data": data, "steps": steps, "seed": seed},
                    "speed": ratio,
                    "negative_elbo": common.figure(whole),
                    "difference": common.figure(difference),
                }
            )
            lines.append(
                (
                    *(recipe, data, steps, seed, f"{ratio:.2f} ×"),
                    common.plus_minus(whole.value, whole.standard_error, 2),
                    common.plus_minus(difference.value, difference.standard_error, 2),
                )
            )
    head = ("recipe", "data", "steps", "seed", "speed of bf16", "−ELBO, float32", "bf16 − float32")
    text = (
        "# Training in bf16\n\nOne core; nats a text, paired over the same validation texts.\n\n"
    )
    common.write("precision", {"rows": rows}, text + "\n".join(table(head, lines)) + "\n")


if __name__ == "__main__":
    main()
