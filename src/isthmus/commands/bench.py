"""``isthmus bench``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from isthmus.commands.common import Command, console, quiet
from isthmus.commands.perceptual import Perceptual
from isthmus.errors import IsthmusError

PLACES = ("data", "../shared/data")
"""Where a corpus named without its folder is looked for, after $ISTHMUS_DATA."""


@dataclass(frozen=True)
class Seeds(Command):
    """Train every text system on one corpus under one budget, and print one table.

    Rows that are there already are loaded; a run that was stopped goes on. Give several processes
    different --rows and the same --out to share the work.
    """

    data: str = "ptb"
    """Any DATA that train reads, or the name of a folder in $ISTHMUS_DATA, data/ or
    ../shared/data/: ptb, captions, yelp, yahoo."""
    budget: Literal["small", "full"] = "small"
    """Words that each row is trained on: 4 or 16 million."""
    rows: tuple[str, ...] = ()
    """These rows only; all if absent."""
    seeds: int = 1
    """Trainings of each row."""
    out: str = ""
    """Folder of runs and results; runs/bench/DATA-BUDGET if absent."""
    table: bool = False
    """Train nothing: print what is there."""
    json: bool = False
    """Print JSON Lines, a row each."""

    def run(self) -> None:
        """Train or load, measure, print."""
        from isthmus.bench.rows import BUDGETS, ROWS, settings_of

        unknown = [row for row in self.rows if row not in ROWS]
        if unknown:
            raise IsthmusError(f"rows: got {unknown[0]!r}, expected some of {', '.join(ROWS)}")
        if self.seeds < 1:
            raise IsthmusError(f"seeds must be ≥ 1, got {self.seeds}")
        data = find(self.data)
        name = Path(data).name.partition(".")[0]
        folder = Path(self.out or f"runs/bench/{name}-{self.budget}")
        quiet()
        out = console()
        from isthmus.bench.measure import claim, measure

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
                for name_of_row in self.rows or ROWS:
                    row = ROWS[name_of_row]
                    settings = settings_of(row, splits.train.texts, BUDGETS[self.budget], seed)
                    measure(row, settings, splits, folder, out)
        self.print_table(folder, name)

    def print_table(self, folder: Path, name: str) -> None:
        """The table of every result in the folder, on standard output and as files beside them."""
        from isthmus.bench.beside import published_block
        from isthmus.bench.measure import result_files
        from isthmus.bench.rows import ROWS
        from isthmus.bench.table import markdown, summary

        records = result_files(folder)
        if not records:
            raise IsthmusError(f"{folder}: no results in it yet; leave --table out")
        rows = summary(records, ROWS, folder)
        text = markdown(rows, f"{name}, budget {self.budget}")
        if beside := published_block(name):
            text += "\n" + beside
        (folder / "table.md").write_text(text, encoding="utf-8")
        (folder / "table.json").write_text(
            json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if self.json:
            for row in rows:
                sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(text)


@dataclass(frozen=True)
class Bench(Command):
    """Many trainings under one budget, side by side."""

    what: Annotated[
        Annotated[Seeds, tyro.conf.subcommand("seeds", prefix_name=False)]
        | Annotated[Perceptual, tyro.conf.subcommand("perceptual", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> None:
        """Do the one that was named."""
        self.what.run()


def find(data: str) -> str:
    """DATA as given, or the corpus of that name in the usual places."""
    if Path(data).exists() or "/" in data or "." in data or data == "scenes":
        return data
    places = [*filter(None, [os.environ.get("ISTHMUS_DATA")]), *PLACES]
    for place in places:
        if (Path(place) / data).is_dir():
            return str(Path(place) / data)
    raise IsthmusError(
        f"data: no folder {data} in {', '.join(places)}; give a path, or set ISTHMUS_DATA"
    )
