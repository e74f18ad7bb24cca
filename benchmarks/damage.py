"""Damage run directories in every way known, load them, and compare what comes out.

Five small runs (the trained one that ships with the studio; texts with BPE and two tokenizers; a
language model with codes; pictures; pictures with captions) are damaged at random, one fault at a
time. A damaged run must be refused with one line, or give the outputs of the whole run to the bit.
Damaged JSON files are loaded without verification as well, their sizes made right: there a changed
setting may change numbers, but nothing may end in a traceback. Each case runs in its own fork.

Loading is then timed with and without verification, in turn.

    python benchmarks/damage.py [CASES, 400] [SEED, 0]
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import statistics
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import isthmus
from common import RESULTS, one_thread, settings_of, table, write_text
from faults import DAMAGE, JSON_DAMAGE, WEIGHTS
from isthmus.bench.measure import circumstances
from isthmus.data import scenes
from isthmus.data.captioned import Example
from isthmus.data.kinds import JOINT, PICTURE, config_of
from isthmus.data.tokens import train_bpe
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.build import build
from isthmus.models.codec import make_codec
from isthmus.runs import bundle
from isthmus.runs.folders import write_json
from isthmus.settings import with_changes
from isthmus.studio.health import health
from isthmus.studio.shipped import bundle_path

MEMORY = 16 << 30
LONG = 120
PAIRS = 16
TEXTS = [sentence.text for sentence in scenes.generate("train", 200)]
WORDS = {"tokenizer": "bpe", "vocabulary_size": 320, "maximum_length": 40}
SIZE = {"architecture": "gpt2", "hidden_size": 32, "layers": 1}
LARGE = {"150 MB": 512, "540 MB": 960}
"""Run to time → width of its six layers in the encoder and in the decoder."""


def make_runs(place: Path) -> None:
    """Five runs, and beside each another of the same form."""
    texts = {"encoder": {**SIZE, "architecture": "bert"}, "decoder": SIZE}
    language = {"kind": "language-model", "labels": "given", "bridge": "start", "rivals": 0}
    examples = {
        "text": (TEXTS, settings_of("demo", {"data": WORDS, "model": texts})),
        "language": (
            TEXTS,
            settings_of("ctrl", {"data": WORDS, "model": {**language, "decoder": SIZE}}),
        ),
    }
    for name, kind, data, recipe in (
        ("picture", PICTURE, "digits", "picture-vae"),
        ("joint", JOINT, "scenes", "doors"),
    ):
        settings = settings_of(recipe, {"data": {"limit": 60}})
        examples[name] = (kind.read_splits(data, settings).train.examples, settings)
    for name, (data, settings) in examples.items():
        for seed, folder in enumerate((place / name, place / f"{name}-other")):
            own = with_changes(settings, {"train": {"seed": seed}}, "benchmark")
            labels = (
                [("up", "down")[n % 2] for n in range(len(data))] if name == "language" else None
            )
            model = build(own, data, labels or [None] * len(data))
            if name == "text":
                theirs = train_bpe(TEXTS[100:], 320)
                model.codec = make_codec(theirs, model.codec.decoder_tokenizer, 40)
            bundle.save(model, folder, {"settings": {"train": {"seed": seed}}, "seed": seed})
    shutil.copytree(bundle_path(), place / "shipped")
    model = isthmus.load(place / "shipped")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    bundle.save(model, place / "shipped-other", bundle.read_run(place / "shipped"))


def outputs(run: Path, verify: bool) -> list[Any]:
    """What a run gives for a few examples: terms, posteriors, texts or pictures."""
    model = isthmus.load(run, verify)
    kind = model.kind
    examples: Any = TEXTS[:6]
    if kind in (PICTURE, JOINT):
        data = "digits" if kind is PICTURE else "scenes"
        examples = kind.read(data, config_of(run), 6).examples
    health(run)
    return [*numbers(model, examples), *written(model, examples)]


def numbers(model: LatentModel, examples: Any) -> list[Any]:
    """Terms and posteriors as lists."""
    terms, posterior = model.terms(examples), model.encode(examples)
    return [t.tolist() for t in (terms.reconstruction, terms.kl, *posterior.tensors)]


def written(model: LatentModel, examples: Any) -> list[Any]:
    """What the means decode to: captions and the values of pictures."""
    made = [Example.of(one) for one in model.decode(model.encode(examples).mean)]
    return [(one.caption, None if one.picture is None else one.picture.tolist()) for one in made]


def child(run: Path, verify: bool, report: Path) -> None:
    """Load a run in this process and write what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.alarm(LONG)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        found = {"outputs": outputs(run, verify)}
    except IsthmusError as error:
        found = {"line": str(error)}
    except BaseException as error:
        found = {"traceback": f"{type(error).__name__}: {error}"[:300]}
    report.write_text(json.dumps(found), encoding="utf-8")


