"""What the benchmarks share: settings, runs that are trained once and kept, results, tables.

A run is kept in a folder of ``runs/``: a script that is started again resumes it if it was
interrupted, and only measures it if it is finished. Results go to ``results/`` with hardware,
versions and date.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import TrainerCallback

from isthmus.bench.measure import circumstances
from isthmus.commands.common import quiet
from isthmus.evaluation.usage import Estimate
from isthmus.progress import JsonLinesLog, console
from isthmus.runs.bundle import RUN_FILE, load
from isthmus.runs.folders import write_json
from isthmus.settings import Settings, from_dict, load_recipe, with_changes
from isthmus.training import LatentTrainer, train_once

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results"
DATA = Path(__file__).parents[2] / "shared" / "data"
RUNS = Path("runs")


def one_thread() -> None:
    """Use one core, and silence the libraries."""
    torch.set_num_threads(1)
    quiet()


def settings_of(recipe: str, *changes: dict[str, Any]) -> Settings:
    """A recipe, by name or file, with nested changes."""
    found = load_recipe(recipe)
    for change in changes:
        found = with_changes(found, change, "benchmark")
    return found


def settings_from(values: dict[str, Any]) -> Settings:
    """Settings without a recipe."""
    return from_dict(Settings, values, "benchmark")


def trained(out: Path, settings: Settings, splits: Any) -> Any:
    """The model of a run directory, which is trained first unless it is finished."""
    if not (out / RUN_FILE).is_file():
        with clocked(out):
            train_once(settings, splits, out, console())
    return load(out)


@contextmanager
def clocked(out: Path) -> Iterator[None]:
    """Add the time of this session to that of the run's earlier ones."""
    out.parent.mkdir(parents=True, exist_ok=True)
    wall, processor = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        write_json([*_sessions(out), spent], _seconds_file(out))


def seconds_of(out: Path) -> dict[str, float]:
    """Wall and processor seconds of all sessions of a run."""
    sessions = _sessions(out)
    return {f"{kind}_seconds": sum(each[kind] for each in sessions) for kind in sessions[0]}


def _seconds_file(out: Path) -> Path:
    return out.with_name(f"{out.name}-seconds.json")


def _sessions(out: Path) -> list[dict[str, float]]:
    return kept(_seconds_file(out)) or []


def fitted(
    model: Any, settings: Settings, train: Any, valid: Any, *callbacks: TrainerCallback
) -> Any:
    """A model trained by LatentTrainer, without a run directory."""
    with TemporaryDirectory() as folder:
        trainer = LatentTrainer(
            model,
            settings,
            train,
            valid,
            Path(folder),
            log=JsonLinesLog(Path(folder) / "log.jsonl", 0),
            warn=lambda finding: print(f"  {finding}"),
            callbacks=[*callbacks],
        )
        trainer.fit(None)
    return trainer.model.eval()


class Clock(TrainerCallback):
    """Time between two steps of a run, without evaluation and saving."""

    def __init__(self, first: int, last: int, now: Callable[[], float]) -> None:
        self.first, self.last, self.now, self.seconds = first, last, now, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.first:
            self.seconds = -self.now()
        if state.global_step == self.last:
            self.seconds += self.now()


def kept(path: Path) -> Any:
    """The content of a JSON file; None if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def keep(record: dict[str, Any], path: Path) -> None:
    """Save a measurement in a folder of runs, and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, path)
    print(json.dumps(record), flush=True)


def once(path: Path, measure: Callable[[], dict[str, Any]]) -> None:
    """Measure and keep, unless that was done before."""
    if not path.is_file():
        keep(measure(), path)


def all_kept(folder: Path) -> list[dict[str, Any]]:
    """All measurements in a folder, in the order of their names."""
    return [kept(path) for path in sorted(folder.glob("*.json"))]


def read(name: str) -> dict[str, Any] | None:
    """The figures of ``results/NAME.json``; None if it does not exist."""
    found: dict[str, Any] | None = kept(RESULTS / f"{name}.json")
    return found


def write(name: str, figures: dict[str, Any], text: str = "") -> None:
    """Write ``results/NAME.json``, and a text to ``results/NAME.md``."""
    RESULTS.mkdir(exist_ok=True)
    write_json({"circumstances": circumstances(), **figures}, RESULTS / f"{name}.json")
    print(f"wrote results/{name}.json")
    if text:
        write_text(name, text)


def write_text(name: str, text: str) -> None:
    """Write ``results/NAME.md``, and print it."""
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def figure(estimate: Estimate) -> dict[str, Any]:
    """A value with its standard error."""
    return {"value": estimate.value, "se": estimate.standard_error, "n": estimate.count}


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """A fraction with its standard error."""
    return figure(Estimate.mean_of(torch.tensor(hits).double()))


def repeats(text: str) -> bool:
    """Whether a word stands twice in a row."""
    words = text.split()
    return any(map(str.__eq__, words, words[1:]))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def plus_minus(value: float, error: float | None, digits: int = 3) -> str:
    """A value with its standard error, if it has one."""
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def peak_memory() -> float:
    """Largest resident size of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
