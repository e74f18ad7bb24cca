"""DATA of pictures: a folder, a picture, an .npz file, `digits` or `scenes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.data.folders import SPLIT_NAMES, folders_named, left_out
from isthmus.data.kind import Corpus, Kind, Splits, choose, framed, make_splits
from isthmus.data.pictures.arrays import BINARY, Arrays, digits, drawn_scenes, read_npz
from isthmus.data.pictures.files import Picture, read_file
from isthmus.data.pictures.shapes import (
    Fit,
    Shape,
    commonest,
    dark,
    done,
    fitted,
    in_words,
    sizes,
)
from isthmus.errors import IsthmusError
from isthmus.settings import PictureVAESettings, Settings

CAPTIONS_FILE = "captions.tsv"
"""The one file in a folder of pictures that is none, see :mod:`isthmus.data.captioned`."""

FORMS = "a folder of pictures, a picture, an .npz file, digits or scenes"


@final
class PictureKind(Kind):
    """Pictures of one size."""

    name = title = field = unit = "picture"
    has_pictures = True
    label_source = "a folder with a sub-folder a label, or an .npz file with train_y"

    def read(
        self, data: str, config: Mapping[str, Any], limit: int | None = None
    ) -> PictureCorpus:
        """Read pictures of the size that the configuration states."""
        shape, fit = size_in(config)
        return _whole(read(data, limit=limit, shape=shape, fit=fit))

    def read_splits(self, data: str, settings: Settings) -> Splits[PictureCorpus]:
        """As the function of that name."""
        assert isinstance(settings.model, PictureVAESettings)
        limit, fit = settings.data.limit or None, settings.model.picture.fit
        return read_splits(data, seed=settings.train.seed, limit=limit, fit=fit)

    def example(self, text: str | None = None, picture: Picture | None = None) -> Picture:
        """The picture itself."""
        assert picture is not None
        return picture

    def named(self, word: str, config: Mapping[str, Any]) -> Picture:
        """The picture that a word names, see `read_one`."""
        return read_one(word, *size_in(config))


PICTURE = PictureKind()


@final
@dataclass(frozen=True)
class PictureCorpus(Corpus):
    """Pictures in the order of their source."""

    kind = PICTURE
    each = ("examples", "labels", "names")

    examples: NDArray[np.uint8]
    """[N C H W], C = 1 or 3, levels 0 … 255."""
    labels: list[str] | None
    names: list[str]
    """Of each: its file below the folder, or SOURCE#PLACE."""
    source: str
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """The examples."""
        return self.examples

    @property
    def shape(self) -> Shape:
        """Channels, height and width of every picture."""
        channels, height, width = self.pictures.shape[1:]
        return channels, height, width

    @property
    def form(self) -> str:
        """The shape, in words."""
        return f" of {in_words(self.shape)}"

    def key(self, place: int) -> bytes:
        """The values of a picture."""
        return self.pictures[place].tobytes()

    def contents(self) -> Iterator[bytes]:
        """The shape, all values, and the labels."""
        yield f"{self.pictures.shape}\n".encode()
        yield np.ascontiguousarray(self.pictures).tobytes()
        yield from framed(self.labels or [])


def size_in(config: Mapping[str, Any]) -> tuple[Shape, Fit]:
    """The pictures that a model reads, by its configuration.

    Raises:
        IsthmusError: The configuration has no such thing.
    """
    try:
        shape = (int(config["channels"]), int(config["height"]), int(config["width"]))
        if shape[0] not in (1, 3) or min(shape) < 1:
            raise ValueError(shape)
        return shape, config.get("fit", "skip")
    except (KeyError, TypeError, ValueError) as error:
        raise IsthmusError("config.json: states no size of pictures; restore it") from error


Loader = Callable[[int | None, Shape | None, Fit], PictureCorpus]


def read(
    data: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    shape: Shape | None = None,
    fit: Fit = "skip",
) -> PictureCorpus:
    """Read one corpus of pictures.

    Args:
        data: A folder of picture files (a sub-folder is a label; folders named train, valid and
            test are splits), one picture file, an .npz file (see `arrays.read_npz`), `digits`
            (scikit-learn's) or `scenes` (drawn).
        split: "train", "valid" or "test" where the source has several; None takes test, else
            valid, else train.
        limit: The first N pictures only.
        shape: What every picture shall be, for a model that is there; None takes the commonest.
        fit: What becomes of a picture of another size.

    Returns:
        The corpus, with at least one picture. A file that is not readable is skipped, with a line.

    Raises:
        IsthmusError: There is nothing to read, or none of it is a picture of that size.
    """
    available = _available(data)
    corpus = available[choose(available, data, split)](limit, shape, fit)
    return replace(corpus, lines=corpus.lines + _left_out(data))


