"""A folder of data: the files of its train, valid and test split."""

import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path

from isthmus.data.files import formats, suffix_of
from isthmus.errors import IsthmusError

SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "validation", "dev"), "test": ("test",)}

PICTURE_FORMS = {".png", ".jpg", ".jpeg"}

_NUMBERED = re.compile(r"(?P<name>[a-z]+)[-._]?(?P<number>\d+)(?:-of-(?P<total>\d+))?")


def files_of(folder: Path) -> list[tuple[str, list[Path]]]:
    """Find the splits of a folder.

    A split is a file (`train.txt`), numbered files (`train-00001-of-00298.jsonl`, `train_1.txt`,
    `train.000.txt.gz`) or a folder of its name with files of one format.

    Args:
        folder: An existing folder.

    Returns:
        (split, its files in numeric order) for each existing split, at least one.

    Raises:
        IsthmusError: There is none, or a split can be read in several ways, or its files are in
            several formats, duplicated, or incomplete.
    """
    found = []
    for split, names in SPLIT_NAMES.items():
        sources = [source for name in names for source in _sources(folder, name)]
        if len(sources) > 1:
            shown = [f"{s[0].relative_to(folder)}{' …' if s[1:] else ''}" for s in sources]
            raise IsthmusError(
                f"{folder} has several {split} files ({', '.join(shown)}): keep one kind, or "
                "name the file instead of the folder"
            )
        found += [(split, files) for files in sources]
    if not found:
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        there = ", ".join(files[:8]) or "no file"
        if any(path.suffix.lower() in PICTURE_FORMS for path in folder.rglob("*")):
            raise IsthmusError(
                f"{folder} has pictures and no train, valid or test file of texts; for a model of "
                "pictures take --recipe picture-vae"
            )
        raise IsthmusError(
            f"{folder} has no train, valid or test file, but {there}; expected for example "
            f"train.txt, valid.txt and test.txt; formats: {formats()}, with or without .gz"
        )
    return found


def _sources(folder: Path, name: str) -> Iterator[list[Path]]:
    """Yield each way to read a split: a file, numbered files, a folder of files."""
    numbers: dict[Path, int] = {}
    totals: set[int] = set()
    for path in _readable(folder):
        match = _NUMBERED.fullmatch(_stem(path))
        if _stem(path) == name:
            yield [path]
        elif match and match["name"] == name:
            numbers[path] = int(match["number"])
            totals |= {int(match["total"])} if match["total"] else set()
    if numbers:
        _check(folder, numbers)
        _check_whole(folder, list(numbers), totals)
        yield sorted(numbers, key=lambda path: numbers[path])
    inside = folder / name
    if inside.is_dir() and (files := _readable(inside)):
        places = {path: _natural(_stem(path)) for path in files}
        _check(inside, places)
        yield sorted(places, key=lambda path: places[path])


def _readable(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and suffix_of(path.name))


def _stem(path: Path) -> str:
    """Return a file's name without its format."""
    return path.name.lower().removesuffix(".gz").removesuffix(suffix_of(path.name) or "")


def _natural(name: str) -> tuple[str | int, ...]:
    """Return a key that sorts part 10 after part 9: alternating texts and numbers."""
    return tuple(
        int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))
    )


def _check(folder: Path, places: Mapping[Path, Hashable]) -> None:
    """Refuse files in several formats, and two files for one part."""
    suffixes = {suffix_of(path.name): path.name for path in places}
    if len(suffixes) > 1:
        raise IsthmusError(
            f"{folder}: {' and '.join(sorted(suffixes.values()))} are in several formats: keep one"
        )
    first: dict[Hashable, str] = {}
    for path, place in places.items():
        twin = first.setdefault(place, path.name)
        if twin != path.name:
            raise IsthmusError(f"{folder}: {twin} and {path.name} are the same part: keep one")


def _check_whole(folder: Path, paths: list[Path], totals: set[int]) -> None:
    """Refuse a set whose names state another number of files."""
    if totals - {len(paths)}:
        stated = " and ".join(map(str, sorted(totals)))
        raise IsthmusError(
            f"{folder}: {paths[0].name} says that there are {stated} files, got {len(paths):,}: "
            "add the missing files, or keep one set"
        )
