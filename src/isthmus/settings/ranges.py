"""The numbers that a setting may have, as types of its field."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, get_type_hints

from isthmus.errors import IsthmusError


class Range(NamedTuple):
    """An allowed range. It excludes NaN."""

    words: str
    holds: Callable[[float], bool]


_NOT_NEGATIVE = Range("≥ 0", lambda value: 0 <= value < math.inf)
Count = Annotated[int, _NOT_NEGATIVE]
Size = Annotated[int, Range("≥ 1", lambda value: value >= 1)]
Length = Annotated[int, Range("≥ 3 (start, a token, end)", lambda value: value >= 3)]
Seed = Annotated[int, Range("from 0 to 2³² − 1", lambda value: 0 <= value < 2**32)]
Weight = Annotated[float, _NOT_NEGATIVE]
Positive = Annotated[float, Range("> 0", lambda value: 0 < value < math.inf)]
Fraction = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
Rate = Annotated[float, Range("from 0 to below 1", lambda value: 0 <= value < 1)]


def check(settings: Any, prefix: str = "") -> None:
    """Refuse the first number outside its range, under the name used in recipes and flags."""
    for name, kind in get_type_hints(type(settings), include_extras=True).items():
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            check(value, f"{prefix}{name}.")
        for allowed in getattr(kind, "__metadata__", ()):
            if isinstance(allowed, Range) and not allowed.holds(value):
                raise IsthmusError(f"{prefix}{name} must be {allowed.words}, got {value}")