def splits_of(data: str) -> tuple[str, ...]:
    """The splits that DATA has.

    Raises:
        IsthmusError: There is no such DATA.
    """
    return tuple(_available(data))


def read_splits(
    data: str,
    *,
    valid_fraction: float = 0.05,
    valid_limit: int = 2_000,
    seed: int = 0,
    limit: int | None = None,
    fit: Fit = "skip",
) -> Splits[PictureCorpus]:
    """Read what training needs; hold a part out for validation where the source has none.

    Args:
        data: As for `read`. All parts take the shape that is commonest in train.
        valid_fraction: As for `make_splits`.
        valid_limit: As for `make_splits`.
        seed: As for `make_splits`.
        limit: Train on the first N pictures only.
        fit: As for `read`.

    Raises:
        IsthmusError: As `read`, or there are fewer than two pictures.
    """
    available = _available(data)
    train = _whole(available[choose(available, data, "train")](limit, None, fit))
    return make_splits(
        replace(train, lines=train.lines + _left_out(data)),
        lambda name: (
            _whole(available[name](None, train.shape, fit)) if name in available else None
        ),
        valid_fraction=valid_fraction,
        valid_limit=valid_limit,
        seed=seed,
    )


def _whole(corpus: PictureCorpus) -> PictureCorpus:
    """The corpus, if all of its pictures have a label or none has one, "".

    Raises:
        IsthmusError: Only some have one.
    """
    labels = corpus.labels or [""]
    if "" not in labels:
        return corpus
    if any(labels):
        raise IsthmusError(
            f"{corpus.source}: {labels.count(''):,} of {len(labels):,} pictures have no label, "
            f"the first is {corpus.names[labels.index('')]}: label all of them, or none"
        )
    return replace(corpus, labels=None)


BUILT_IN = ("scenes", "digits")
"""DATA that comes with Isthmus, not from a file."""


def names_one(word: str) -> bool:
    """Whether a word has the form DATA#PLACE, and there is such DATA."""
    data, hash_sign, place = word.rpartition("#")
    if not hash_sign or not place.isdecimal():
        return False
    parent, _, split = data.rpartition("/")
    whole = parent if split in SPLIT_NAMES and not Path(data).exists() else data
    return whole in BUILT_IN or (bool(whole) and Path(whole).exists())


def read_one(word: str, shape: Shape, fit: Fit = "skip") -> Picture:
    """The picture that a word names: a file, or DATA#PLACE, from 0, for one of a corpus.

    The names that a corpus gives its pictures, such as digits/test#3, name them here too.

    Raises:
        IsthmusError: no such picture, or one of another size.
    """
    data, hash_sign, place = word.rpartition("#")
    if Path(word).is_file() or not hash_sign:
        return read(word, shape=shape, fit=fit).pictures[0]
    if not place.isdecimal():
        raise IsthmusError(f"{word}: expected DATA#PLACE with a number from 0, got {place!r}")
    parent, _, split = data.rpartition("/")
    if parent and split in SPLIT_NAMES and not Path(data).exists():
        corpus = read(parent, split=split, shape=shape, fit=fit)
    else:
        corpus = read(data, shape=shape, fit=fit)
    if int(place) >= len(corpus):
        raise IsthmusError(f"{word}: {corpus.source} has {len(corpus):,} pictures, from #0")
    return corpus.pictures[int(place)]


def _available(data: str) -> dict[str, Loader]:
    """Return split → a function that reads it."""
    path = Path(data)
    if data == "digits":
        return {split: partial(_stored, f"digits/{split}", digits(split)) for split in SPLIT_NAMES}
    if data == "scenes":
        return {split: partial(_scenes, split) for split in SPLIT_NAMES}
    if path.is_dir():
        return _folders(path)
    if path.suffix == ".npz" and path.is_file():
        parts = read_npz(path)
        return {split: partial(_stored, f"{path}/{split}", part) for split, part in parts.items()}
    if path.is_file():
        return {"train": partial(_files, path.parent, [path], str(path))}
    raise IsthmusError(f"{data} does not exist; expected {FORMS}")


def folders_of(folder: Path) -> dict[str, Path]:
    """Where the splits of a folder lie; without folders named like splits all of it is train.

    Raises:
        IsthmusError: Two folders for one split.
    """
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        for place in (place for name in names for place in folders_named(folder, name)):
            if split in found:
                raise IsthmusError(
                    f"{folder} has several {split} folders ({found[split].name}, {place.name}): "
                    "keep one"
                )
            found[split] = place
    return found or {"train": folder}


