"""``isthmus bench``: ``bench seeds``, ``bench perceptual`` and ``bench page``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from isthmus.commands.common import (
    Command,
    Data,
    check_can_write,
    check_positive,
    console,
    emit,
    quiet,
)
from isthmus.errors import IsthmusError

PLACES = ("data", "../shared/data")
"""Where to look for a corpus that is given by its name, after $ISTHMUS_DATA."""

MADE_WITH = "command.json"
"""File in a folder of results: the command that made them."""

COLUMNS = 16
"""Pictures in a row of the figure."""


@dataclass(frozen=True)
class Seeds(Command):
    """Train every text system on one corpus under one budget, and print one table.

    Finished rows are loaded and interrupted runs are resumed. To share the work, start several
    processes with different --rows and the same --out.
    """

    data: str = "ptb"
    """Texts, in any form that train reads, or the name of a folder, such as ptb or yelp.
    A name is looked up in $ISTHMUS_DATA, data/ and ../shared/data/."""
    budget: Literal["small", "full"] = "small"
    """Train each row on 4 million words (small) or 16 million (full)."""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="")] = ()
    """The rows to train; all by default."""
    seeds: int = 1
    """Number of training runs per row."""
    out: str = ""
    """The folder for runs and results; runs/bench/DATA-BUDGET by default."""
    table: bool = False
    """Print the table of the finished rows without training."""
    json: bool = False
    """Print JSON Lines, one object per row."""

    def run(self) -> None:
        from isthmus.bench.rows import BUDGETS, ROWS, settings_of

        unknown = [row for row in self.rows if row not in ROWS]
        if unknown:
            raise IsthmusError(f"rows: got {unknown[0]!r}, expected some of {', '.join(ROWS)}")
        check_positive(seeds=self.seeds)
        data = find(self.data)
        corpus = Path(data).name.partition(".")[0]
        folder = Path(self.out or f"runs/bench/{corpus}-{self.budget}")
        quiet()
        from isthmus.bench.measure import claim, measure, result_files
        from isthmus.bench.table import markdown, published_block, summary
        from isthmus.runs.folders import write_json

        if not self.table:
            from isthmus.data.corpus import read_splits

            splits = read_splits(data)
            claim(
                folder,
                {
                    "budget": BUDGETS[self.budget],
                    "training texts": splits.train.fingerprint,
                    "judged texts": (splits.test or splits.valid).fingerprint,
                },
            )
            for seed in range(self.seeds):
                for row in map(ROWS.__getitem__, self.rows or ROWS):
                    settings = settings_of(row, splits.train.texts, BUDGETS[self.budget], seed)
                    measure(row, settings, splits, folder, console())
        records = result_files(folder)
        if not records:
            raise IsthmusError(f"{folder}: has no results yet; run without --table first")
        write_json(
            {"data": self.data, "corpus": corpus, "budget": self.budget}, folder / MADE_WITH
        )
        rows = summary(records, ROWS, folder)
        parts = [markdown(rows, f"{corpus}, budget {self.budget}"), published_block(corpus)]
        write_table("\n".join(filter(None, parts)), rows, folder, self.json)


@dataclass(frozen=True)
class Perceptual(Command):
    """Train decoders that reconstruct pictures from a code, one with each subset of three losses.

    The losses are the distance in pixels, the distance in the features of a frozen network, and
    the loss of a discriminator (Dosovitskiy & Brox 2016). Training also uses the mirror image of
    every picture. Finished cells of the grid are loaded and an interrupted grid is resumed.
    """

    data: Data
    """A folder of pictures (sub-folders are labels), an .npz file, "digits" or "scenes"."""
    out: str
    """The folder for cells, table and figure."""
    steps: int = 1500
    """Optimiser steps per cell."""
    seeds: int = 1
    """Number of training runs per cell."""
    code_size: int = 128
    """P, the length of a picture's code."""
    comparator: Literal["random", "classifier", "efficientnet"] = "random"
    """The frozen network.
    random has random weights; classifier is trained on DATA's labels.
    efficientnet is EfficientNet-Lite0 with ImageNet weights; it needs two extra packages."""
    image: float = 0.3
    """λ_img, the weight of the distance in pixels.
    The unit is the mean distance in pixels between a picture and another, random one."""
    feature: float = 4.0
    """λ_feat, the weight of the distance in features.
    The unit is the mean distance in features between a picture and another, random one."""
    adversarial: float = 0.7
    """λ_adv, the weight of −log D in nats."""
    json: bool = False
    """Print JSON Lines, one object per row."""

    def run(self) -> None:
        check_positive(steps=self.steps, seeds=self.seeds, code_size=self.code_size)
        for name in ("image", "feature", "adversarial"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise IsthmusError(f"{name} must be > 0, got {value}; subsets leave it out")
        quiet()
        from isthmus.bench.grid import HELD_OUT, Grid, Plan, markdown, table
        from isthmus.data import pictures
        from isthmus.evaluation.plots import reconstruction_sheet
        from isthmus.models.pictures.comparators import Weights

        splits = pictures.read_splits(self.data, valid_fraction=HELD_OUT)
        out = console()
        out.print(splits.report(), markup=False)
        weights = Weights(self.image, self.feature, self.adversarial)
        plan = Plan(weights, self.steps, self.code_size, self.comparator)
        folder = Path(self.out)
        grid = Grid(plan, splits, folder, out)
        rows = table(grid.run(self.seeds))
        text = markdown(rows, f"{Path(self.data).stem}, {self.steps:,} steps")
        reconstruction_sheet(grid.sheet(COLUMNS), folder / "grid.png")
        out.print(f"figure: {folder / 'grid.png'}", markup=False)
        write_table(text, rows, folder, self.json)


@dataclass(frozen=True)
class Page(Command):
    """Put the tables of several folders of bench seeds on one page, with figures and commands.

    The page opens from disk. Every figure leads to the command that made it, and published rows
    stand beside: as printed, as converted, or with the reason why they are not comparable.
    """

    folders: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="FOLDER [FOLDER …]", help_behavior_hint="(required)"),
    ]
    """Folders of bench seeds (its --out)."""
    out: str = "bench.html"
    """The file of the page."""

    def run(self) -> None:
        target = check_can_write(self.out, (".html",))
        quiet()
        from isthmus.bench.paper import Part, page
        from isthmus.bench.rows import ROWS
        from isthmus.bench.table import summary

        parts = []
        for folder in map(Path, self.folders):
            given, records = made_with(folder)
            rows = summary(records, ROWS, folder)
            command = f"isthmus bench seeds --data {given['data']} --budget {given['budget']}"
            commands = {
                row["row"]: " ".join(
                    [
                        *(command, "--out", str(folder)),
                        *("--rows", *filter(None, (row["plain"], row["row"]))),
                        *("--seeds", str(row["seeds"])),
                    ]
                )
                for row in rows
            }
            title = f"{given['corpus']}, budget {given['budget']}"
            parts.append(Part(title, rows, commands, given["corpus"]))
        intro = "Every figure leads to the command that made it."
        target.write_text(page("Results", intro, parts, {}), encoding="utf-8")
        print(target)


