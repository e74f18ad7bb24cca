"""Isthmus: language models as variational auto-encoders, with numbers that can be trusted.

Examples:
    >>> import isthmus
    >>> space = isthmus.fit("reviews.txt", "runs/reviews")  # doctest: +SKIP
    >>> space.interpolate("the food was cold", "a lovely evening")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.api import (
        Space,
        analogy,
        arithmetic,
        cluster,
        evaluate,
        exchange,
        fit,
        interpolate,
        invert,
        neighbours,
        optimise,
        sample,
    )
    from isthmus.data.corpus import read
    from isthmus.data.vectors import embedded
    from isthmus.errors import IsthmusError
    from isthmus.models.generation import Generation
    from isthmus.runs.bundle import load

__version__ = "0.2.0.dev0"

__all__ = [
    "Generation",
    "IsthmusError",
    "Space",
    "__version__",
    "analogy",
    "arithmetic",
    "cluster",
    "embedded",
    "evaluate",
    "exchange",
    "fit",
    "interpolate",
    "invert",
    "load",
    "neighbours",
    "optimise",
    "read",
    "sample",
]

# torch and transformers take seconds to import; each name pays for them on first use.
_HOMES = {
    "Generation": "isthmus.models.generation",
    "IsthmusError": "isthmus.errors",
    "embedded": "isthmus.data.vectors",
    "load": "isthmus.runs.bundle",
    "read": "isthmus.data.corpus",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "isthmus.api")), name)


def __dir__() -> list[str]:
    return __all__
