"""Two processes of one thread each against one: training, encoding, importance-weighted bounds.

    RAY_worker_niceness=0 python benchmarks/processes.py [train|train-apiece|encode|evaluate ROUND]

The recipe ``optimus`` on captions, on two free cores. Training is shared by torchrun: first the
recipe's batch between two processes, then a batch of that size for each of them, as with two
machines. The other two are shared by Ray's workers (``--on ray``). Each round also lets two
processes that know nothing of each other do the work of one at the same time: what they reach
together is the most that this machine gives. Clocks start when all processes are at work and count
wall time. Rounds are kept in runs/processes; without arguments, missing ones are measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, final

import torch

import common
from isthmus.commands.space import Encode, encoded
from isthmus.data.corpus import read, read_splits
from isthmus.evaluation.likelihood import bounds
from isthmus.models.build import build
from isthmus.models.codec import Examples
from isthmus.models.workers import HERE, Workers
from isthmus.progress import JsonLinesLog, is_first_process
from isthmus.settings import Settings
from isthmus.training import LatentTrainer

ROUNDS = 2
STEPS, UNCOUNTED = 120, 20
TEXTS = {"encode": 131_072, "evaluate": 2_048}
SAMPLES = 20
BARS = {"train": 1.85, "train-apiece": 1.85, "encode": 1.9, "evaluate": 1.9}
NAMES = {
    "train": "training, one batch between two",
    "train-apiece": "training, a batch each",
    "encode": "encoding",
    "evaluate": f"IW bounds, K = {SAMPLES}",
}
LIMIT = 20_000
"""Training captions that are read."""
FOLDER = common.RUNS / "processes"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@final
class Timed(Workers):
    """Workers that say when each part was computed, and by whom."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.passes: list[list[tuple[int, float, float, int]]] = []

    def parts(
        self, work: Any, model: Any, examples: Any, given: Any, progress: Any
    ) -> Iterator[tuple[Sequence[int], Any]]:
        """The parts; the process, start, end and examples of each are kept."""
        stamped, spans = partial(with_times, work), list[tuple[int, float, float, int]]()
        self.passes.append(spans)
        for places, (span, *columns) in self.workers.parts(
            stamped, model, examples, given, progress
        ):
            spans.append((*span, units_of(examples, places)))
            yield places, tuple(columns)

    @property
    def rate(self) -> float:
        """Units a second of the first pass, from when all processes compute to the end."""
        first: dict[int, float] = {}
        spans = self.passes[0]
        for process, start, _, _ in spans:
            first[process] = min(start, first.get(process, start))
        begun, ended = max(first.values()), max(end for _, _, end, _ in spans)
        done = 0.0
        for _, start, end, units in spans:
            inside = max(0.0, end - max(start, begun))
            done += units * inside / (end - start)
        return done / (ended - begun)


def with_times(work: Any, *arguments: Any, **named: Any) -> tuple[Any, ...]:
    """The columns of a part, and before them the process, start and end."""
    start = time.time()
    columns = work(*arguments, **named)
    return ((os.getpid(), start, time.time()), *columns)


def units_of(examples: Any, places: Sequence[int]) -> int:
    """Tokens of prepared examples, or the number of texts."""
    if isinstance(examples, Examples):
        return int(examples.lengths[[*places]].sum())
    return len(places)


def settings(steps: int, batches: int = 1) -> Settings:
    """Of the recipe, with its batch or several as one."""
    train = {"steps": steps, "evaluations": 1, "validation": 50, "keep": "last"}
    changes = {"train": train | {"precision": "float32"}, "data": {"limit": LIMIT}}
    chosen = common.settings_of("optimus", changes)
    tokens = batches * chosen.train.tokens_per_batch
    return replace(chosen, train=replace(chosen.train, tokens_per_batch=tokens))


def train(begin: Callable[[], None], batches: int = 1) -> float:
    """Batches of the recipe a second of this process, or of all that torchrun has started."""
    chosen = settings(STEPS, batches)
    splits = read_splits(str(common.DATA / "captions"), limit=LIMIT)
    model = build(chosen, splits.train.texts)
    clock = common.Clock(UNCOUNTED, STEPS, time.perf_counter)
    examples = model.codec.prepare(splits.train.texts)
    valid = model.codec.prepare(splits.valid.texts[:50])
    with TemporaryDirectory() as folder:
        out = Path(folder)
        log = JsonLinesLog(out / "log.jsonl", 0) if is_first_process() else None
        trainer = LatentTrainer(
            model, chosen, examples, valid, out, log=log, warn=print, callbacks=[clock]
        )
        begin()
        trainer.fit(None)
    return batches * (STEPS - UNCOUNTED) / clock.seconds


