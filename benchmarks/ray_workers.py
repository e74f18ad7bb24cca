"""Two Ray workers against one process: encoding captions, also while workers are killed.

Both encode the same captions by the same function, one thread a process, in one run: N, and as
many before as it takes until each worker computes. The clock of the workers runs over the N, that
of the process, whose model is loaded, over all. Then the workers encode all again, and one of them
is killed ten times, at random moments.

    python benchmarks/ray_workers.py [--short]

N = 200,000: the training captions, and as many of them again as it takes. Writes
results/ray_workers.json and results/ray_workers.md.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

import common
from isthmus.commands.space import Encode, encoded
from isthmus.data.batches import WINDOW
from isthmus.data.corpus import read, read_splits
from isthmus.models.workers import HERE, Workers

COUNT, START, KILLS, WORKERS = 200_000, 6 * WINDOW, 10, 2
WORK = partial(encoded, refine=0, bf16=False, summary=False)


class Clock:
    """Seconds and captions from the one that ends the start, 0 for the first, to the last."""

    def __init__(self, start: int) -> None:
        self.start, self.done, self.counted = start, 0, 0
        self.began = time.perf_counter()

    def __call__(self, more: int) -> None:
        counts = self.done >= self.start
        self.done += more
        if counts:
            self.counted += more
            self.seconds = time.perf_counter() - self.began
        else:
            self.began = time.perf_counter()

    @property
    def rate(self) -> float:
        """Captions a second."""
        return self.counted / self.seconds


def worker_processes() -> list[int]:
    """Processes of Ray Data's workers on this machine."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::MapWorker"):
            found.append(int(place.parent.name))
    return found


class Killer(threading.Thread):
    """Kills a worker at random moments, a number of times, from the first progress on."""

    def __init__(self, kills: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self.kills, self.seconds, self.killed, self.ended = kills, seconds, 0, threading.Event()

    def run(self) -> None:
        draw = random.Random(0)
        while self.killed < self.kills and not self.ended.wait(draw.uniform(0, 2 * self.seconds)):
            if there := worker_processes():
                os.kill(draw.choice(there), signal.SIGKILL)
                self.killed += 1


def timed(workers: Workers, model: Any, texts: Sequence[str], start: int) -> tuple[Any, Clock]:
    """The columns of captions, and how long it took after the start."""
    clock = Clock(start)
    return workers.map(WORK, model, texts, progress=clock), clock


def killing(verb: Encode, model: Any, texts: list[str], kills: int) -> tuple[Any, Killer]:
    """The columns of captions from workers that are killed."""
    killer = Killer(kills, 4.0)

    def progress(more: int) -> None:
        if killer.ident is None:
            killer.start()

    with verb.workers("encoder") as workers:
        found = workers.map(WORK, model, texts, progress=progress)
    killer.ended.set()
    return found, killer


def measured(verb: Encode, captions: list[str], count: int, start: int, kills: int) -> Any:
    """All figures."""
    model, texts = verb.load("encoder"), [*islice(cycle(captions), start + count)]
    here, one = timed(HERE, model, texts, 0)
    print(f"one process: {one.rate:,.0f} captions a second", flush=True)
    with verb.workers("encoder") as workers:
        there, two = timed(workers, model, texts, start)
    print(f"workers: {two.rate:,.0f} captions a second", flush=True)
    again, killer = killing(verb, model, texts, kills)
    return {
        "times": {
            "captions": two.counted,
            "one": one.rate,
            "workers": two.rate,
            "ratio": two.rate / one.rate,
            "equal": equal(here, there),
        },
        "kills": {
            "captions": len(texts),
            "killed": killer.killed,
            "rows": len(again[0]),
            "equal": equal(here, again),
        },
    }


def equal(here: Sequence[torch.Tensor], there: Sequence[torch.Tensor]) -> bool:
    """Whether all bytes are."""
    pairs = zip(here, there, strict=True)
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)


def table(figures: dict[str, Any]) -> str:
    """The figures in words."""
    found, killed = figures["times"], figures["kills"]
    lines = [
        "# Ray workers",
        "",
        f"Encoding {found['captions']:,} captions after the start, one thread a process:",
        "",
        *common.table(
            ("", "captions a second", "times one process"),
            [
                ("one process", f"{found['one']:,.0f}", "1"),
                (f"{WORKERS} workers", f"{found['workers']:,.0f}", f"{found['ratio']:.2f}"),
            ],
        ),
        "",
        f"Results equal byte for byte: {yes(found['equal'])}.",
        "",
        f"{killed['killed']} times a worker was killed at a random moment while "
        f"{killed['captions']:,} captions were encoded: {killed['rows']:,} rows came back, equal "
        f"byte for byte to those of one process: {yes(killed['equal'])}.",
        "",
    ]
    return "\n".join(lines)


def yes(fact: bool) -> str:
    """A fact in a word."""
    return "yes" if fact else "no"


def run_of(settings: Any) -> Path:
    """A run on captions; how well it is trained does not change what encoding takes."""
    out = common.RUNS / "ray_workers"
    data = str(common.DATA / "captions")
    common.trained(out, settings, read_splits(data, limit=settings.data.limit))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="20,000 captions and one kill")
    short = parser.parse_args().short
    common.one_thread()
    changes = {"train": {"steps": 20, "evaluations": 1}, "data": {"limit": 3000}}
    run = run_of(common.settings_of(str(common.BENCHMARKS / "captions.toml"), changes))
    verb = Encode(run_directory=str(run), data="captions", on="ray")
    captions = read(common.DATA / "captions", split="train").texts
    amounts = (20_000, 2 * WINDOW, 1) if short else (COUNT, START, KILLS)
    figures = measured(verb, captions, *amounts)
    if short:
        print(table(figures))
    else:
        common.write("ray_workers", figures, table(figures))


if __name__ == "__main__":
    main()
