"""Stop runs at random moments and resume them: weights, log and files must be those of whole runs.

For each kind of stop (Ctrl-C, every third of them pressed twice; SIGTERM; SIGHUP; kill -9) and
eight small recipes in turn a run is stopped up to four times, each time after a uniform share of
the time that a whole run takes from its start to its end: so a stop hits reading, building, steps,
saves, measuring and what is written last. Then it is resumed until it is done and compared with
the run that nothing happened to: tensors bit for bit, every row of the log but for times, figures,
and the names of all files.

Every run is a fork of this process, which has imported everything: a stop costs a second. Started
again, the script goes on where it was stopped.

    python benchmarks/stops.py [STOPS of each kind, 100] [SEED, 0]
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import isthmus.commands.train
import isthmus.evaluation.plots
import isthmus.training.run  # noqa: F401
from isthmus.bench.measure import circumstances
from isthmus.cli import main
from isthmus.data import scenes
from isthmus.runs.folders import write_json

PLACE = Path("runs") / "stops"
RESULTS = Path(__file__).parent / "results" / "stops.json"
KINDS = {
    "Ctrl-C": signal.SIGINT,
    "SIGTERM": signal.SIGTERM,
    "SIGHUP": signal.SIGHUP,
    "kill -9": signal.SIGKILL,
}
IN_A_RUN = 4
LONG = 600.0
"""Seconds after which a process hangs."""
STEPS = ["--train.steps", "24", "--train.evaluations", "3", "--train.log-every", "5"]
TEXT = ["--train.tokens-per-batch", "300"]
PICTURE = ["--train.sentences-per-batch", "8", "--data.limit", "48"]
NOISE = ["--data.deletion", "0.2", "--data.word-dropout", "0.2", "--model.encoder.dropout", "0.1"]
RECIPES = {
    "demo, noise": ["texts", "--recipe", "demo", *TEXT, *NOISE, "--train.keep", "best"],
    "lstm-vae, semi-amortised": [
        *("texts", "--recipe", "lstm-vae", *TEXT, "--train.semi-amortised", "1"),
        *("--model.encoder.hidden-size", "64", "--model.decoder.hidden-size", "64"),
    ],
    "scnn-vae-semi": ["texts", "--recipe", "scnn-vae-semi", *TEXT, "--data.labelled", "40"],
    "t5-vae, best": [
        *("texts", "--recipe", "t5-vae", *TEXT, "--train.keep", "best"),
        *("--model.encoder.hidden-size", "64", "--model.decoder.hidden-size", "64"),
    ],
    "encoder-pretraining": [
        *("texts", "--recipe", "encoder-pretraining", *TEXT, "--first.epochs", "2"),
        *("--model.encoder.hidden-size", "64", "--model.decoder.hidden-size", "64"),
    ],
    "ctrl": ["texts", "--recipe", "ctrl", *TEXT, "--model.decoder.hidden-size", "64"],
    "picture-vae": ["digits", "--recipe", "picture-vae", *PICTURE],
    "doors": ["pictures", "--recipe", "doors", *PICTURE, "--train.keep", "best"],
}
TIMES = ("per_second", "runtime")


def start(words: list[str], out: Path) -> int:
    """Fork a process that runs ``isthmus train``; its output goes to a file beside the run."""
    if child := os.fork():
        return child
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with out.with_suffix(".txt").open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = main(["train", *words, *STEPS, "--out", str(out)])
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:  # outside the command: not begun or done
        pass
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(child: int, seconds: float) -> bool:
    """Wait for a process, not for long; whether it has ended."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(min(0.002, left))
    return False


def go_on(words: list[str], out: Path) -> list[str]:
    """The command that a user gives after a stop."""
    return [*words, "--resume"] if (out / "settings.json").is_file() else words


def where(out: Path) -> str:
    """What a stopped run was doing, as its folder shows."""
    folders = list(out.rglob("checkpoint-*"))
    if (out / "run.json").is_file():
        return "the end"
    if any(not (folder / "manifest.json").is_file() for folder in folders):
        return "a save"
    if (out / "checkpoints" / "checkpoint-24").is_dir():
        return "measuring"
    return "steps" if folders or (out / "log.jsonl").is_file() else "before the first step"


def stopped_run(
    words: list[str], out: Path, kind: str, seconds: float, limit: int, draw: random.Random
) -> tuple[list[str], list[str]]:
    """A run that is stopped and resumed to its end: where the stops were, and its faults."""
    number, places = KINDS[kind], []
    while True:
        child = start(go_on(words, out), out)
        stopping = len(places) < limit
        ended = wait(child, draw.uniform(0, seconds) if stopping else LONG)
        if not ended and not stopping:
            os.kill(child, signal.SIGKILL)
            return places, ["hangs"]
        done = ended
        if not ended:
            os.kill(child, number)
            if kind == "Ctrl-C" and draw.random() < 1 / 3:
                ended = wait(child, draw.uniform(0, 0.1))
                if not ended:
                    os.kill(child, number)
            if not ended and not wait(child, LONG):
                os.kill(child, signal.SIGKILL)
                return places, ["does not stop"]
            places.append(where(out))
        said = out.with_suffix(".txt").read_text(encoding="utf-8")
        if "Traceback" in said:
            return places, [said]
        if done:
            whole = (out / "run.json").is_file()
            return places, [] if whole else [said.strip().rpartition("\n")[2]]


