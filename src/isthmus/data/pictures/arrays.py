"""Pictures that are arrays already: an .npz file, scikit-learn's digits, drawn scenes."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.data.files import clean_label
from isthmus.data.folders import SPLIT_NAMES
from isthmus.errors import IsthmusError, reason_of

SPLITS = tuple(SPLIT_NAMES)
LABEL_KEYS = ("label", "labels", "y", "class", "category", "character")
"""Arrays next to ``images`` that can be their labels; the first of them that exists is taken."""

BINARY = "0 and 1 are black and white"
"""Said of pictures without another level."""

DIGITS_SIZES = {"train": 1397, "valid": 200, "test": 200}
SCENES_SIZES = {"train": 20_000, "valid": 1_000, "test": 2_000}


class Arrays(NamedTuple):
    """Pictures [N C H W], their labels if they have any, and decisions of the reader."""

    pictures: NDArray[np.uint8]
    labels: list[str] | None
    notes: list[str]


def load_arrays(path: Path, needed: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file, or those that are needed; nothing pickled is read.

    Raises:
        IsthmusError: It is damaged, not such a file, or lacks one of them.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            names = stored.files
            arrays = {name: stored[name] for name in needed or names if name in names}
    except Exception as error:  # zip files and headers can be damaged in dozens of ways
        pickled = "pickle" in str(error)
        reason = "pickled objects, which are never read" if pickled else reason_of(error)
        raise IsthmusError(f"{path}: damaged or not an .npz file ({reason})") from error
    if missing := [name for name in needed if name not in arrays]:
        raise IsthmusError(f"{path}: no array {missing[0]}; expected {', '.join(needed)}")
    return arrays


def read_npz(path: Path) -> dict[str, Arrays]:
    """Read the splits of an .npz file.

    Its arrays are ``train_x``, ``valid_x``, ``test_x`` with labels ``train_y`` …, or other names
    of a split, of x (``images``) and of y (``labels``), in either order; or ``images`` with labels
    under one of LABEL_KEYS, which count as train. Pictures are [N H W], [N H W C] or [N C H W];
    integers 0 … 255, fractions 0 … 1, or 0 and 1 alone. Nothing pickled is read.

    Raises:
        IsthmusError: not such a file.
    """
    arrays = load_arrays(path)
    found = _splits(path, arrays)
    if not found and "images" in arrays:
        found = {"train": ("images", LABEL_KEYS)}
    if not found:
        raise IsthmusError(
            f"{path}: has {', '.join(arrays) or 'no array'}; expected train_x (and valid_x, "
            "test_x, with labels train_y …) or images"
        )
    planes = {split: _planes(arrays[x], f"{path}, {x}") for split, (x, _) in found.items()}
    high = _highest(planes.values())
    used = {name for name, _ in found.values()}
    rest = [name for name, array in arrays.items() if array.ndim > 2 and name not in used]
    parts = {}
    for split, (x, keys) in found.items():
        notes = [f"not read: {', '.join(rest)}"] if rest else []
        pictures = _values(planes[split], f"{path}, {x}", high, notes)
        labels = _labels(path, arrays, keys, len(pictures), notes)
        parts[split] = Arrays(pictures, labels, notes)
    return parts


def _splits(path: Path, arrays: Mapping[str, Any]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Split → the name of its pictures, and those of its labels."""
    known = {name: split for split, names in SPLIT_NAMES.items() for name in names}
    pictures: dict[str, str] = {}
    labels: dict[str, list[str]] = {}
    for array in arrays:
        for words in permutations(array.lower().split("_"), 2):
            split = known.get(words[0], "")
            if split and words[1] in ("y", "label", "labels"):
                labels.setdefault(split, []).append(array)
            elif split and words[1] in ("x", "images"):
                if split in pictures:
                    raise IsthmusError(
                        f"{path}: {pictures[split]} and {array} are both {split}: keep one"
                    )
                pictures[split] = array
    return {
        split: (pictures[split], tuple(labels.get(split, ())))
        for split in SPLIT_NAMES
        if split in pictures
    }


def _highest(parts: Collection[NDArray[Any]]) -> float:
    """The largest value of all splits: a dark one is in the same unit as the others."""
    numbers = [part for part in parts if part.dtype.kind in "iuf"]
    return max((part.max().item() for part in numbers), default=0)


