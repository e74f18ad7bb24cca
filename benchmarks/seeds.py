"""Keep the table of all text systems on Penn Treebank: results/seeds_ptb.{md,json}.

The command trains and measures, about ten minutes a row on one of two cores, resumable; the
language model and the best VAE have three seeds:

    isthmus bench seeds --data ptb --rows lstm-lm lstm-free-bits --seeds 3
    isthmus bench seeds --data ptb
    python benchmarks/seeds.py          # what runs/bench/ptb-small holds, with its settings

Rows that are not in that folder stay as they are in the result file; a row's language model has to
be there with it.
"""

from __future__ import annotations

from pathlib import Path

from common import RESULTS, read, write
from isthmus.bench.beside import published_block
from isthmus.bench.measure import result_files
from isthmus.bench.rows import BUDGETS, ROWS
from isthmus.bench.table import markdown, summary

FOLDER = Path("runs/bench/ptb-small")


def main() -> None:
    before = read("seeds_ptb") or {"rows": [], "settings": {}}
    records = result_files(FOLDER)
    rows = {row["row"]: row for row in before["rows"]}
    rows |= {row["row"]: row for row in summary(records, ROWS, FOLDER)}
    table = [rows[name] for name in ROWS if name in rows]
    settings = dict(before["settings"])
    settings |= {name: record["settings"] for name, [record, *_] in records.items()}
    write("seeds_ptb", {"words": BUDGETS["small"], "rows": table, "settings": settings})
    text = markdown(table, "Penn Treebank, 4 million words of training a row")
    (RESULTS / "seeds_ptb.md").write_text(f"{text}\n{published_block('ptb')}", encoding="utf-8")


if __name__ == "__main__":
    main()
