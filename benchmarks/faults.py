"""Ways to damage a run directory, one fault at a time; benchmarks/damage.py tries them."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from isthmus.runs.bundle import ENCODER_TOKENIZER

WEIGHTS = "model.safetensors"
JSON = ("config.json", "tokenizer.json", "tokenizer_config.json", "run.json")
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
    inner = run / ENCODER_TOKENIZER / "tokenizer.json"
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
