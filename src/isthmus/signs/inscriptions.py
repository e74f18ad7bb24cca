"""Inscriptions: pictures of signs and their order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from isthmus.data.files import read_text
from isthmus.data.pictures.arrays import load_arrays
from isthmus.errors import IsthmusError
from isthmus.signs.normalise import Picture, ink_is_one, rescale

ORDER = "order.txt"
TRANSLITERATION = "transliteration.txt"
NAMES = "names.tsv"
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp")


@final
@dataclass(frozen=True)
class Signs:
    """M pictures of signs and the order of their N tokens."""

    pictures: Picture
    """[M 64 64] in [0, 1], ink is 1."""
    order: tuple[NDArray[np.int64], ...]
    """Sequences of picture indices, one for each inscription or part of one without a gap."""
    files: tuple[str, ...]
    """Name of each picture's file without its suffix; all differ."""
    names: tuple[str | None, ...]
    """Working name of the sign in each picture; None if unknown."""
    source: str
    """File or folder."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason → number of pictures or tokens skipped."""
    warnings: tuple[str, ...] = ()
    """A line for each thing skipped."""

    @property
    def tokens(self) -> NDArray[np.int64]:
        """[N] picture of every token, in order."""
        return np.concatenate([*self.order, np.zeros(0, dtype=np.int64)])

    @property
    def counts(self) -> NDArray[np.int64]:
        """[M] tokens of each picture."""
        return np.bincount(self.tokens, minlength=len(self.pictures))

    def types(self, fold_variants: bool = False) -> list[str] | None:
        """The type of each picture, variants folded by :func:`base`; None if a name is missing."""
        named = [name for name in self.names if name is not None]
        if len(named) < len(self.names):
            return None
        return [base(name) for name in named] if fold_variants else named

    def report(self) -> str:
        """What was read and skipped, in one line."""
        types = len(set(self.names) - {None})
        left_out = "".join(f", {count:,} {reason}" for reason, count in self.skipped.items())
        return (
            f"{self.source}: {len(self.pictures):,} pictures, {types:,} names, "
            f"{len(self.tokens):,} tokens in {len(self.order):,} sequences{left_out}"
        )


def name_of(path: str) -> str:
    """The sign's name in a file name: CCC of imgCCC-SSS.png (Chars74K), else its stem."""
    stem = Path(path).stem
    found = re.fullmatch(r"img(\d+)-\d+", stem)
    return found[1] if found else stem


def base(name: str) -> str:
    """A sign's name without the letters of its variant: M157-A → M157.

    Only the last part of a compound is folded (M157-A+M131-B → M157-A+M131), which leaves 496
    types for the 1,318 proto-Elamite signs.
    """
    return re.sub(r"-[A-Z]+$", "", name)


def read(data: str) -> Signs:
    """Read inscriptions from an ``.npz`` file or a folder, see the functions below.

    Raises:
        IsthmusError: It is neither, or nothing can be read from it.
    """
    path = Path(data)
    if path.is_dir():
        return read_folder(path)
    if path.suffix != ".npz" or not path.is_file():
        raise IsthmusError(
            f"{data}: expected an .npz file with ids, images and paths, or a folder of pictures "
            f"with {ORDER} or {TRANSLITERATION}"
        )
    return read_npz(path)


def read_npz(path: Path) -> Signs:
    """Read ``ids`` [N] into ``images`` [M + 1 H W] in [0, 1], whose row 0 is blank, and ``paths``.

    Raises:
        IsthmusError: The file lacks these arrays, or has no usable picture.
    """
    arrays = load_arrays(path, ("ids", "images", "paths"))
    ids, images, paths = arrays["ids"], arrays["images"], arrays["paths"]
    if (
        images.ndim != 3
        or len(paths) != len(images)
        or ids.ndim != 1
        or ids.dtype.kind not in "iu"
    ):
        raise IsthmusError(
            f"{path}: got ids {ids.dtype} {ids.shape}, images {images.shape}, paths "
            f"{paths.shape}; expected whole numbers [N], [M + 1 H W] and [M + 1]"
        )
    collected = _Collected(str(path))
    for place in range(1, len(images)):
        collected.add(str(place), str(paths[place]), name_of(str(paths[place])), images[place])
    return collected.signs([map(str, ids.tolist())])


def read_folder(folder: Path) -> Signs:
    """Read a folder of picture files with a text file of one sequence per line.

    ``order.txt`` has file names, with or without their ending; the signs' names, if known, are in
    ``names.tsv``, file TAB name. ``transliteration.txt`` has sign names instead, and NAME.png is
    the picture of the sign NAME. White space separates the words of both.

    Raises:
        IsthmusError: Not exactly one of the two files is there, no picture is usable, or the
            order names none.
    """
    there = [name for name in (ORDER, TRANSLITERATION) if (folder / name).is_file()]
    if len(there) != 1:
        raise IsthmusError(
            f"{folder}: expected {ORDER} (file names, one sequence per line) or {TRANSLITERATION} "
            f"(sign names), got {' and '.join(there) or 'neither'}"
        )
    lines = read_text(folder / there[0]).split("\n")
    given = there == [TRANSLITERATION]
    names = {} if given else _names(folder / NAMES)
    collected = _Collected(str(folder))
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES:
            name = path.stem if given else names.get(path.stem)
            collected.add(path.stem, path.name, name, _picture(path))
    return collected.signs(line.split() for line in lines if line.strip())


def _names(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    rows = [line.split("\t") for line in read_text(path).split("\n") if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise IsthmusError(
                f"{path}: row {number} has {len(row)} columns, expected file TAB name"
            )
    return {without_ending(file.strip()): name.strip() for file, name in rows}


def without_ending(file: str) -> str:
    """A picture's file name without its ending; a name with another dot stays as it is."""
    return file[: -len(ending)] if (ending := Path(file).suffix).lower() in PICTURES else file


def _picture(path: Path) -> NDArray[np.generic] | None:
    """A picture file as [H W] with ink 1 on paper 0; None if it cannot be read as one."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            coloured = image.convert("RGBA")
            paper = Image.new("RGBA", coloured.size, "white")
            grey = Image.alpha_composite(paper, coloured).convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return 1 - np.asarray(grey, dtype=np.float32) / 255


@final
class _Collected:
    """Pictures by key, while they are read."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[str, int] = {}
        self.pictures: list[Picture] = []
        self.files: list[str] = []
        self.names: list[str | None] = []
        self.skipped: Counter[str] = Counter()
        self.warnings: list[str] = []

    def add(
        self, key: str, path: str, name: str | None, values: NDArray[np.generic] | None
    ) -> None:
        """Add a picture, or record why it is skipped."""
        fault, stem = _fault(values), Path(path).stem
        if key in self.places or stem in self.files:
            fault = "another picture has the same name"
        if fault or values is None:
            self.skipped["bad pictures"] += 1
            self.warnings.append(f"{self.source}: picture {path} left out: {fault}")
            return
        self.places[key] = len(self.pictures)
        self.pictures.append(rescale(ink_is_one(values.astype(np.float32))))
        self.files.append(stem)
        self.names.append(name)

    def signs(self, lines: Iterable[Iterable[str]]) -> Signs:
        """All pictures, with the order that these lines of keys give.

        A sequence ends before a sign without a picture and a new one starts after it, because the
        signs on both sides of a gap are not neighbours.
        """
        if not self.pictures:
            raise IsthmusError(
                f"{self.source}: no usable pictures, {self.skipped.total():,} bad ones; expected "
                f"values in [0, 1], or files {' '.join(PICTURES)}"
            )
        order, unknown = [], Counter[str]()
        for line in lines:
            run: list[int] = []
            for key in line:
                place = self.places.get(key, self.places.get(without_ending(key)))
                if place is not None:
                    run.append(place)
                    continue
                unknown[key] += 1
                order.append(run)
                run = []
            order.append(run)
        if not any(order):
            named = f'"{next(iter(unknown))}"' if unknown else "nothing"
            raise IsthmusError(
                f"{self.source}: the order has no token with a picture: it names {named}, the "
                f'pictures are "{next(iter(self.places))}" and {len(self.places) - 1:,} others'
            )
        for key, count in unknown.items():
            self.skipped["tokens without a picture"] += count
            self.warnings.append(f"{self.source}: no picture of {key}, tokens left out: {count:,}")
        return Signs(
            np.stack(self.pictures),
            tuple(np.asarray(run, dtype=np.int64) for run in order if run),
            tuple(self.files),
            tuple(self.names),
            self.source,
            dict(self.skipped),
            tuple(self.warnings),
        )


def _fault(values: NDArray[np.generic] | None) -> str:
    """Why an array cannot be the picture of a sign; empty if it can."""
    if values is None:
        return "cannot be read as a picture"
    if values.dtype.kind not in "fiub" or values.size == 0:
        return f"{values.dtype} of shape {values.shape}, expected numbers"
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        return "values outside of [0, 1]"
    return "blank" if values.min() == values.max() else ""
