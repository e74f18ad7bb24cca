"""Pictures that are arrays already: an .npz file, scikit-learn's digits, drawn scenes."""

import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError

SPLITS = ("train", "valid", "test")
LABEL_KEYS = ("label", "labels", "y", "class", "category", "character")
"""Arrays next to ``images`` that can be their labels; the first of them that exists is taken."""

DIGITS_SIZES = {"train": 1397, "valid": 200, "test": 200}
SCENES_SIZES = {"train": 20_000, "valid": 1_000, "test": 2_000}


class Arrays(NamedTuple):
    """Pictures [N C H W], their labels if they have any, and decisions of the reader."""

    pictures: NDArray[np.uint8]
    labels: list[str] | None
    notes: list[str]


def read_npz(path: Path) -> dict[str, Arrays]:
    """Read the splits of an .npz file.

    Its arrays are ``train_x``, ``valid_x``, ``test_x`` with labels ``train_y`` …; or ``images``
    with labels under one of LABEL_KEYS, which count as train. Pictures are [N H W], [N H W C] or
    [N C H W]; integers 0 … 255, or fractions 0 … 1. Nothing pickled is read.

    Raises:
        IsthmusError: not such a file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (BadZipFile, ValueError, EOFError, KeyError, AttributeError, zlib.error) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise IsthmusError(f"{path}: damaged or not an .npz file ({reason})") from error
    found = {split: f"{split}_x" for split in SPLITS if f"{split}_x" in arrays}
    if found:
        return {
            split: _arrays(path, arrays, name, [f"{split}_y"]) for split, name in found.items()
        }
    if "images" in arrays:
        return {"train": _arrays(path, arrays, "images", LABEL_KEYS)}
    raise IsthmusError(
        f"{path}: has {', '.join(arrays) or 'no array'}; expected train_x (and valid_x, test_x, "
        "with labels train_y …) or images"
    )


def _arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], name: str, keys: tuple[str, ...] | list[str]
) -> Arrays:
    notes: list[str] = []
    pictures = _values(_planes(arrays[name], f"{path}, {name}"), f"{path}, {name}", notes)
    for key in keys:
        if key in arrays and arrays[key].shape == (len(pictures),):
            notes.append(f"label = {key}")
            return Arrays(pictures, [str(value) for value in arrays[key].tolist()], notes)
        if key in arrays:
            raise IsthmusError(
                f"{path}: {key} has the shape {list(arrays[key].shape)}, expected one label for "
                f"each of {len(pictures):,} pictures"
            )
    return Arrays(pictures, None, notes)


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


def _values(planes: NDArray[Any], where: str, notes: list[str]) -> NDArray[np.uint8]:
    """8-bit levels, as the kind and the range of the numbers say."""
    if planes.dtype == np.uint8:
        return np.ascontiguousarray(planes)
    if planes.dtype == np.bool_:
        return planes.astype(np.uint8) * np.uint8(255)
    if planes.dtype.kind not in "iuf" or not np.isfinite(planes).all():
        raise IsthmusError(
            f"{where}: {planes.dtype} with values that are no numbers or not finite; expected "
            "integers 0 … 255 or fractions 0 … 1"
        )
    low, high = planes.min(), planes.max()
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
