"""DATA that is no file here: the built-in corpus, and datasets of the Hugging Face hub."""

from __future__ import annotations

import difflib
import logging
import re
from pathlib import Path
from typing import Any

from isthmus.data.compressed import COMPRESSED
from isthmus.data.files import suffix_of
from isthmus.data.folders import SPLIT_NAMES
from isthmus.errors import IsthmusError

SCENES = "scenes"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")

_log = logging.getLogger(__name__)


def check_hub_name(data: str) -> None:
    """Refuse the name of a file that does not exist."""
    path = Path(data)
    if suffix_of(data) or path.suffix in COMPRESSED or not _HUB_NAME.fullmatch(data):
        raise IsthmusError(f"{data} does not exist{_near(path)}")


def _near(path: Path) -> str:
    """Return the end of a sentence that names files like the missing one."""
    if not path.parent.is_dir():
        return f", nor does the folder {path.parent}"
    there = [other.name for other in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, there, n=3)
    return f"; near it in {path.parent}: {', '.join(near)}" if near else ""


def hub_splits(name: str, streaming: bool = False) -> dict[str, tuple[str, Any]]:
    """Ask the Hugging Face hub for a dataset, aloud, and answer in one line if it has none.

    Args:
        name: Of the dataset.
        streaming: Its texts are read while training.

    Returns:
        Split → what to call it, and the dataset.
    """
    import datasets

    _log.warning("%s is no file or folder here: asking the Hugging Face hub for it", name)
    try:
        loaded = datasets.load_dataset(name, streaming=streaming)
    except Exception as error:  # the hub's client raises dozens of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise IsthmusError(
            f'"{name}" is no file or folder{_near(Path(name))}, and the Hugging Face hub did not '
            f'give it ({reason}); the built-in corpus is "{SCENES}"'
        ) from None
    found = {
        split: (f"{name}/{given}", loaded[given])
        for split, names in SPLIT_NAMES.items()
        for given in loaded
        if given.lower() in names
    }
    if not found:
        raise IsthmusError(f"{name} has no train, valid or test split, but {', '.join(loaded)}")
    return found
