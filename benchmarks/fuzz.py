"""Fuzzing of everything that reads: files, run directories, the command line, the studio.

Each input is a function of (seed, target, number). Two oracles: no exception but `IsthmusError`
(the command line: an exit code and no traceback), and of files that were written from known rows
none is lost or altered. All of it runs in this process.

    python benchmarks/fuzz.py --inputs 50000 --seed 1 --write   # results/fuzz.json, fuzz.md
    python benchmarks/fuzz.py --seconds 120                     # as in continuous integration
    python benchmarks/fuzz.py --only tables --number 17         # one input again
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import ValidationError

import fuzz_files as files
from common import one_thread, read, table, write
from fuzz_bodies import Bodies
from isthmus import cli
from isthmus.commands.space import read_latents
from isthmus.data import captioned, corpus, pictures
from isthmus.errors import IsthmusError
from isthmus.published.printed import read_table
from isthmus.runs import bundle
from isthmus.settings import load_recipe
from isthmus.signs.inscriptions import read as read_signs

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / part) for part in ("", "studio")]
from tiny_runs import SYSTEMS, record  # noqa: E402

from tiny import system  # noqa: E402

NUMBERS = ["-1", "0", "1", "2", "3", "1.5", "nan", "", "x", "-x", "1e-9", "٣"]


class Lost(Exception):
    """Rows that came back otherwise than they were written."""


def same(found: object, expected: object) -> None:
    """Compare what was read with what was written."""
    if found != expected:
        raise Lost(f"got {found!r:.300}, expected {expected!r:.300}")


def tables(draw: random.Random, place: Path) -> None:
    """Texts and labels in a form that says what its columns are."""
    given = files.table(draw, place)
    found = corpus.read(str(given.path))
    same((found.texts, found.labels), (given.texts, given.labels))


def bare_tables(draw: random.Random, place: Path) -> None:
    """The same without a header: refused, or read to the row."""
    given = files.table(draw, place, header=False)
    try:
        found = corpus.read(str(given.path))
    except IsthmusError:
        return
    same((found.texts, found.labels), (given.texts, given.labels))


def damaged_tables(draw: random.Random, place: Path) -> None:
    """The same, damaged."""
    given = files.table(draw, place, header=draw.random() < 0.5)
    files.damage(draw, given.path)
    reader = draw.choice((corpus.read, corpus.read_splits, captioned.read))
    reader(str(given.path))


def splits(draw: random.Random, place: Path) -> None:
    """Folders with splits under any of their names."""
    expected = files.split_folder(draw, place)
    found = corpus.read_splits(str(place))
    same(found.train.texts, expected["train"])
    same(found.valid.texts, expected["valid"])
    same(found.test.texts if found.test else None, expected.get("test"))


def arrays(draw: random.Random, place: Path) -> None:
    """Pictures in an .npz file, of every type of number."""
    path, expected = files.array_file(draw, place)
    for split, (levels, labels) in expected.items():
        found = pictures.read(str(path), split=split)
        same(found.pictures.tolist(), levels.tolist())
        same(found.labels, labels)


def damaged_arrays(draw: random.Random, place: Path) -> None:
    """The same, damaged; read as pictures, with captions, as signs and as latents."""
    path, _ = files.array_file(draw, place)
    files.damage(draw, path)
    draw.choice((pictures.read, pictures.read_splits, captioned.read, read_signs, read_latents))(
        str(path)
    )


def folders(draw: random.Random, place: Path) -> None:
    """Folders of pictures with captions, perhaps in folders of labels."""
    expected = files.picture_folder(draw, place)
    found = captioned.read(str(place))
    same(sorted((e.caption or "", e.label or "") for e in found.examples), sorted(expected))


def damaged_folders(draw: random.Random, place: Path) -> None:
    """The same with damaged files in it."""
    files.picture_folder(draw, place)
    for path in draw.sample(sorted(p for p in place.rglob("*") if p.is_file()), 2):
        files.damage(draw, path)
    draw.choice((pictures.read, pictures.read_splits, captioned.read, captioned.read_splits))(
        str(place)
    )


def signs(draw: random.Random, place: Path) -> None:
    """Folders of glyphs in their order."""
    tokens = files.sign_folder(draw, place)
    damaged = draw.random() < 0.5
    if damaged:
        files.damage(draw, draw.choice(sorted(place.iterdir())))
    found = read_signs(str(place))
    if not damaged:
        same(len(found.tokens), tokens)


def others(draw: random.Random, place: Path) -> None:
    """Recipes, latents and published tables, damaged."""
    kind, path = files.other_file(draw, place)
    files.damage(draw, path)
    if kind == "table":
        read_table(path.read_text("utf-8", "replace"), "table")
    else:
        {"recipe": load_recipe, "latents": read_latents}[kind](str(path))


class Runs:
    """Tiny runs of several kinds, and what is done with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = [name for name in SYSTEMS if name != "grid"]
        for name in self.names:
            model = system(SYSTEMS[name])
            bundle.save(model, folder / name, record(model))
        self.bodies = Bodies({name: folder / name for name in self.names})

    def damaged(self, draw: random.Random, place: Path) -> None:
        """Run directories with a damaged file."""
        shutil.copytree(self.folder / draw.choice(self.names), place / "run")
        files.damage(draw, draw.choice(sorted((place / "run").glob("*.*"))), whole=False)
        model = bundle.load(place / "run")
        if len(model.latent_shape) == 1 and model.latent_shape[0]:
            model.encode(["a b"])

    def command(self, draw: random.Random, place: Path) -> None:
        """The command line: any verb, its arguments right or wrong, data whole or damaged."""
        given = files.table(draw, place, header=draw.random() < 0.5)
        if draw.random() < 0.3:
            files.damage(draw, given.path)
        run = str(self.folder / draw.choice(self.names))
        words = files.command(draw, run, str(given.path), place, NUMBERS)
        before, out, err = sys.stdin, StringIO(), StringIO()
        sys.stdin = TextIOWrapper(BytesIO(given.path.read_bytes()), encoding="utf-8")
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = cli.main(words)
        finally:
            sys.stdin = before
        last = err.getvalue().strip().splitlines()[-1:]
        if code not in (0, 1, 2) or (code == 1 and not last[0].startswith("isthmus: ")):
            raise Lost(f"{words}: exit code {code}, last line {last}")

    def body(self, draw: random.Random, place: Path) -> None:
        """Bodies of the studio's requests."""
        self.bodies.answer(draw)


