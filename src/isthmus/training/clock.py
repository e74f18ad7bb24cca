"""The time that a command may take, over all its resumptions."""

from __future__ import annotations

import math
import time
from typing import final

TRAINED = 0.94
"""Share of the time after which the last step is planned; measuring and saving take the rest."""
STOPPED = 1.0
"""Share after which training stops, should the machine have become slower. It is later, because
only a run with all its steps can be repeated exactly, and its learning rate has fallen to 0."""
_SAVING = 2.0
"""Seconds, beside those shares, to load the best weights, draw the curves and save the model."""


@final
class Clock:
    """What a command has used of its time.

    Args:
        minutes: that it may take; 0 for no limit.
        fitting: share of them that is kept for what follows training.
        began: ``time.monotonic()`` when it began; now by default.
    """

    def __init__(
        self, minutes: float = 0.0, fitting: float = 0.0, began: float | None = None
    ) -> None:
        self.seconds, self.fitting = 60 * minutes or math.inf, fitting
        self.began = time.monotonic() if began is None else began
        self.struck = False
        """Whether the clock has stopped the run."""

    @property
    def elapsed(self) -> float:
        """Seconds used so far."""
        return time.monotonic() - self.began

    def until(self, share: float) -> float:
        """Seconds until that share of the time is used; negative once it is.

        What is kept for fitting comes off every share.
        """
        return (share - self.fitting) * self.seconds - _SAVING - self.elapsed

    def add(self, seconds: float) -> None:
        """Count what an earlier command, which this one continues, has used."""
        self.began -= seconds
