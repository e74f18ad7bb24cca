"""The perceptual grid on emoji: reconstructions under every subset of three losses.

    python benchmarks/perceptual.py [SEEDS]   # about ten minutes per seed on one core

Resumes in runs/perceptual. Weights were chosen on a split of another seed.
EfficientNet-Lite0 is a further judge if it is installed. Writes results/perceptual.json and .md,
and the grid, which shows the data, to runs/perceptual/grid.png.
"""

from __future__ import annotations

import sys

from common import DATA, RUNS, one_thread, write
from isthmus.bench.grid import HELD_OUT, Grid, Plan, markdown, table
from isthmus.commands.bench import COLUMNS, Perceptual
from isthmus.data import pictures
from isthmus.evaluation.plots import reconstruction_sheet
from isthmus.models.pictures.comparators import Weights
from isthmus.progress import console

EMOJI = DATA / "images" / "emoji_google.npz"
OUT = RUNS / "perceptual"
STEPS = 2000


def main() -> None:
    one_thread()
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    usual = Perceptual(str(EMOJI), str(OUT))
    weights = Weights(usual.image, usual.feature, usual.adversarial)
    plan = Plan(weights, STEPS, usual.code_size, "random")
    splits = pictures.read_splits(str(EMOJI), valid_fraction=HELD_OUT)
    grid = Grid(plan, splits, OUT, console())
    records = grid.run(seeds)
    rows = table(records)
    text = markdown(rows, f"emoji, {STEPS:,} steps")
    reconstruction_sheet(grid.sheet(COLUMNS), OUT / "grid.png")
    cells = [
        {key: record[key] for key in ("cell", "seed", "weights", "waits")} for record in records
    ]
    write(
        "perceptual",
        {
            "data": EMOJI.name,
            "training_pictures": len(splits.train),
            "steps": STEPS,
            "code_size": usual.code_size,
            "rows": rows,
            "cells": cells,
        },
        text,
    )


if __name__ == "__main__":
    main()
