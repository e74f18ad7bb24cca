"""Files of known rows in every form that Isthmus reads, and how to damage them; for fuzz.py."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

NASTY = [
    *('"', "'", ",", ";", "|", "\\", "#", "=", "[/b]", "{", "<b>", "%s", "{0}", "\u2028", "\x85"),
    *("\x0b", "\x1f", "\u200b", "\ufeff", "é", "猫", "🎉", "\u202e", "e\u0301", " ", "  ", "null"),
]
BREAKS = ["\n", "\r\n", "\r", "\t"]
LABELS = [
    *("good", "bad", "1", "0", "-1", "5.0", "rating=1", "[/b]", "two words", "é/ü", "a,b", 'x"y'),
    *("None of them", "Sci/Tech", "=", "#1", "true", "0.5"),
]
TEXT_NAMES = ["text", "Text", " TEXT ", "sentence", "review_text", "Tweet"]
OTHER = ["id", "user id", "Unnamed: 0", "score", "Größe", ""]
TOKENS = [
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\n", b"\r", b"\t", b",", b"{", b"}", b"[" * 50),
    *(
        b"NaN",
        b"1e999",
        b"-1",
        b"null",
        b"9" * 30,
        b"\xed\xa0\x80",
        b"\\ud800",
        b"PK",
        b"\x1f\x8b",
    ),
]


class Given(NamedTuple):
    """A file, and what it holds."""

    path: Path
    texts: list[str]
    labels: list[str] | None


def text(draw: random.Random, breaks: bool = False) -> str:
    """A text that is not blank."""
    pool = NASTY + (BREAKS if breaks else [])
    words = [
        draw.choice(string.ascii_letters) * draw.randint(1, 3) for _ in range(draw.randint(1, 6))
    ]
    words += [draw.choice(pool) for _ in range(draw.choice((0, 0, 1, 3)))]
    draw.shuffle(words)
    found = draw.choice((" ", "")).join(words)
    return found if found.strip() and not found.startswith("\ufeff") else "x" + found


def clean(label: str) -> str:
    """How a label is read, written independently of the reader."""
    label = label.strip()
    whole, point, rest = label.partition(".")
    return whole if point and rest == "0" and whole.lstrip("-").isdigit() else label


def table(draw: random.Random, place: Path, header: bool = True) -> Given:
    """A file of texts in one of the forms, with or without labels."""
    form = draw.choice(("txt", "tsv", "csv", "csv", "jsonl", "parquet"))
    count = draw.choice((1, 2, 3, 5, 20))
    texts = [text(draw, form in ("csv", "jsonl", "parquet")) for _ in range(count)]
    labels: list[str] | None = None
    if form != "txt" and draw.random() < 0.7:
        few = draw.sample(LABELS, draw.randint(1, 4))
        labels = [draw.choice(few) for _ in range(count)]
    if form in ("tsv",):
        texts = [one.replace("\t", " ") for one in texts]
    made = {"txt": _txt, "tsv": _tsv, "csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
    content = made[form](draw, texts, labels, header)
    compressed = draw.random() < 0.1
    if form != "parquet" and draw.random() < 0.2:
        content = b"\xef\xbb\xbf" + content
    path = place / f"data.{form}{'.gz' if compressed else ''}"
    path.write_bytes(gzip.compress(content, 1) if compressed else content)
    return Given(path, texts, labels and [clean(label) for label in labels])


def _lines(draw: random.Random, lines: Sequence[str]) -> bytes:
    end = draw.choice(("\n", "\n", "\r\n"))
    return (end.join(lines) + draw.choice((end, ""))).encode()


def _txt(draw: random.Random, texts: list[str], labels: list[str] | None, header: bool) -> bytes:
    return _lines(draw, texts)


def _cells(
    draw: random.Random, texts: list[str], labels: list[str] | None, header: bool
) -> list[list[str]]:
    """Rows of a table: label first without a header, any order with one."""
    padded = labels and [draw.choice((label, label, f" {label} ")) for label in labels]
    columns = [["label" if header else "", *padded]] if padded else []
    columns.append([draw.choice(TEXT_NAMES) if header else "", *texts])
    if header:
        for name in draw.sample(OTHER, draw.choice((0, 0, 1, 2))):
            # Of two columns the other one is the label, unless it is an id.
            if len(columns) > 1 or name in ("id", "user id", "Unnamed: 0"):
                columns.append([name, *(str(n) for n in range(len(texts)))])
        draw.shuffle(columns)
    rows = [list(row) for row in zip(*columns, strict=True)]
    return rows if header else rows[1:]


def _tsv(draw: random.Random, texts: list[str], labels: list[str] | None, header: bool) -> bytes:
    return _lines(draw, ["\t".join(row) for row in _cells(draw, texts, labels, header)])


def _csv(draw: random.Random, texts: list[str], labels: list[str] | None, header: bool) -> bytes:
    rows = _cells(draw, texts, labels, header)
    # A mark of its own needs a header of two columns that shows it.
    mark = draw.choice(",,;\t|") if header and len(rows[0]) > 1 else ","
    buffer = io.StringIO(newline="")
    # Python's own writer leaves a lone carriage return without quotation marks.
    lone = any("\r" in cell for row in rows for cell in row)
    quoting = csv.QUOTE_ALL if lone else draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    end = draw.choice(("\n", "\r\n"))
    csv.writer(buffer, delimiter=mark, quoting=quoting, lineterminator=end).writerows(rows)
    return buffer.getvalue().encode()


def _jsonl(draw: random.Random, texts: list[str], labels: list[str] | None, header: bool) -> bytes:
    name = draw.choice(TEXT_NAMES)
    space = draw.choice(((", ", ": "), (",", ":"), (" , ", " : ")))
    lines = []
    for number, one in enumerate(texts):
        record: dict[str, object] = {name: one}
        if labels:
            label = labels[number]
            number_like = label.lstrip("-").replace(".", "", 1).isdigit()
            record["label"] = json.loads(label) if number_like and draw.random() < 0.5 else label
        if draw.random() < 0.3:
            record["meta"] = draw.choice((None, [1], {"text": "no"}, 10**30, True))
        keys = draw.sample(list(record), len(record))
        ascii_only = draw.random() < 0.5
        lines.append(
            json.dumps({k: record[k] for k in keys}, ensure_ascii=ascii_only, separators=space)
        )
    return _lines(draw, lines)


def _parquet(
    draw: random.Random, texts: list[str], labels: list[str] | None, header: bool
) -> bytes:
    sink = pyarrow.BufferOutputStream()
    columns: dict[str, object] = {draw.choice(TEXT_NAMES): texts}
    if labels:
        columns["label"] = (
            pyarrow.array(labels).dictionary_encode() if draw.random() < 0.5 else labels
        )
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()


def damage(draw: random.Random, path: Path, whole: bool = True) -> None:
    """Change the bytes of a file in one to four places; or cut, empty or replace it."""
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(content) + 1)
        end = min(len(content), at + draw.choice((1, 1, 4, 40)))
        kind = draw.randrange(7 if whole else 6)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del content[at:end]
        elif kind == 2:
            content[at:at] = draw.choice(TOKENS)
        elif kind == 3:
            content[at:end] = draw.choice(TOKENS)
        elif kind == 4:
            content[at:at] = content[at:end]
        elif kind == 5:
            content[at:end] = draw.randbytes(end - at)
        else:
            content = content[:at]
    path.write_bytes(content)


def split_folder(draw: random.Random, place: Path) -> dict[str, list[str]]:
    """A folder of splits in files, numbered files or folders, under any of their names."""
    names = {"train": ("train", "training"), "valid": ("valid", "val", "validation", "dev"),
             "test": ("test", "testing")}  # fmt: skip
    expected = {}
    for split in ("train", "valid", "test")[: draw.randint(2, 3)]:
        name = draw.choice(names[split])
        name = draw.choice((name, name.title(), name.upper()))
        texts = [text(draw) for _ in range(draw.randint(2, 12))]
        parts = draw.choice((1, 2, 11)) if len(texts) >= 11 else 1
        bounds = [len(texts) * n // parts for n in range(parts + 1)]
        form = draw.choice((f"{{}}-{{:05}}-of-{parts:05}.txt", "{}_{}.txt", "{}/part{}.txt"))
        for number in range(parts):
            path = place / (form if parts > 1 else draw.choice((form, "{}.txt"))).format(
                name, number
            )
            path.parent.mkdir(exist_ok=True)
            part = texts[bounds[number] : bounds[number + 1]]
            path.write_bytes(_lines(draw, part))
        expected[split] = texts
    if draw.random() < 0.3:
        (place / "README.md").write_text("x")
    return expected


def array_file(
    draw: random.Random, place: Path
) -> tuple[Path, dict[str, tuple[np.ndarray, list[str] | None]]]:
    """An .npz file of pictures; split → their levels, and their labels."""
    count, side, channels = draw.randint(1, 6), draw.randint(1, 7), draw.choice((1, 1, 3))
    levels = np.random.default_rng(draw.randrange(2**32)).integers(
        0, 256, (count, channels, side, 5)
    )
    binary = draw.random() < 0.3
    if binary:
        levels = (levels > 127) * 255
    levels[0, 0, 0, :2] = 255, 0
    kinds = {
        "u1": levels.astype(np.uint8), "i8": levels, "f4": (levels / 255).astype(np.float32),
        "f8": levels / 255, "u2": (levels * 257).astype(np.uint16),
    }  # fmt: skip
    if binary:
        kinds |= {
            "b1": levels > 0,
            "01": (levels > 0).astype(draw.choice(("u1", "i4", "u2", "i8"))),
        }
    values = kinds[draw.choice(list(kinds))]
    last = draw.random() < 0.5 or channels not in (1, 3)
    stored = np.moveaxis(values, 1, -1) if last and 5 not in (1, 3) else values
    if channels == 1 and draw.random() < 0.5:
        stored = values[:, 0]
    if stored.ndim == 4 and stored.shape[3] not in (1, 3):
        stored = np.moveaxis(values, 1, -1)
    known = [clean(draw.choice(LABELS)) for _ in range(count)] if draw.random() < 0.6 else None
    arrays, expected = {}, {}
    forms = [("{}_x", "{}_y"), ("x_{}", "y_{}"), ("{}_images", "{}_labels")]
    x, y = draw.choice(forms)
    given = {"train": "train", "valid": draw.choice(("valid", "val")), "test": "test"}
    for split in ["train", "valid", "test"][: draw.randint(1, 3)]:
        arrays[x.format(given[split])] = stored
        if known:
            labels = np.array(known)
            arrays[y.format(given[split])] = labels[:, None] if draw.random() < 0.3 else labels
        expected[split] = levels, known
    if draw.random() < 0.3:
        arrays, expected = (
            {"images": stored, "label": np.array(known or ["a"] * count)},
            {"train": (levels, known or ["a"] * count)},
        )
        if draw.random() < 0.5:
            arrays["captions"] = np.array([text(draw) for _ in range(count)])
    path = place / "x.npz"
    (np.savez_compressed if draw.random() < 0.5 else np.savez)(path, **arrays)
    return path, expected


def picture_folder(draw: random.Random, place: Path) -> list[tuple[str, str]]:
    """A folder of pictures with captions; the caption and the label of every example."""
    labels = draw.sample(["cat", "dog", "a b", "é"], 2) if draw.random() < 0.5 else [""]
    lines, expected = [], []
    noise = np.random.default_rng(draw.randrange(2**32))
    for number in range(draw.randint(2, 5)):
        label = draw.choice(labels)
        path = place / label / f"{number}.{draw.choice(('png', 'jpg', 'bmp', 'tif'))}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)
        captions = [" ".join(text(draw).split()) for _ in range(draw.choice((0, 1, 2)))]
        captions = [caption for caption in captions if caption]
        name = path.relative_to(place).as_posix()
        lines += [f"{name}\t{caption}" for caption in captions]
        expected += [(caption, label) for caption in captions or [""]]
    if draw.random() < 0.5:
        lines.append("\talone\tcat")
        expected.append(("alone", "cat"))
    draw.shuffle(lines)
    (place / "captions.tsv").write_bytes(_lines(draw, lines))
    return expected


def sign_folder(draw: random.Random, place: Path) -> int:
    """A folder of glyphs with their order; the number of tokens."""
    noise = np.random.default_rng(draw.randrange(2**32))
    stems = [f"s{n}" for n in range(draw.randint(2, 4))]
    for stem in stems:
        glyph = np.full((9, 9), 255, np.uint8)
        glyph[2:7, 2:7] = noise.integers(0, 120, (5, 5))
        Image.fromarray(glyph).save(place / f"{stem}.png")
    words = [[draw.choice(stems) for _ in range(draw.randint(1, 4))] for _ in range(3)]
    name = draw.choice(("order.txt", "transliteration.txt"))
    (place / name).write_bytes(_lines(draw, [" ".join(line) for line in words]))
    if name == "order.txt" and draw.random() < 0.5:
        (place / "names.tsv").write_bytes(_lines(draw, [f"{stem}\tN{stem}" for stem in stems]))
    return sum(map(len, words))


RECIPES = Path(__file__).parents[1] / "src" / "isthmus" / "recipes"


def other_file(draw: random.Random, place: Path) -> tuple[str, Path]:
    """A recipe, latents or a published table."""
    kind = draw.choice(("recipe", "latents", "table"))
    if kind == "recipe":
        path = place / "recipe.toml"
        path.write_bytes(draw.choice(sorted(RECIPES.glob("*.toml"))).read_bytes())
    elif kind == "latents" and draw.random() < 0.5:
        path = place / "z.npz"
        np.savez(path, mean=np.zeros((3, 2), np.float32))
    elif kind == "latents":
        path = place / "z.jsonl"
        path.write_text('{"text": "a", "mean": [0.5, 1e-3]}\n{"z": [1, 2]}\n'.replace("z", "mean"))
    else:
        path = place / "table.csv"
        path.write_text(
            "model,-ELBO,KL,Rec,PPL,MI,AU\na,90.5,10.5,80.0,30.1,9.1,5\nb,80,9,71,,,\n"
        )
    return kind, path


def command(
    draw: random.Random, run: str, data: str, place: Path, numbers: Sequence[str]
) -> list[str]:
    """Words of a command; some of them do not belong there."""
    words = ["one small red ball", "a b c", "b", "\n", "[/b]", "digits#0", data]
    flags = {
        "encode": ["--refine"], "decode": ["--seed"], "reconstruct": ["--limit", "--refine"],
        "sample": ["--count", "--temperature", "--top-k", "--top-p", "--beams", "--label"],
        "interpolate": ["--steps", "--path"], "analogy": ["--weight"],
        "traverse": ["--dimension", "--steps", "--reach"], "neighbours": ["--count"],
        "cluster": ["--clusters", "--method", "--seeds", "--limit", "--principal"],
        "classify": ["--limit"], "attribute": ["--samples", "--prior", "--limit"],
        "generate": ["--count", "--code", "--prompt", "--guidance", "--penalty"],
        "evaluate": ["--samples", "--subset", "--texts"], "transfer": ["--label", "--certainty"],
        "probe": ["--limit"], "report": [], "check-table": [],
        "train": ["--train.steps", "--data.limit", "--model.latent-size", "--recipe"],
    }  # fmt: skip
    verb = draw.choice(list(flags))
    before = {
        "sample": [run], "generate": [run], "interpolate": [run, *draw.choices(words, k=2)],
        "analogy": [run, *draw.choices(words, k=3)], "traverse": [run, draw.choice(words)],
        "neighbours": [run, data, draw.choice(words)], "check-table": [data], "report": [run],
        "train": [data, "--out", str(place / "run"), "--train.steps", "x"],
    }  # fmt: skip
    source = draw.choice((data, data, data, "-", str(place / "missing.txt"), run))
    made = [verb, *before.get(verb, [run, source])]
    if verb == "evaluate":
        made += ["--samples", "2", "--texts", "2"]
    if verb == "report":
        made += ["--out", str(place / "r.html")]
    for flag in draw.sample(flags[verb], draw.randint(0, min(2, len(flags[verb])))):
        pool = [*numbers, "up", "kmeans", "slerp", "uniform", "good", "demo"]
        made += [flag, draw.choice(pool)]
    if draw.random() < 0.3:
        made.append("--json")
    if draw.random() < 0.1:
        made.insert(draw.randrange(1, len(made) + 1), draw.choice(["--nonsense", "", "-h", "x y"]))
    if draw.random() < 0.1:
        del made[draw.randrange(1, len(made))]
    return made
