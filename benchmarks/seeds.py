"""The table of all text systems on Penn Treebank, kept: results/seeds_ptb.{md,json}.

Trains what is not there yet under runs/bench/ptb-small, about ten minutes a row on one of two
cores, resumable, then measures. The language model and the best VAE have three seeds. Give rows to
share the work among processes; without any, all that has been measured is written down.

    python benchmarks/seeds.py lstm-lm lstm-free-bits     # train and measure these
    python benchmarks/seeds.py                            # write the table of what is there
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import DATA, RESULTS, write
from isthmus.bench.beside import published_block
from isthmus.bench.measure import measure, result_files
from isthmus.bench.rows import BUDGETS, ROWS, settings_of
from isthmus.bench.table import markdown, summary
from isthmus.commands.common import quiet
from isthmus.data.corpus import read_splits
from isthmus.progress import console

FOLDER = Path("runs/bench/ptb-small")
SEEDS = {"lstm-lm": 3, "lstm-free-bits": 3}


def main() -> None:
    quiet()
    if rows := sys.argv[1:]:
        splits = read_splits(str(DATA / "ptb"))
        FOLDER.mkdir(parents=True, exist_ok=True)
        for row in rows:
            for seed in range(SEEDS.get(row, 1)):
                settings = settings_of(ROWS[row], splits.train.texts, BUDGETS["small"], seed)
                measure(ROWS[row], settings, splits, FOLDER, console())
    records = result_files(FOLDER)
    table = summary(records, ROWS, FOLDER)
    settings = {name: record["settings"] for name, [record, *_] in records.items()}
    write("seeds_ptb", {"words": BUDGETS["small"], "rows": table, "settings": settings})
    text = markdown(table, "Penn Treebank, 4 million words of training a row")
    (RESULTS / "seeds_ptb.md").write_text(f"{text}\n{published_block('ptb')}", encoding="utf-8")


if __name__ == "__main__":
    main()