def rows(log: Path) -> list[dict[str, Any]]:
    """A log without times."""
    found = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return [{key: row[key] for key in row if not key.endswith(TIMES)} for row in found]


def files(folder: Path) -> list[str]:
    """The names of all files; TensorBoard's have the time and the process in theirs."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    return sorted(name.partition(".tfevents.")[0] for name in found)


def differences(whole: Path, stopped: Path) -> list[str]:
    """What tells a stopped run from a whole one."""
    found: list[str] = []
    one, two = Counter(files(whole)), Counter(files(stopped))
    if one != two:
        return [f"files: {sorted((one - two) | (two - one))}"]
    for path in whole.rglob("model.safetensors"):
        name = path.relative_to(whole)
        one, two = load_file(path), load_file(stopped / name)
        if one.keys() != two.keys() or not all(torch.equal(one[key], two[key]) for key in one):
            found.append(f"{name} differs")
    for path in whole.rglob("log.jsonl"):
        name = path.relative_to(whole)
        if rows(path) != rows(stopped / name):
            found.append(f"{name} differs")
    for path in whole.rglob("run.json"):
        name = path.relative_to(whole)
        one, two = (json.loads((run / name).read_text()) for run in (whole, stopped))
        if (one["metrics"], one["steps"]) != (two["metrics"], two["steps"]):
            found.append(f"{name} differs")
    return found


def texts(place: Path) -> str:
    """Sentences of `scenes` with their style as the label."""
    lines = [f"{each.factors['style']}\t{each.text}\n" for each in scenes.generate("train", 150)]
    (place / "texts.tsv").write_text("".join(lines), encoding="utf-8")
    return str(place / "texts.tsv")


def pictures(place: Path) -> str:
    """Pictures of one square each, with a caption that names its colour."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 60, (60, 16, 16, 3), dtype=np.uint8)
    colours = draw.integers(0, 3, 60)
    for image, colour in zip(images, colours, strict=True):
        row, column = draw.integers(0, 10, 2)
        image[row : row + 6, column : column + 6, colour] = 230
    captions = [f"a {('red', 'green', 'blue')[colour]} square" for colour in colours]
    np.savez(place / "pictures.npz", images=images, captions=np.array(captions))
    return str(place / "pictures.npz")


def whole_run(name: str) -> tuple[list[str], Path, float]:
    """The command of a recipe, the run that nothing happens to, and its seconds."""
    place = PLACE / name.replace(" ", "").replace(",", "-")
    place.mkdir(parents=True, exist_ok=True)
    data, *rest = RECIPES[name]
    makers = {"texts": texts, "pictures": pictures}
    words = [makers[data](place) if data in makers else data, *rest]
    out, clock = place / "whole", place / "seconds.json"
    if not clock.is_file():
        shutil.rmtree(out, ignore_errors=True)
        begun = time.monotonic()
        if not wait(start(words, out), LONG) or not (out / "run.json").is_file():
            raise SystemExit(out.with_suffix(".txt").read_text(encoding="utf-8"))
        write_json(time.monotonic() - begun, clock)
    return words, out, json.loads(clock.read_text())


def report(results: dict[str, Any]) -> None:
    """Write the results, as JSON and as a table."""
    write_json(results, RESULTS)
    places = ["before the first step", "steps", "a save", "measuring", "the end"]
    lines = ["| stop | stops | runs | " + " | ".join(places) + " | runs that differ |"]
    lines.append("|---" * (len(places) + 4) + "|")
    for kind in KINDS:
        runs = [run for run in results["runs"] if run["kind"] == kind]
        at = [place for run in runs for place in run["places"]]
        counts = " | ".join(str(at.count(place)) for place in places)
        differ = sum(bool(run["differences"]) for run in runs)
        lines.append(f"| {kind} | {len(at)} | {len(runs)} | {counts} | {differ} |")
    lines += [
        f"\n{run['kind']}, {run['recipe']}, number {run['number']}: {line}"
        for run in results["runs"]
        for line in run["differences"]
    ]
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(stops: int, seed: int) -> None:
    """Stop every recipe in turn in every way until each way has its number of stops."""
    results = {"stops_of_each_kind": stops, "seed": seed, "runs": []}
    if RESULTS.is_file():
        former = json.loads(RESULTS.read_text(encoding="utf-8"))
        if former["seed"] == seed:
            results["runs"] = former["runs"]
    for number in range(stops):
        for kind in KINDS:
            runs = [run for run in results["runs"] if run["kind"] == kind]
            left = stops - sum(len(run["places"]) for run in runs)
            if left <= 0 or any(run["number"] == number for run in runs):
                continue
            name = list(RECIPES)[number % len(RECIPES)]
            words, whole, seconds = whole_run(name)
            out = whole.with_name("stopped")
            shutil.rmtree(out, ignore_errors=True)
            draw = random.Random(f"{seed} {kind} {number}")
            places, faults = stopped_run(words, out, kind, seconds, min(left, IN_A_RUN), draw)
            found = faults or differences(whole, out)
            if found:
                shutil.copytree(out, PLACE / f"{kind} {number}", dirs_exist_ok=True)
            run = {"kind": kind, "recipe": name, "number": number, "places": places}
            results["runs"].append(run | {"differences": found})
            report(results | circumstances())


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = [*sys.argv[1:3], *["100", "0"][len(sys.argv[1:3]) :]]
    measure(*map(int, given))
