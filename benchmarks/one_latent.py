"""Does what is there for many latents slow down one? This build beside an earlier one, in turn.

    git worktree add ../before COMMIT
    python benchmarks/one_latent.py ../before/src    # results/one_latent.{json,md}

One thread, processor time, float32; the contenders are those of speed.py. The committed result is
beside 6b8a0fa, the last build before codebooks, chunks, documents and latents of tokens.
"""

from __future__ import annotations

import sys
from functools import partial

from common import RUNS, kept, once, one_thread, table, write
from speed import ROUNDS, measured, ratios

PARTS = ("optimus, captions", "IW-NLL, K = 100", "greedy decoding, 16")
BEFORE, NOW = NAMES = ("before, float32", "isthmus, float32")


def main(before: str) -> None:
    one_thread()
    results, rows = {}, []
    for number, part in enumerate(PARTS):
        path = RUNS / "one_latent" / f"{number}.json"
        once(path, partial(measured, part, before, NAMES))
        found = results[part] = kept(path)
        ratio = found["ratio"] = ratios(found["rows"], NOW)[BEFORE]
        slower = f"{1 / ratio['median']:.3f}"
        extent = f"{1 / ratio['largest']:.3f} – {1 / ratio['least']:.3f}"
        rows.append((part, slower, extent))
    head = ("", "time, in units of the earlier build's", "range")
    text = f"One latent, {ROUNDS} rounds in turn: median and range of the ratios.\n\n"
    write("one_latent", results, text + "\n".join(table(head, rows)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
