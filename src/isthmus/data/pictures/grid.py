"""A sheet of pictures as one PNG file, to look at, and pictures inside a page."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from isthmus.data.pictures.files import Picture, with_channels

GAP = 2
"""Pixels of paper between two pictures, before the sheet is enlarged."""
PAPER = 128
SIDE = 64
"""Smaller pictures are enlarged by a whole number to about this side."""


def grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Pictures of one size [C H W] as rows of a sheet; rows may be of different lengths."""
    first = rows[0][0]
    channels = max(len(picture) for row in rows for picture in row)
    height, width = first.shape[1:]
    columns = max(map(len, rows))
    sheet = np.full(
        (channels, GAP + len(rows) * (height + GAP), GAP + columns * (width + GAP)),
        PAPER,
        dtype=np.uint8,
    )
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
            sheet[:, top : top + height, left : left + width] = with_channels(picture, channels)
    scale = max(1, SIDE // max(height, width))
    return sheet.repeat(scale, axis=1).repeat(scale, axis=2)


def write_grid(rows: Sequence[Sequence[Picture]], path: Path | BinaryIO) -> None:
    """Write such a sheet."""
    image_of(grid(rows)).save(path, "PNG")


def image_of(picture: Picture) -> Image.Image:
    """A picture [C H W] as PIL has it."""
    return Image.fromarray(picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1))


def picture_address(picture: Picture) -> str:
    """A picture [C H W] as the address of itself, a data URL."""
    file = BytesIO()
    image_of(picture).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + b64encode(file.getvalue()).decode()
