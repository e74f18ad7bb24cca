"""A folder of data: the files of its train, valid and test split."""

import re
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

from isthmus.data.compressed import plain_name
from isthmus.data.files import formats, suffix_of
from isthmus.errors import IsthmusError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}
"""Split → how it may be called, in any letter case."""

PICTURE_FORMS = {".png", ".jpg", ".jpeg"}

_LISTED = 8

_NUMBERED = re.compile(r"(?P<name>[a-z]+)[-._]?(?P<number>\d+)(?:-of-(?P<total>\d+))?")


def files_of(folder: Path) -> list[tuple[str, list[Path]]]:
    """Find the splits of a folder.

    A split has one of its SPLIT_NAMES. It is a file (`train.txt`), numbered files
    (`train-00001-of-00298.jsonl`, `train_1.txt`, `train.000.txt.gz`) or a folder of its name with
    files of one format.

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
        there = _listed(_visible(folder)) or "no file"
        if _has_pictures(folder):
            raise IsthmusError(
                f"{folder} has pictures and no train, valid or test file of texts; for a model of "
                "pictures take --recipe picture-vae"
            )
        raise IsthmusError(
            f"{folder} has no train, valid or test file, but {there}; expected for example "
            f"train.txt, valid.txt and test.txt; formats: {formats()}, with or without .gz or .zst"
        )
    return found


def has_pictures_alone(folder: Path) -> bool:
    """Whether a folder holds pictures, and no split of texts."""
    texts = (
        source for names in SPLIT_NAMES.values() for n in names for source in _sources(folder, n)
    )
    return next(texts, None) is None and _has_pictures(folder)


def _has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in PICTURE_FORMS for path in folder.rglob("*"))


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
    for inside in folders_named(folder, name):
        places = {path: _natural(_stem(path)) for path in _readable(inside)}
        if places:
            _check(inside, places)
            yield sorted(places, key=lambda path: places[path])


def folders_named(folder: Path, name: str) -> list[Path]:
    """The folders of a name in any letter case."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower() == name)


def left_out(folder: Path, used: Collection[Path]) -> list[str]:
    """A line that names what in a folder, and beside the files used in it, is not read; or none.

    Args:
        folder: The folder that holds the splits.
        used: The files that are read, or the folders of which all is.
    """
    parents = {path.parent for path in used} - {folder}
    there = [path for place in (folder, *sorted(parents)) for path in _visible(place)]
    rest = [path for path in there if path not in used and path not in parents]
    if not rest:
        return []
    names = ", ".join(name for name, *_ in SPLIT_NAMES.values())
    shown = _listed(rest, folder)
    return [f"{folder}: not read, because no split ({names}) is called so: {shown}"]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _listed(paths: Sequence[Path], folder: Path | None = None) -> str:
    """Their names below a folder, or without theirs; a folder's ends with a slash."""
    names = [
        f"{path.relative_to(folder or path.parent).as_posix()}{'/' if path.is_dir() else ''}"
        for path in paths[:_LISTED]
    ]
    return ", ".join(names) + (
        f" and {len(paths) - _LISTED:,} more" if len(paths) > _LISTED else ""
    )


def _readable(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and suffix_of(path.name))


def _stem(path: Path) -> str:
    """Return a file's name without its format."""
    return plain_name(path.name).removesuffix(suffix_of(path.name) or "")


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
