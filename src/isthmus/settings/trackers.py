"""Experiment trackers that a run can report to: their names, and whether they are installed.

Light to import, so that a missing package is known before anything is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final, Literal, get_args

from isthmus.errors import IsthmusError

Tracker = Literal["wandb", "mlflow", "trackio", "tensorboard"]
TRACKERS: Final = get_args(Tracker)


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that there is not, or whose package is not installed.

    Raises:
        IsthmusError: There is one.
    """
    for name in names:
        if name not in TRACKERS:
            raise IsthmusError(f"report-to: got {name!r}, expected one of {', '.join(TRACKERS)}")
        # A folder of that name, such as wandb leaves, is found as well, but has no origin.
        if getattr(find_spec(name), "origin", None) is None:
            raise IsthmusError(f"report-to: {name} is not installed; run: pip install {name}")