def shared(part: str, begin: Callable[[], None], on: str = "") -> float:
    """Tokens or texts a second, here or by Ray's workers."""
    verb = Encode(run_directory=str(FOLDER / "run"), data="captions", on=on)
    model = verb.load()
    captions = read(common.DATA / "captions", split="train").texts
    texts: Any = [*islice(cycle(captions), TEXTS[part])]
    begin()
    with verb.workers() as workers:
        timed = Timed(workers if on else HERE)
        if part == "encode":
            timed.map(partial(encoded, refine=0, bf16=False, summary=False), model, texts)
        else:
            bounds(model, model.codec.prepare(texts), samples=SAMPLES, workers=timed)
    return timed.rate


def work(part: str, begin: Callable[[], None], on: str = "") -> float:
    """The rate of a part."""
    if part == "train":
        return train(begin)
    if part == "train-apiece":
        return train(begin, int(os.environ.get("WORLD_SIZE", 1)))
    return shared(part, begin, on)


def started(part: str, *launch: str) -> subprocess.Popen[str]:
    """A process with the work of a part, which waits for a line unless torchrun starts it."""
    return subprocess.Popen(
        [sys.executable, *launch, __file__, "work", part],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def together(processes: Sequence[subprocess.Popen[str]]) -> list[float]:
    """Let processes work once all are ready, and read their rates."""
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        print(file=process.stdin, flush=True)
    return [float(process.communicate()[0].splitlines()[-1]) for process in processes]


def measured(part: str) -> dict[str, float]:
    """One process, two that share the work, and two that do not."""
    [one] = together([started(part)])
    if part.startswith("train"):
        two = float(started(part, *TORCHRUN).communicate()[0].splitlines()[-1])
    else:
        [two] = together([started(f"{part}-on-ray")])
    apart = sum(together([started(part), started(part)]))
    return {"one": one, "two": two, "apart": apart}


def work_here(part: str) -> None:
    """Do the work of a part and print its rate."""
    common.one_thread()
    part, _, on = part.partition("-on-")

    def begin() -> None:
        if "RANK" not in os.environ:
            print("ready", flush=True)
            input()

    rate = work(part, begin, on)
    if is_first_process():
        print(rate, flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def table(rounds: dict[str, list[dict[str, float]]]) -> str:
    """The figures in words."""
    rows = []
    for part, found in rounds.items():
        two = [one["two"] / one["one"] for one in found]
        apart = [one["apart"] / one["one"] for one in found]
        rows.append(
            (
                NAMES[part],
                f"{median(two):.2f} ({', '.join(f'{ratio:.2f}' for ratio in two)})",
                f"{median(apart):.2f} ({', '.join(f'{ratio:.2f}' for ratio in apart)})",
                f"{median(two) / median(apart):.1%}",
                BARS[part],
            )
        )
    head = ("", "two, times one", "two that know nothing of each other", "share of it", "asked")
    return "\n".join(
        [
            "# Two processes (benchmarks/processes.py)",
            "",
            "The recipe `optimus` on captions; one thread a process, two cores, wall time; "
            "medians, and each round:",
            "",
            *common.table(head, rows),
            "",
        ]
    )


def main(words: Sequence[str]) -> None:
    common.one_thread()
    run = FOLDER / "run"
    chosen = settings(20)
    common.trained(run, chosen, read_splits(str(common.DATA / "captions"), limit=LIMIT))
    wanted = (
        [(words[0], int(words[1]))] if words else [(p, n) for p in BARS for n in range(ROUNDS)]
    )
    for part, number in wanted:
        common.once(FOLDER / part / f"{number}.json", partial(measured, part))
    rounds = {part: common.all_kept(FOLDER / part) for part in BARS}
    if all(rounds.values()):
        common.write("processes", {"rounds": rounds}, table(rounds))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", part]:
            work_here(part)
        case words:
            main(words)
