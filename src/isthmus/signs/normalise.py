"""Pictures of signs made alike: ink is 1, upright, centred, of one size.

Every function takes one picture [height width] with values in [0, 1] and changes nothing in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]

SIZE = 64
"""Height and width of a picture of a sign."""
INK = 0.2
"""Above it a pixel is ink: fainter ones are the paper, or the blur of a scan."""
MARGIN = 2
"""Empty pixels on each side of a rescaled sign."""
STEEPEST = 1.0
"""Slant beyond which a sign is no slanted writing, but a diagonal stroke: left as it is."""


@final
@dataclass(frozen=True)
class Normalisation:
    """What is done to every picture."""

    polarity: bool = True
    """Turn pictures with light ink on dark ground round."""
    deslant: bool = False
    """Straighten slanted writing; a sign that differs from another by its slant alone is lost."""
    crop: bool = True
    """Cut to the ink and enlarge it to the whole picture: place and size no longer tell."""
    centre: bool = True
    """Move the ink to the middle, its size unchanged; cropping does that as well."""


def normalise(pictures: Picture, how: Normalisation | None = None) -> Picture:
    """Make pictures alike.

    Arguments:
        pictures: [M height width].
        how: what is done; the defaults if absent.

    Returns:
        [M 64 64].
    """
    steps = Normalisation() if how is None else how
    done = np.zeros((len(pictures), SIZE, SIZE), dtype=np.float32)
    for place, picture in enumerate(pictures):
        if steps.polarity:
            picture = ink_is_one(picture)
        if steps.deslant:
            picture = deslant(picture)
        if steps.crop:
            picture = crop(picture)
        elif steps.centre:
            picture = centre(picture)
        done[place] = rescale(picture, margin=MARGIN if steps.crop else 0)
    return done


def ink_is_one(picture: Picture) -> Picture:
    """The picture, or its negative where most of the border is dark.

    The border of a sign's picture is ground; its median is not moved by the few strokes that reach
    it.
    """
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return 1 - picture if np.median(border) > 0.5 else picture


def crop(picture: Picture) -> Picture:
    """The smallest box with all ink; a picture without ink stays as it is."""
    ink = picture > INK
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not rows.size:
        return picture
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def centre(picture: Picture) -> Picture:
    """The box of the ink in the middle of a picture of the same size, to the pixel.

    Not the centre of mass: bringing that to the middle would push ink out of the picture.
    """
    box = crop(picture)
    return _in_the_middle(box, *picture.shape)


def slant(picture: Picture) -> float:
    """Columns that the ink moves to the right from one row to the next: Cov(x, y) / Var(y).

    The second moments, each pixel weighted by its ink (LeCun et al. 1998 deslant MNIST so). Zero
    for ink in one row, or none.
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
    """Shear every row back so that rows and columns of the ink are uncorrelated.

    The result is wider by what the shear moves, so that no ink is lost. A slant beyond STEEPEST
    stays.
    """
    from scipy.ndimage import affine_transform

    slope = slant(picture)
    if slope == 0 or abs(slope) > STEEPEST:
        return picture
    height, width = picture.shape
    more = int(np.ceil(abs(slope) * height / 2)) + 1
    middle = (height - 1) / 2
    # Output (y, x) is taken from the input at (y, x − more + slope (y − middle)).
    sheared = affine_transform(
        picture,
        np.asarray([[1.0, 0.0], [slope, 1.0]]),
        offset=(0.0, -more - slope * middle),
        output_shape=(height, width + 2 * more),
        order=1,
        mode="grid-constant",  # ink at the edge has half a pixel outside
    )
    return np.asarray(np.clip(sheared, 0, 1), dtype=np.float32)


def rescale(picture: Picture, size: int = SIZE, margin: int = 0) -> Picture:
    """The picture as large as it fits in [size size] with a margin, its proportions kept.

    Averages where it shrinks (Pillow's triangle filter), so that thin strokes fade and do not
    vanish.
    """
    from PIL import Image

    height, width = picture.shape
    room = size - 2 * margin
    if (height, width) == (room, room):
        return _in_the_middle(picture, size, size)
    scale = room / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(np.asarray(picture, dtype=np.float32))
    found = np.asarray(image.resize(shape, Image.Resampling.BILINEAR))
    return _in_the_middle(np.clip(found, 0, 1), size, size)


def _in_the_middle(box: Picture, height: int, width: int) -> Picture:
    """A box on empty ground [height width]."""
    canvas = np.zeros((height, width), dtype=np.float32)
    top, left = (height - box.shape[0]) // 2, (width - box.shape[1]) // 2
    canvas[top : top + box.shape[0], left : left + box.shape[1]] = box
    return canvas
