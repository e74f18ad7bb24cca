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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import isthmus
from common import RESULTS, one_thread, settings_of
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

WEIGHTS = "model.safetensors"
JSON = ("config.json", "tokenizer.json", "tokenizer_config.json", "run.json")
MEMORY = 16 << 30
LONG = 120
PAIRS = 16
TEXTS = [sentence.text for sentence in scenes.generate("train", 200)]
WORDS = {"tokenizer": "bpe", "vocabulary_size": 320, "maximum_length": 40}
SIZE = {"architecture": "gpt2", "hidden_size": 32, "layers": 1}
LARGE = {"150 MB": 512, "540 MB": 960}
"""Run to time → width of its six layers in the encoder and in the decoder."""
ODD: list[Any] = [None, True, -1, 0, 3, 1e-3, 10**30, float("nan"), "", "word", [], [None], {}]
EXTRA = {
    "notes.txt": "mine",
    ".gitattributes": "*.safetensors filter=lfs",
    "special_tokens_map.json": '{"unk_token": "a", "pad_token": "the"}',
    "adapter_config.json": '{"peft_type": "LORA"}',
    "added_tokens.json": '{"red": 3}',
    "vocab.txt": "a\nb\n",
    "model-00001-of-00002.safetensors": "",
    "pytorch_model.bin": "x",
}
Damage = Callable[[random.Random, Path, Path], str]
"""Damages a copy of a run, given another run of the same form; returns what it did."""


def flip(rng: random.Random, path: Path, first: int, last: int) -> str:
    """Flip one bit of a file, in a range of its bytes."""
    content = bytearray(path.read_bytes())
    place, bit = rng.randrange(first, min(last, len(content))), rng.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.name}: bit {bit} of byte {place}"


def header(run: Path) -> int:
    """Where the body of the weights begins."""
    with (run / WEIGHTS).open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def any_file(rng: random.Random, run: Path) -> Path:
    """One of the files that loading reads."""
    files = [p for p in run.rglob("*") if p.is_file() and p.suffix in (".json", ".safetensors")]
    return rng.choice(sorted(files))


def truncated(rng: random.Random, run: Path, _: Path) -> str:
    """Cut a file anywhere."""
    path = any_file(rng, run)
    length = rng.randrange(1, path.stat().st_size)
    os.truncate(path, length)
    return f"{path.name}: cut to {length} bytes"


def emptied(rng: random.Random, run: Path, _: Path) -> str:
    """Cut a file to nothing."""
    path = any_file(rng, run)
    os.truncate(path, 0)
    return f"{path.name}: empty"


def removed(rng: random.Random, run: Path, _: Path) -> str:
    """Remove a file."""
    path = any_file(rng, run)
    path.unlink()
    return f"{path.name}: removed"


def of_another_run(rng: random.Random, run: Path, other: Path) -> str:
    """Take another run's file of the same form."""
    path = any_file(rng, run)
    theirs = other / path.relative_to(run)
    if theirs.read_bytes() == path.read_bytes():
        path, theirs = run / WEIGHTS, other / WEIGHTS
    shutil.copyfile(theirs, path)
    return f"{path.name}: of another run"


def with_tensors(run: Path, change: Callable[[dict[str, torch.Tensor]], str]) -> str:
    """Change tensors in a file of the same length."""
    tensors = load_file(run / WEIGHTS)
    done = change(tensors)
    save_file(tensors, run / WEIGHTS, {"format": "pt"})
    return done


def swapped(rng: random.Random, run: Path, _: Path) -> str:
    """Exchange two tensors of one shape."""

    def change(tensors: dict[str, torch.Tensor]) -> str:
        pairs = [
            (one, two)
            for one in tensors
            for two in tensors
            if one < two
            and tensors[one].shape == tensors[two].shape
            and not torch.equal(tensors[one], tensors[two])
        ]
        one, two = rng.choice(pairs)
        tensors[one], tensors[two] = tensors[two], tensors[one]
        return f"{one} and {two} exchanged"

    return with_tensors(run, change)


def not_finite(rng: random.Random, run: Path, _: Path) -> str:
    """Make one number NaN or infinite."""

    def change(tensors: dict[str, torch.Tensor]) -> str:
        name = rng.choice(sorted(tensors))
        value = rng.choice([float("nan"), float("inf"), -float("inf")])
        flat = tensors[name].view(-1)
        flat[rng.randrange(len(flat))] = value
        return f"{name}: {value}"

    return with_tensors(run, change)


def json_file(rng: random.Random, run: Path) -> Path:
    """One of the JSON files."""
    return rng.choice(sorted(path for path in run.rglob("*.json") if path.name in JSON))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in JSON, tables and lists included; of long ones the first 40."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())[:40]
    elif isinstance(value, list):
        items = list(enumerate(value))[:40]
    own = [path] if path else []
    return own + [place for key, inner in items for place in leaves(inner, (*path, key))]


def value_changed(rng: random.Random, run: Path, _: Path) -> str:
    """Give a setting another value, of another type or size, or remove it."""
    path = json_file(rng, run)
    content = json.loads(path.read_text(encoding="utf-8"))
    place = rng.choice(leaves(content))
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    removing = rng.random() < 0.25
    old, new = inner[place[-1]], rng.choice(ODD)
    if removing:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    what = "removed" if removing else f"{str(old)[:30]} → {new}"
    return f"{path.name}: {'.'.join(map(str, place))} {what}"


def bytes_changed(rng: random.Random, run: Path, _: Path) -> str:
    """Change a byte of a JSON file to any other."""
    path = json_file(rng, run)
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    content[place] = rng.choice([byte for byte in range(256) if byte != content[place]])
    path.write_bytes(content)
    return f"{path.name}: byte {place} is {content[place]}"


def json_cut(rng: random.Random, run: Path, _: Path) -> str:
    """Cut a JSON file, or put other JSON in its place."""
    path = json_file(rng, run)
    if rng.random() < 0.6:
        os.truncate(path, rng.randrange(path.stat().st_size))
        return f"{path.name}: cut to {path.stat().st_size} bytes"
    content = rng.choice(["null", "[]", "{}", "3", "[" * 200_000, '{"a": ' * 200_000, "\x00"])
    path.write_text(content, encoding="utf-8")
    return f"{path.name}: {content[:6]}"


def extra_file(rng: random.Random, run: Path, _: Path) -> str:
    """Add a file that is none of the run's."""
    name = rng.choice(sorted(EXTRA))
    folders = [run, *(path for path in run.iterdir() if path.is_dir())]
    path = rng.choice(folders) / name
    path.write_text(EXTRA[name], encoding="utf-8")
    return f"{path.relative_to(run)}: added"


def tokenizers_exchanged(rng: random.Random, run: Path, other: Path) -> str:
    """Exchange a file of the encoder's tokenizer with the decoder's."""
    inner = run / bundle.ENCODER_TOKENIZER / "tokenizer.json"
    if not inner.is_file():
        return of_another_run(rng, run, other)
    one, two = inner.read_bytes(), (run / "tokenizer.json").read_bytes()
    inner.write_bytes(two)
    (run / "tokenizer.json").write_bytes(one)
    return "the two tokenizers exchanged"


JSON_DAMAGE: dict[str, Damage] = {
    "JSON: a value": value_changed,
    "JSON: a byte": bytes_changed,
    "JSON: cut or other": json_cut,
}
DAMAGE: dict[str, Damage] = {
    "bit of the body": lambda rng, run, _: flip(rng, run / WEIGHTS, header(run), 1 << 40),
    "bit of the header": lambda rng, run, _: flip(rng, run / WEIGHTS, 0, header(run)),
    "bit of a JSON file": lambda rng, run, _: flip(rng, json_file(rng, run), 0, 1 << 40),
    "truncated": truncated,
    "empty": emptied,
    "missing": removed,
    "tensors exchanged": swapped,
    "NaN or infinity": not_finite,
    "another run's file": of_another_run,
    "extra file": extra_file,
    "tokenizers exchanged": tokenizers_exchanged,
    **JSON_DAMAGE,
}


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


def table(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    names = (
        "one line",
        "same outputs",
        "silently wrong",
        "traceback",
        "killed",
        "other outputs, not verified",
    )
    lines = [
        f"`benchmarks/damage.py`, {record['number']} damaged runs, seed {record['seed']}.",
        "",
        "| damage | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
        *(
            f"| {kind} | " + " | ".join(str(counts.get(name, 0)) for name in names) + " |"
            for kind, counts in record["cases"].items()
        ),
        "",
        f"Seconds are medians of {PAIRS} pairs in turn, files in memory, before other processes. "
        "Loading maps a file into memory, and SHA-256 reads it beside that at 1.5 GB/s: large "
        "runs wait for it.",
        "",
        "| run | MB | loading, s | without verification, s | ratio | median ratio of pairs |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {t['bytes'] / 1e6:.1f} | {t['verified']:.3f} | {t['not_verified']:.3f} | "
            f"{t['ratio']:.2f} | {t['ratio_of_pairs']:.2f} |"
            for name, t in record["loading"].items()
        ),
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
    (RESULTS / "damage.md").write_text(table(record), encoding="utf-8")
    print(table(record))


if __name__ == "__main__":
    main()
