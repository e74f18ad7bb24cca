"""Pictures of one shape: which one, what is done to the others, and what is said of it."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.data.pictures.files import Picture, padded, resized, with_channels

Fit = Literal["skip", "resize", "pad"]
"""What becomes of a picture of another size: nothing, stretched, or padded with its corner."""

Shape = tuple[int, int, int]
"""Channels, height, width."""

_DARK = 128
"""Pictures without a level as high as this have another unit, such as 0 … 16."""


def in_words(shape: Shape) -> str:
    """A shape in words."""
    channels, height, width = shape
    return f"{height}×{width}, {'grey' if channels == 1 else 'RGB'}"


def fitted(picture: Picture, shape: Shape, fit: Fit) -> Picture:
    """A picture with the channels and the size of a shape."""
    channels, height, width = shape
    picture = with_channels(picture, channels)
    if picture.shape[1:] == (height, width):
        return picture
    return (padded if fit == "pad" else resized)(picture, (height, width))


def commonest(pictures: list[Picture]) -> Shape:
    """The number of channels that most have, and the size that most have; the first of equals."""
    if not pictures:
        return 1, 0, 0
    [(channels, _)] = Counter(len(picture) for picture in pictures).most_common(1)
    [((height, width), _)] = Counter(picture.shape[1:] for picture in pictures).most_common(1)
    return channels, height, width


def sizes(picture: Picture, target: Shape) -> str:
    """Why a picture of another size is skipped."""
    height, width = picture.shape[1:]
    return (
        f"{height}×{width}, expected {target[1]}×{target[2]}; "
        "--model.picture.fit resize or pad would take it"
    )


def done(picture: Picture, target: Shape, fit: Fit) -> str:
    """What `fitted` changed, in words."""
    parts = []
    if len(picture) != target[0]:
        kinds = {1: "grey", 3: "RGB"}
        parts.append(f"{kinds[len(picture)]} among {kinds[target[0]]} pictures, made like them")
    if picture.shape[1:] != target[1:]:
        height, width = picture.shape[1:]
        verb = "padded" if fit == "pad" else "resized"
        parts.append(f"{height}×{width} {verb} to {target[1]}×{target[2]}")
    return ", ".join(parts)


def dark(source: str, pictures: NDArray[np.uint8]) -> list[str]:
    """A line on pictures whose numbers seem to have another unit than 0 … 255."""
    high = int(pictures.max())
    if not 1 < high < _DARK:
        return []
    return [f"{source}: nearly black, no level is above {high} of 255; scale them to 0 … 255"]
