"""Speed and memory beside loops over stock transformers models, and beside an earlier build.

    git worktree add ../before COMMIT
    python benchmarks/speed.py --before ../before/src      # results/speed.json and .md
    python benchmarks/speed.py "digits" "28×28"           # some parts, without an earlier build

One thread; an hour on one core for all. Each contender is a process of its own, and they take
turns, so that each round is a comparison: figures are medians of processor time, ratios are within
a round, and the peak that a share is of is that of a product of two large matrices in the same
rounds. The stock loops have the same sizes, dropout, batches, optimiser and clipping. Each part is
kept in ``runs/``. Compare only figures of one part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, final

from common import RUNS, kept, once, one_thread, table, write
from contenders import PARTS, precision_of
from stock_loops import peak

ROUNDS = 5
"""After one that does not count."""
PAIR = ("stock, float32", "stock, bf16", "before, float32", "isthmus, float32", "isthmus, bf16")
PICTURES = ("plain loop", "before", "isthmus")
TWO = ("before", "isthmus")
RECIPE = ("before, float32", "isthmus, float32", "isthmus, bf16", "isthmus, bf16, adaptive")
COUNTS = ("before, 16_000", "isthmus, 16_000", "isthmus, 100_000", "isthmus, 1_000_000")
CONTENDERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tiny pair, full": ("tokens", PAIR),
    "optimus, PTB": ("steps", RECIPE),
    "optimus, captions": ("steps", RECIPE),
    "MiniLM + SmolLM2, frozen": ("tokens", (*PAIR, "before, bf16")),
    "greedy decoding, 16": ("texts", PAIR),
    "greedy decoding, 128": ("texts", PAIR),
    "IW-NLL, K = 100": ("texts", ("before, float32", "isthmus, float32", "isthmus, bf16")),
    "digits": ("pictures", PICTURES),
    "28×28": ("pictures", PICTURES),
    "dilated CNN": ("texts", PICTURES),
    "encode, one text": ("texts", TWO),
    "mutual information": ("examples", COUNTS),
    "output layer, 49,152 words": ("tokens", TWO),
}
"""Units and contenders of each part."""
FOLDER = RUNS / "speed"


@final
class Worker:
    """A contender's process.

    Args:
        part: one of :data:`PARTS`.
        name: of the contender.
        before: the ``src`` of an earlier build, which "before" runs.
    """

    def __init__(self, part: str, name: str, before: str) -> None:
        source = before if name.startswith("before") else str(Path(__file__).parents[1] / "src")
        script = str(Path(__file__).with_name("contenders.py"))
        self.process = subprocess.Popen(
            [sys.executable, script, part, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        )
        self.known = self._answer()

    def round(self) -> dict[str, Any]:
        """What a round found."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return self._answer()

    def end(self) -> None:
        """Let it end."""
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"failed: {' '.join(map(repr, self.process.args[1:]))}")
        found: dict[str, Any] = json.loads(line)
        return found


def measured(part: str, before: str, only: Sequence[str] = ()) -> dict[str, Any]:
    """The contenders of a part, in turn; all of them, or only some."""
    unit, names = CONTENDERS[part]
    workers = {
        name: Worker(part, name, before)
        for name in only or names
        if before or not name.startswith("before")
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    peaks: dict[str, list[float]] = {"float32": [], "bf16": []}
    for _ in range(ROUNDS + 1):
        for precision, values in peaks.items():
            values.append(peak(precision == "bf16"))
        for name, worker in workers.items():
            found[name].append(worker.round())
    for worker in workers.values():
        worker.end()
    rows = {}
    for name, (_, *rounds) in found.items():
        known = workers[name].known
        values = [known["units"] / one.pop("seconds") for one in rounds]
        rows[name] = rounds[-1] | {"per_second": median(values), "in_rounds": values}
        if known["work"]:
            flops = known["work"] / known["units"] * median(values)
            rows[name]["share_of_peak"] = flops / median(peaks[precision_of(name)])
    peaks_of = {precision: median(values) for precision, values in peaks.items()}
    return {"unit": unit, "peak_flops": peaks_of, "rows": rows}


def ratios(rows: dict[str, Any], name: str) -> dict[str, dict[str, float]]:
    """Within each round, to the first contender and to the first of the build before."""
    first = next(iter(rows))
    before = next((other for other in rows if other.startswith("before")), first)
    found = {}
    for other in dict.fromkeys((first, before)):
        if other != name:
            both = zip(rows[name]["in_rounds"], rows[other]["in_rounds"], strict=True)
            each = [ours / theirs for ours, theirs in both]
            found[other] = {"median": median(each), "least": min(each), "largest": max(each)}
    return found


def lines(part: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the table, one for each contender."""
    rows = []
    for name, row in found["rows"].items():
        shown = [
            f"{ratio['median']:.2f} × {other} ({ratio['least']:.2f} – {ratio['largest']:.2f})"
            for other, ratio in row["ratios"].items()
        ]
        speed = row["per_second"]
        rows.append(
            (
                *(part, name, f"{speed:,.{0 if speed >= 100 else 2}f} {found['unit']}"),
                "<br>".join(shown),
                f"{row['share_of_peak']:.0%}" if "share_of_peak" in row else "",
                f"{row['peak_memory_mib']:,.0f} MiB",
            )
        )
    return rows


def report() -> None:
    """Everything that was measured so far."""
    results = {part: kept(path_of(part)) for part in PARTS if path_of(part).is_file()}
    for found in results.values():
        for name, row in found["rows"].items():
            row["ratios"] = ratios(found["rows"], name)
    rows = [row for part, found in results.items() for row in lines(part, found)]
    head = ("part", "contender", "a processor second", "ratio", "of peak", "peak memory")
    text = f"# Speed\n\nOne thread, {ROUNDS} rounds in turn: medians, and the range of ratios.\n\n"
    write("speed", results, text + "\n".join(table(head, rows)) + "\n")


def path_of(part: str) -> Path:
    """Where a part is kept."""
    name = "".join(letter if letter.isalnum() else "-" for letter in part)
    return FOLDER / f"{name}.json"


def main() -> None:
    one_thread()
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--before", default="", metavar="SRC", help="src of an earlier build")
    given = parser.parse_args()
    for part in given.parts:
        once(path_of(part), partial(measured, part, given.before))
        report()


if __name__ == "__main__":
    main()
