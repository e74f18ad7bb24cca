"""Isthmus: language models as variational auto-encoders, with numbers that can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.models.generation import Generation
    from isthmus.runs.bundle import load

__version__ = "0.1.0"

__all__ = ["Generation", "__version__", "load"]

# torch and transformers take seconds to import; these names pay for them on first use.
_LAZY = {"load": "isthmus.runs.bundle", "Generation": "isthmus.models.generation"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
