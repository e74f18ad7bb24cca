"""The numbers that a setting may have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from isthmus.errors import IsthmusError


class Range(NamedTuple):
    """An allowed range. It excludes NaN."""

    words: str
    holds: Callable[[float], bool]


POSITIVE: Final = Range("> 0", lambda value: 0 < value < math.inf)
NOT_NEGATIVE: Final = Range("≥ 0", lambda value: 0 <= value < math.inf)
AT_LEAST_ONE: Final = Range("≥ 1", lambda value: value >= 1)
AT_LEAST_THREE: Final = Range("≥ 3 (start, a token, end)", lambda value: value >= 3)
FRACTION: Final = Range("from 0 to 1", lambda value: 0 <= value <= 1)
RATE: Final = Range("from 0 to below 1", lambda value: 0 <= value < 1)
SEED: Final = Range("from 0 to 2³² − 1", lambda value: 0 <= value < 2**32)


def check(group: str, settings: Any, ranges: dict[Range, tuple[str, ...]]) -> None:
    """Refuse the first number outside its range, under the name used in recipes and flags."""
    for allowed, names in ranges.items():
        for name in names:
            value = vars(settings)[name]
            if not allowed.holds(value):
                raise IsthmusError(f"{group}.{name} must be {allowed.words}, got {value}")
