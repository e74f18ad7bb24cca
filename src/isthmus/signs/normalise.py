"""Pictures of signs normalised: ink is 1, upright, centred, of one size.

Every function takes one picture [height width] with values in [0, 1] and returns a new one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]

SIZE = 64
"""Height and width of a picture of a sign."""
INK = 0.2
"""Pixels above it are ink; fainter ones are paper, or the blur of a scan."""
MARGIN = 2
"""Empty pixels on each side of a rescaled sign."""
STEEPEST = 1.0
"""Slant above which a sign is not slanted writing but a diagonal stroke, and is left as it is."""


def normalise(pictures: Picture, deslanted: bool = False) -> Picture:
    """Pictures [M height width] with ink 1, cut to it and enlarged to [M 64 64].

    Position and size are lost; with `deslanted` also the slant, so signs that differ by slant
    alone become one.
    """
    done = np.zeros((len(pictures), SIZE, SIZE), dtype=np.float32)
    for place, picture in enumerate(pictures):
        upright = ink_is_one(picture)
        if deslanted:
            upright = deslant(upright)
        done[place] = rescale(crop(upright), MARGIN)
    return done


def ink_is_one(picture: Picture) -> Picture:
    """The picture, or its negative if most of the border is dark.

    The border of a sign's picture is ground, and the few strokes that reach it do not move its
    median.
    """
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return 1 - picture if np.median(border) > 0.5 else picture


def crop(picture: Picture) -> Picture:
    """The smallest box with all ink; the whole picture if it has none."""
    ink = picture > INK
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not rows.size:
        return picture
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def slant(picture: Picture) -> float:
    """Columns that the ink moves to the right per row: Cov(x, y) / Var(y), weighted by ink.

    LeCun et al. (1998) deslant MNIST the same way. Zero for ink in one row, or none.
    """
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    total = float(picture.sum())
    if total == 0:
        return 0.0
    down = rows - (rows * picture).sum() / total
    right = columns - (columns * picture).sum() / total
    variance = float((down**2 * picture).sum())
    return float((down * right * picture).sum()) / variance if variance > 0 else 0.0


def deslant(picture: Picture) -> Picture:
    """Shear rows until rows and columns of the ink are uncorrelated; a slant above STEEPEST stays.

    The result is wider by what the shear moves, so no ink is lost.
    """
    from scipy.ndimage import affine_transform

    slope = slant(picture)
    if slope == 0 or abs(slope) > STEEPEST:
        return picture
    height, width = picture.shape
    more = int(np.ceil(abs(slope) * height / 2)) + 1
    middle = (height - 1) / 2
    # Output (y, x) comes from the input at (y, x − more + slope (y − middle)).
    sheared = affine_transform(
        picture,
        np.asarray([[1.0, 0.0], [slope, 1.0]]),
        offset=(0.0, -more - slope * middle),
        output_shape=(height, width + 2 * more),
        order=1,
        mode="grid-constant",  # ink at the edge has half a pixel outside
    )
    return np.asarray(np.clip(sheared, 0, 1), dtype=np.float32)


def rescale(picture: Picture, margin: int = 0) -> Picture:
    """The picture as large as fits into [64 64] with a margin, its proportions kept.

    Shrinking averages (Pillow's triangle filter), so thin strokes fade instead of vanishing.
    """
    from PIL import Image

    height, width = picture.shape
    room = SIZE - 2 * margin
    if (height, width) != (room, room):
        scale = room / max(height, width)
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = Image.fromarray(np.asarray(picture, dtype=np.float32))
        picture = np.clip(np.asarray(image.resize(shape, Image.Resampling.BILINEAR)), 0, 1)
    canvas = np.zeros((SIZE, SIZE), dtype=np.float32)
    height, width = picture.shape
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas
