"""The threads of a run, which stay the same when it is resumed or repeated.

The last bits of a sum depend on how many threads take part in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from isthmus.settings import Settings, load_recipe


@contextmanager
def same_threads(settings: Settings, *recipes: Path) -> Iterator[None]:
    """Compute with the threads that the settings name, or that a run has had so far.

    Where neither says, the number stays. A recipe from a larger machine gets no more than there
    are cores.

    Args:
        settings: of the run.
        recipes: where the run has written its choice down, if it was begun before.
    """
    before, threads = torch.get_num_threads(), settings.train.threads
    for recipe in recipes:
        if not threads and recipe.is_file():
            threads = load_recipe(str(recipe)).train.threads
    if threads:
        torch.set_num_threads(min(threads, os.cpu_count() or threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)
