"""Pictures: from files, arrays and built-in sets to one array [N C H W], and to a grid to look at.

Examples:
    >>> from isthmus.data import pictures
    >>> pictures.read("digits", split="train").pictures.shape
    (1397, 1, 8, 8)
"""

from isthmus.data.pictures.corpus import (
    CAPTIONS_FILE,
    PICTURE,
    PictureCorpus,
    folders_of,
    names_one,
    read,
    read_one,
    read_splits,
    splits_of,
)
from isthmus.data.pictures.files import Picture
from isthmus.data.pictures.grid import PAPER, grid, write_grid
from isthmus.data.pictures.shapes import Fit, Shape, in_words

__all__ = [
    "CAPTIONS_FILE",
    "PAPER",
    "PICTURE",
    "Fit",
    "Picture",
    "PictureCorpus",
    "Shape",
    "folders_of",
    "grid",
    "in_words",
    "names_one",
    "read",
    "read_one",
    "read_splits",
    "splits_of",
    "write_grid",
]
