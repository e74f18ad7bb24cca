"""Pictures: from files, arrays and built-in sets to one array [N C H W], and to a grid to look at.

Example:
    >>> from isthmus.data import pictures
    >>> pictures.read("digits", split="train").pictures.shape
    (1397, 1, 8, 8)
"""

from isthmus.data.pictures.corpus import (
    CAPTIONS_FILE,
    Fit,
    PictureCorpus,
    PictureSplits,
    Shape,
    default_split,
    folders_of,
    names_one,
    read,
    read_one,
    read_splits,
    splits_of,
    told,
)
from isthmus.data.pictures.files import Picture
from isthmus.data.pictures.grid import PAPER, grid, write_grid

__all__ = [
    "CAPTIONS_FILE",
    "PAPER",
    "Fit",
    "Picture",
    "PictureCorpus",
    "PictureSplits",
    "Shape",
    "default_split",
    "folders_of",
    "grid",
    "names_one",
    "read",
    "read_one",
    "read_splits",
    "splits_of",
    "told",
    "write_grid",
]
