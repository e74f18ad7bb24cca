"""``isthmus bench perceptual``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isthmus.commands.common import Command, Data, console, quiet
from isthmus.errors import IsthmusError

COLUMNS = 16
"""Pictures in a row of the figure."""


@dataclass(frozen=True)
class Perceptual(Command):
    """Draw pictures from a code again under every subset of three losses, and compare.

    The losses are distance in pixels, distance in a frozen network, and a discriminator's
    (Dosovitskiy & Brox 2016). Training sees every picture mirrored as well. Cells that are there
    already are loaded; a grid that was stopped goes on.
    """

    data: Data
    """A folder of pictures (a sub-folder is a label), an .npz file, "digits" or "scenes"."""
    out: str
    """Folder of cells, table and figure."""
    steps: int = 1500
    """Optimiser steps of each cell."""
    seeds: int = 1
    """Trainings of each cell."""
    code_size: int = 128
    """P, numbers that a picture is drawn from."""
    comparator: Literal["random", "classifier", "efficientnet"] = "random"
    """The frozen network: weights at random; trained here on DATA's labels; or EfficientNet-Lite0
    with ImageNet weights, where its two packages are installed."""
    image: float = 0.3
    """λ_img; 1 is the loss of a picture as far away as any other."""
    feature: float = 4.0
    """λ_feat, in the same unit."""
    adversarial: float = 0.7
    """λ_adv, of −log D in nats."""
    json: bool = False
    """Print JSON Lines, a row each."""

    def run(self) -> None:
        """Train or load, measure, draw, print."""
        for name in ("steps", "seeds", "code_size"):
            if (value := getattr(self, name)) < 1:
                raise IsthmusError(f"{name.replace('_', '-')} must be ≥ 1, got {value}")
        for name in ("image", "feature", "adversarial"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise IsthmusError(f"{name} must be > 0, got {value}; the subsets have it at 0")
        quiet()
        from isthmus.bench.grid import HELD_OUT, Grid, Plan, markdown, table
        from isthmus.data import pictures
        from isthmus.evaluation.plots import reconstruction_sheet
        from isthmus.models.pictures.comparators import Weights
        from isthmus.runs.folders import write_json

        splits = pictures.read_splits(self.data, valid_fraction=HELD_OUT)
        out = console()
        out.print(splits.report(), markup=False)
        weights = Weights(self.image, self.feature, self.adversarial)
        plan = Plan(weights, self.steps, self.code_size, self.comparator)
        folder = Path(self.out)
        grid = Grid(plan, splits, folder, out)
        rows = table(grid.run(self.seeds))
        text = markdown(rows, f"{Path(self.data).stem}, {self.steps:,} steps")
        (folder / "table.md").write_text(text, encoding="utf-8")
        write_json(rows, folder / "table.json")
        reconstruction_sheet(grid.sheet(COLUMNS), folder / "grid.png")
        out.print(f"figure: {folder / 'grid.png'}", markup=False)
        if self.json:
            for row in rows:
                sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(text)
