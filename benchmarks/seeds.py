"""Keep the tables of all text systems: results/seeds_{ptb,captions,yelp,snli}.{md,json}.

The command trains and measures, six to twenty minutes per row on one of two cores, resumable; on
Penn Treebank the language model and the best VAE have three seeds:

    isthmus bench seeds --data ptb --rows lstm-lm lstm-free-bits --seeds 3
    isthmus bench seeds --data ptb
    isthmus bench seeds --data captions --rows lstm-lm lstm-collapse …
    python benchmarks/seeds.py          # results from runs/bench/NAME-small

Rows that are not in such a folder stay as they are in the result file; a row needs its language
model in the same folder.
"""

from __future__ import annotations

from pathlib import Path

from common import RUNS, read, write
from isthmus.bench.measure import result_files
from isthmus.bench.rows import BUDGETS, ROWS
from isthmus.bench.table import markdown, published_block, summary

CORPORA = {
    "ptb": "Penn Treebank",
    "captions": "Captions (Flickr30k)",
    "yelp": "Yelp",
    "snli": "SNLI (benchmarks/snli.py)",
}


def keep(corpus: str, title: str, folder: Path) -> None:
    """Update the result files of a corpus from the folder of its runs."""
    file = f"seeds_{corpus}"
    before = read(file) or {"rows": [], "settings": {}}
    records = result_files(folder)
    rows = {row["row"]: row for row in before["rows"]}
    rows |= {row["row"]: row for row in summary(records, ROWS, folder)}
    table = [rows[name] | {"plain": ROWS[name].plain} for name in ROWS if name in rows]
    settings = dict(before["settings"])
    settings |= {name: record["settings"] for name, [record, *_] in records.items()}
    text = markdown(table, f"{title}, 4 million words of training per row")
    if block := published_block(corpus):
        text += f"\n{block}"
    write(file, {"words": BUDGETS["small"], "rows": table, "settings": settings}, text)


def main() -> None:
    for corpus, title in CORPORA.items():
        folder = RUNS / "bench" / f"{corpus}-small"
        if result_files(folder):
            keep(corpus, title, folder)


if __name__ == "__main__":
    main()
