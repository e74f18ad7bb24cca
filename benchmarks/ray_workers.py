"""Two Ray workers against one process: encoding captions, also while workers are killed.

Both encode the same captions by the same function, one thread a process, in one run: N, and as
many before as it takes until each worker computes. The clock of the workers runs over the N, that
of the process, whose model is loaded, over all. Then the workers encode all again, and one of them
is killed ten times, at random moments.

    RAY_worker_niceness=0 python benchmarks/ray_workers.py [--short]

N = 200,000: the training captions, and as many of them again as it takes. What is done is kept in
runs/ray_workers-parts. Writes results/ray_workers.json and results/ray_workers.md. Without the
variable Ray gives its workers a lower priority than that of the one process.
"""

from __future__ import annotations

import argparse
import hashlib
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
        self.kills, self.seconds, self.killed = kills, seconds, 0

    def run(self) -> None:
        draw = random.Random(0)
        while self.killed < self.kills:
            time.sleep(draw.uniform(0, 2 * self.seconds))
            if there := worker_processes():
                os.kill(draw.choice(there), signal.SIGKILL)
                self.killed += 1


def timed(workers: Workers, model: Any, texts: Sequence[str], start: int) -> tuple[Any, Clock]:
    """The columns of captions, and how long it took after the start."""
    clock = Clock(start)
    return workers.map(WORK, model, texts, progress=clock), clock


def times(verb: Encode, model: Any, texts: list[str], start: int) -> dict[str, Any]:
    """One process and the workers, one after the other."""
    here, one = timed(HERE, model, texts, 0)
    print(f"one process: {one.rate:,.0f} captions a second", flush=True)
    with verb.workers("encoder") as workers:
        there, two = timed(workers, model, texts, start)
    return {
        "captions": two.counted,
        "one": one.rate,
        "workers": two.rate,
        "ratio": two.rate / one.rate,
        "digests": [digest(here), digest(there)],
    }


def kills(verb: Encode, model: Any, texts: list[str], count: int) -> dict[str, Any]:
    """The workers, of which some are killed, encode all until enough are."""
    killer, digests, rows = Killer(count, 2.0), [], []

    def progress(more: int) -> None:
        if killer.ident is None:
            killer.start()

    while killer.killed < count:
        with verb.workers("encoder") as workers:
            found = workers.map(WORK, model, texts, progress=progress)
        digests.append(digest(found))
        rows.append(len(found[0]))
    return {"captions": len(texts), "killed": killer.killed, "rows": rows, "digests": digests}


def digest(columns: Sequence[torch.Tensor]) -> str:
    """Of all bytes."""
    found = hashlib.sha256()
    for column in columns:
        found.update(column.numpy().tobytes())
    return found.hexdigest()


def table(figures: dict[str, Any]) -> str:
    """The figures in words."""
    found, killed = figures["times"], figures["kills"]
    here, there = found["digests"]
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
        f"Results equal byte for byte: {yes(here == there)}.",
        "",
        f"{killed['killed']} times a worker was killed at a random moment while "
        f"{killed['captions']:,} captions were encoded (passes: {len(killed['rows'])}): "
        f"{' and '.join(f'{rows:,}' for rows in killed['rows'])} rows came back, equal "
        f"byte for byte to those of one process: {yes({here} == {*killed['digests']})}.",
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
    count, start, killed = (20_000, 2 * WINDOW, 1) if short else (COUNT, START, KILLS)
    model, texts = verb.load("encoder"), [*islice(cycle(captions), start + count)]
    folder = common.RUNS / f"ray_workers-{'short' if short else 'parts'}"
    common.once(folder / "times.json", lambda: times(verb, model, texts, start))
    common.once(folder / "kills.json", lambda: kills(verb, model, texts, killed))
    figures = {part: common.kept(folder / f"{part}.json") for part in ("times", "kills")}
    if short:
        print(table(figures))
    else:
        common.write("ray_workers", figures, table(figures))


if __name__ == "__main__":
    main()