def _left_out(data: str) -> list[str]:
    """A line on what is not read in a folder."""
    folder = Path(data)
    if data in BUILT_IN or not folder.is_dir():
        return []
    used = set(folders_of(folder).values())
    return [] if used == {folder} else left_out(folder, used)


def _folders(folder: Path) -> dict[str, Loader]:
    return {
        split: partial(_files, place, _pictures_in(place), str(place))
        for split, place in folders_of(folder).items()
    }


def _pictures_in(folder: Path) -> list[Path]:
    """All files below a folder in the order of their names; hidden ones are no pictures."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    seen = sorted(path for path in files if not any(part[0] == "." for part in path.parts))
    seen = [path for path in seen if path.name != CAPTIONS_FILE]
    return [folder / path for path in seen]


def _scenes(split: str, limit: int | None, shape: Shape | None, fit: Fit) -> PictureCorpus:
    return _stored(f"scenes/{split}", drawn_scenes(split, limit), limit, shape, fit)


def _stored(
    source: str, arrays: Arrays, limit: int | None, shape: Shape | None, fit: Fit
) -> PictureCorpus:
    """Arrays as a corpus; all pictures have one shape, so all fit or none does."""
    pictures, notes = arrays.pictures, list(arrays.notes)
    if limit is not None and limit < len(pictures):
        notes.append(f"the first of {len(pictures):,} (limit)")
        pictures = pictures[:limit]
    channels, height, width = pictures.shape[1:]
    own = (channels, height, width)
    if shape is not None and own != shape:
        if own[1:] != shape[1:] and fit == "skip":
            raise IsthmusError(
                f"{source}: pictures of {in_words(own)}, expected {in_words(shape)}; bring them "
                "to that size, or train a run with --model.picture.fit resize"
            )
        notes.append(f"{in_words(own)} made {in_words(shape)}")
        pictures = np.stack([fitted(picture, shape, fit) for picture in pictures])
    labels = arrays.labels and arrays.labels[: len(pictures)]
    names = [f"{source}#{place}" for place in range(len(pictures))]
    lines = dark(source, pictures)
    return PictureCorpus(pictures, labels, names, source, notes=notes, lines=lines)


def _files(
    folder: Path, files: list[Path], source: str, limit: int | None, shape: Shape | None, fit: Fit
) -> PictureCorpus:
    """Read picture files; one that is not readable or does not fit is skipped with a line."""
    skipped: Counter[str] = Counter()
    lines: dict[str, str] = {}
    good = _readable(folder, files, limit, lines)
    skipped["not readable"] = len(lines) - sum(name in good for name in lines)
    pictures: dict[str, Picture] = {}
    target = shape or commonest(list(good.values()))
    for name, picture in good.items():
        if picture.shape[1:] != target[1:] and fit == "skip":
            skipped["of another size"] += 1
            lines[name] = f"skipped {name}: {sizes(picture, target)}"
            continue
        pictures[name] = fitted(picture, target, fit)
        if change := done(picture, target, fit):
            lines[name] = f"{lines[name]}, {change}" if name in lines else f"{name}: {change}"
    shown = [lines[name] for name in sorted(lines)]
    if pictures and max(int(picture.max()) for picture in good.values()) == 1:
        pictures = {name: picture * np.uint8(255) for name, picture in pictures.items()}
        shown.append(f"{source}: {BINARY}")
    if not pictures:
        more = f"; {shown[0]}" if shown else ""
        count = f"{len(files):,} file{'s' if len(files) != 1 else ''}"
        raise IsthmusError(f"{source} has no picture among {count}{more}; expected {FORMS}")
    parents = [Path(name).parent.as_posix() for name in pictures]
    labels = parents if any(parent != "." for parent in parents) else None
    if labels and (outside := labels.count(".")):
        shown.append(f"{outside:,} outside the sub-folders: their label is '.'")
    stack = np.stack(list(pictures.values()))
    shown += dark(source, stack)
    return PictureCorpus(stack, labels, list(pictures), source, dict(+skipped), lines=shown)


def _readable(
    folder: Path, files: list[Path], limit: int | None, lines: dict[str, str]
) -> dict[str, Picture]:
    """The pictures that can be read, by name; ``lines`` takes what the report says of one."""
    good: dict[str, Picture] = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            good[name], conversion = read_file(path)
        except IsthmusError as error:
            lines[name] = f"skipped {name}: {error}"
            continue
        if conversion:
            lines[name] = f"{name}: {conversion}"
        if len(good) == limit:
            break
    return good