def _labels(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    keys: Sequence[str],
    count: int,
    notes: list[str],
) -> list[str] | None:
    """The first labels of several names, "" where one is missing; None if there are none."""
    key = next((key for key in keys if key in arrays), None)
    if key is None:
        return None
    if arrays[key].shape not in ((count,), (count, 1)):
        raise IsthmusError(
            f"{path}: {key} has the shape {list(arrays[key].shape)}, expected one label for "
            f"each of {count:,} pictures"
        )
    notes.append(f"label = {key}")
    return [clean_label(value) or "" for value in arrays[key].ravel().tolist()]


def _planes(values: NDArray[Any], where: str) -> NDArray[Any]:
    """[N C H W], C = 1 or 3."""
    shape = values.shape
    if values.ndim == 3:
        planes = values[:, None]
    elif values.ndim == 4 and shape[3] in (1, 3):
        planes = np.moveaxis(values, 3, 1)
    elif values.ndim == 4 and shape[1] in (1, 3):
        planes = values
    else:
        raise IsthmusError(
            f"{where}: the shape {list(shape)}; expected [N H W], [N H W C] or [N C H W] with "
            "C = 1 (grey) or 3 (RGB)"
        )
    if not planes.size:
        raise IsthmusError(f"{where}: no picture, its shape is {list(shape)}")
    return planes


def _values(planes: NDArray[Any], where: str, high: float, notes: list[str]) -> NDArray[np.uint8]:
    """8-bit levels, as the kind and the range of the numbers say.

    Args:
        planes: Numbers [N C H W].
        where: For errors.
        high: The largest number of all splits.
        notes: Takes what was decided.
    """
    if planes.dtype.kind in "iu" and high == 1 and planes.min() >= 0:
        notes.append(BINARY)
        planes = planes.astype(np.bool_)
    if planes.dtype == np.uint8:
        return np.ascontiguousarray(planes)
    if planes.dtype == np.bool_:
        return planes.astype(np.uint8) * np.uint8(255)
    if planes.dtype.kind not in "iuf" or not np.isfinite(planes).all():
        raise IsthmusError(
            f"{where}: {planes.dtype} with values that are no numbers or not finite; expected "
            "integers 0 … 255 or fractions 0 … 1"
        )
    low = planes.min()
    if planes.dtype.kind == "f" and low >= 0 and high <= 1:
        notes.append("fractions brought to the nearest of 256 levels")
        return np.rint(planes * 255).astype(np.uint8)
    if planes.dtype == np.uint16 and high > 255:
        notes.append("16 bits a value brought to 8")
        return np.rint(planes / 257).astype(np.uint8)
    if planes.dtype.kind == "f" or low < 0 or high > 255:
        raise IsthmusError(
            f"{where}: {planes.dtype} from {low} to {high}; expected integers 0 … 255 or "
            "fractions 0 … 1"
        )
    return planes.astype(np.uint8)


@cache
def _digits() -> tuple[NDArray[np.uint8], list[str]]:
    from sklearn.datasets import load_digits

    stored = load_digits()
    pictures = np.rint(stored.images * (255 / 16)).astype(np.uint8)[:, None]
    # Philox, because its draws are the same on every machine.
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(pictures))
    return pictures[order], [str(stored.target[place]) for place in order]


def digits(split: str) -> Arrays:
    """scikit-learn's 1,797 handwritten digits of 8×8, in a fixed random order, in three parts."""
    pictures, labels = _digits()
    start = sum(DIGITS_SIZES[name] for name in SPLITS[: SPLITS.index(split)])
    part = slice(start, start + DIGITS_SIZES[split])
    return Arrays(pictures[part], labels[part], ["16 grey levels spread over 0 … 255"])


def drawn_scenes(split: str, limit: int | None) -> Arrays:
    """Pictures of the scenes of the built-in corpus, RGB of 32×32; labels as for its texts."""
    from isthmus.data import scenes
    from isthmus.data.corpus import SCENES_LABEL

    sentences = scenes.generate(split, limit or SCENES_SIZES[split])
    pictures = np.stack([np.moveaxis(scenes.render(s.factors), -1, 0) for s in sentences])
    labels = [str(sentence.factors[SCENES_LABEL]) for sentence in sentences]
    return Arrays(pictures, labels, [f"label = {SCENES_LABEL}, which no picture shows"])