def targets(runs: Runs) -> dict[str, tuple[int, Callable[[random.Random, Path], None]]]:
    """Name → its share of the inputs in per cent, and the function that makes and tries one."""
    return {
        "tables": (26, tables),
        "tables without a header": (10, bare_tables),
        "damaged tables": (24, damaged_tables),
        "splits of a folder": (3, splits),
        "arrays": (8, arrays),
        "damaged arrays": (10, damaged_arrays),
        "folders of pictures": (2, folders),
        "damaged folders of pictures": (3, damaged_folders),
        "signs": (2, signs),
        "recipes, latents, tables": (4, others),
        "damaged run directories": (2, runs.damaged),
        "command line": (2, runs.command),
        "studio": (4, runs.body),
    }


def tried(
    make: Callable[[random.Random, Path], None], name: str, seed: int, number: int, place: Path
) -> str:
    """Try one input: "read", "refused", or the traceback of what should not have happened."""
    draw = random.Random(f"{seed}/{name}/{number}")
    torch.manual_seed(number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        make(draw, place)
    except (IsthmusError, ValidationError):
        return "refused"
    except SystemExit:
        return "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return traceback.format_exc()
    return "read"


def main() -> int:
    """Fuzz until a budget is used up; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--number", type=int, default=-1)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    one_thread()
    start, counts, failures = time.monotonic(), Counter[tuple[str, str]](), []
    with TemporaryDirectory() as scratch:
        known = targets(Runs(Path(scratch) / "runs"))
        schedule, numbers = random.Random(asked.seed), Counter[str]()
        names, shares = list(known), [share for share, _ in known.values()]
        while not (asked.inputs and counts.total() >= asked.inputs):
            if asked.seconds and time.monotonic() - start > asked.seconds:
                break
            name = asked.only or schedule.choices(names, shares)[0]
            number = numbers[name] if asked.number < 0 else asked.number
            numbers[name] += 1
            end = tried(known[name][1], name, asked.seed, number, Path(scratch) / "input")
            good = end in ("read", "refused")
            counts[name, end if good else "failed"] += 1
            if not good:
                failures.append({"target": name, "number": number, "error": end})
                print(f"--seed {asked.seed} --only {name!r} --number {number}\n{end}", flush=True)
            if asked.number >= 0:
                break
    rows = [
        {"target": name, **{end: counts[name, end] for end in ("read", "refused", "failed")}}
        for name in known
    ]
    total, seconds = counts.total(), time.monotonic() - start
    for row in rows:
        print(*row.values(), sep="\t")
    print(f"{total:,} inputs in {seconds:.0f} s, seed {asked.seed}: {len(failures)} failures")
    if asked.write:
        report(asked.seed, {"seconds": seconds, "failures": failures, "targets": rows})
    return bool(failures)


def report(seed: int, result: dict[str, Any]) -> None:
    """Write the result beside those of other seeds, and a table of all of them."""
    seeds: dict[str, Any] = {**(read("fuzz") or {}).get("seeds", {}), str(seed): result}
    ends = ("read", "refused", "failed")
    sums: dict[str, Counter[str]] = {}
    for one in seeds.values():
        for row in one["targets"]:
            sums.setdefault(row["target"], Counter()).update({end: row[end] for end in ends})
    total = sum(row.total() for row in sums.values())
    text = (
        f"{total:,} inputs, seeds {', '.join(seeds)}, one thread each "
        "(`python benchmarks/fuzz.py --inputs N --seed S --write`). A failure is an exception "
        "other than the one-line error, or a row that was lost or altered.\n\n"
    )
    rows = [(name, *(f"{row[end]:,}" for end in ends)) for name, row in sums.items()]
    head = ("what", "read or answered", "refused in one line", "failed")
    write("fuzz", {"inputs": total, "seeds": seeds}, text + "\n".join(table(head, rows)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