def made_with(folder: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The command of a folder of results, and its records.

    Raises:
        IsthmusError: It has none.
    """
    from isthmus.bench.measure import result_files
    from isthmus.runs.folders import read_json

    records = result_files(folder)
    if not records or not (folder / MADE_WITH).is_file():
        raise IsthmusError(
            f"{folder}: got no table of results, expected a folder of isthmus bench seeds; run it "
            "with --table once"
        )
    return read_json(folder / MADE_WITH), records


@dataclass(frozen=True)
class Bench(Command):
    """Train many systems under one budget and compare them in a table."""

    what: Annotated[
        Annotated[Seeds, tyro.conf.subcommand("seeds", prefix_name=False)]
        | Annotated[Perceptual, tyro.conf.subcommand("perceptual", prefix_name=False)]
        | Annotated[Page, tyro.conf.subcommand("page", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> None:
        self.what.run()


def write_table(text: str, rows: Sequence[dict[str, Any]], folder: Path, as_json: bool) -> None:
    """Write table.md and table.json, and print one of them."""
    from isthmus.runs.folders import write_json

    (folder / "table.md").write_text(text, encoding="utf-8")
    write_json(rows, folder / "table.json")
    if as_json:
        emit(rows, True, "")
    else:
        sys.stdout.write(text)


def find(data: str) -> str:
    """DATA as given, or the folder of that name in the usual places."""
    if Path(data).exists() or "/" in data or "." in data or data == "scenes":
        return data
    places = [*filter(None, [os.environ.get("ISTHMUS_DATA")]), *PLACES]
    for place in places:
        if (Path(place) / data).is_dir():
            return str(Path(place) / data)
    raise IsthmusError(
        f"data: no folder {data} in {', '.join(places)}; give a path, or set ISTHMUS_DATA"
    )
