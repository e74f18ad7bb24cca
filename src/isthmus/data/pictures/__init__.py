"""Pictures: from files, arrays and built-in sets to one array [N C H W], and to a grid to look at.

Example:
    >>> from isthmus.data import pictures
    >>> pictures.read("digits", split="train").pictures.shape
    (1397, 1, 8, 8)
"""

from isthmus.data.pictures.corpus import (
    Fit,
    PictureCorpus,
    PictureSplits,
    read,
    read_one,
    read_splits,
)
from isthmus.data.pictures.grid import grid, write_grid

__all__ = [
    "Fit",
    "PictureCorpus",
    "PictureSplits",
    "grid",
    "read",
    "read_one",
    "read_splits",
    "write_grid",
]