def outcome(run: Path, verify: bool, expected: list[Any] | None) -> tuple[str, str]:
    """What loading a run in a fork of this process comes to, and its one line."""
    report = run.with_name("report.json")
    report.unlink(missing_ok=True)
    if pid := os.fork():
        status = os.waitpid(pid, 0)[1]
        if not report.is_file():
            return "killed", f"status {status}"
    else:
        child(run, verify, report)
        os._exit(0)
    found = json.loads(report.read_text(encoding="utf-8"))
    if "traceback" in found:
        return "traceback", found["traceback"]
    if "line" in found:
        return ("one line" if "\n" not in found["line"] else "traceback"), found["line"]
    if expected is None:
        return "outputs", json.dumps(found["outputs"])
    if found["outputs"] == expected:
        return "same outputs", ""
    return ("silently wrong" if verify else "other outputs, not verified"), ""


def make_sizes_right(run: Path) -> None:
    """Write the sizes of a run's files into its run.json, if it still has a table of them."""
    path = run / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["files"] = {name: (run / name).stat().st_size for name in record["files"]}
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError):
        return
    path.write_text(json.dumps(record), encoding="utf-8")


def damaged(place: Path, cases: int, seed: int) -> dict[str, Any]:
    """Try the cases; counts by kind and outcome, and every case that is not right."""
    runs = sorted(path for path in place.iterdir() if not path.name.endswith("-other"))
    expected = {run: json.loads(outcome(run, True, None)[1]) for run in runs}
    counts: dict[str, Counter[str]] = {}
    wrong: list[dict[str, str]] = []
    copy = place / "work" / "run"
    for number in range(cases):
        for verify in (True, False):
            kinds = DAMAGE if verify else JSON_DAMAGE
            name = list(kinds)[number % len(kinds)]
            rng = random.Random(f"{seed} {number} {verify}")
            run = rng.choice(runs)
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            done = kinds[name](rng, copy, run.with_name(f"{run.name}-other"))
            if not verify:
                make_sizes_right(copy)
            result, line = outcome(copy, verify, expected[run])
            kind = name if verify else f"{name}, not verified"
            counts.setdefault(kind, Counter())[result] += 1
            if result in ("traceback", "killed", "silently wrong"):
                wrong.append(
                    {
                        "run": run.name,
                        "kind": kind,
                        "damage": done,
                        "outcome": result,
                        "line": line,
                    }
                )
                print(wrong[-1], flush=True)
    return {"cases": counts, "wrong": wrong}


def timed(place: Path) -> dict[str, Any]:
    """Seconds of loading with and without verification, in turn, of three runs."""
    for name, width in LARGE.items():
        part = {"hidden_size": width, "layers": 6, "heads": 8}
        settings = settings_of("demo", {"model": {"encoder": part, "decoder": part}})
        bundle.save(build(settings, TEXTS, [None] * len(TEXTS)), place / name, {})
    with suppress(PermissionError):  # other processes must not count
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    found = {}
    for run in (place / name for name in ("shipped", *LARGE)):
        seconds: dict[bool, list[float]] = {True: [], False: []}
        isthmus.load(run)
        for number in range(PAIRS):
            for verify in (number % 2 == 0, number % 2 == 1):
                before = time.perf_counter()
                isthmus.load(run, verify)
                seconds[verify].append(time.perf_counter() - before)
        medians = {verify: statistics.median(each) for verify, each in seconds.items()}
        found[run.name] = {
            "bytes": (run / WEIGHTS).stat().st_size,
            "verified": medians[True],
            "not_verified": medians[False],
            "ratio": medians[True] / medians[False],
            "ratio_of_pairs": statistics.median(
                one / two for one, two in zip(seconds[True], seconds[False], strict=True)
            ),
            "pairs": PAIRS,
        }
        print(run.name, found[run.name], flush=True)
    return found


def report(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    names = ("one line", "same outputs", "silently wrong", "traceback", "killed")
    names += ("other outputs, not verified",)
    cases = ((kind, *(c.get(name, 0) for name in names)) for kind, c in record["cases"].items())
    loading = (
        (
            name,
            f"{t['bytes'] / 1e6:.1f}",
            *(f"{t[key]:.3f}" for key in ("verified", "not_verified")),
            *(f"{t[key]:.2f}" for key in ("ratio", "ratio_of_pairs")),
        )
        for name, t in record["loading"].items()
    )
    head = ("run", "MB", "loading, s", "without verification, s", "ratio", "median ratio of pairs")
    lines = [
        f"`benchmarks/damage.py`, {record['number']} damaged runs, seed {record['seed']}.",
        "",
        *table(("damage", *names), cases),
        "",
        f"Seconds are medians of {PAIRS} pairs in turn, files in memory, before other processes. "
        "Loading maps a file into memory, and SHA-256 reads it beside that at 1.5 GB/s: large "
        "runs wait for it.",
        "",
        *table(head, loading),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Damage, load, time, write the results."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a fork has no threads but its own
    one_thread()
    words = [int(word) for word in sys.argv[1:]]
    cases, seed = (words + [400, 0][len(words) :])[:2]
    with TemporaryDirectory() as folder:
        make_runs(Path(folder) / "runs")
        found = damaged(Path(folder) / "runs", cases, seed)
        record = {
            "seed": seed,
            "number": sum(map(sum, (c.values() for c in found["cases"].values()))),
        }
        record |= found | {"loading": timed(Path(folder) / "runs"), **circumstances()}
    write_json(record, RESULTS / "damage.json")
    write_text("damage", report(record))


if __name__ == "__main__":
    main()
