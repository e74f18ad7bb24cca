"""Starting up: the libraries of a verb that uses a model, imported at the least cost.

Only the command line does this, whose process is its own.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

UNUSED = ("accelerate", "scipy")
"""Optional packages that transformers imports with its base class if they are installed: for
device maps and for the losses of object detection."""


@contextmanager
def importing() -> Iterator[None]:
    """Import without looking for garbage: there is none, and the search takes a second."""
    first = "transformers.modeling_utils" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if first:
            gc.freeze()  # modules stay, so no later search need visit them
        gc.enable()


@contextmanager
def _absent(*packages: str) -> Iterator[None]:
    """Inside the block, packages that nothing has imported yet are as if not installed."""
    from transformers.utils import import_utils

    hidden = [name for name in packages if name not in sys.modules]
    checks = [getattr(import_utils, f"is_{name}_available") for name in hidden]
    for name, check in zip(hidden, checks, strict=True):
        # None is Python's sign of a package that is not there.
        sys.modules[name] = None  # type: ignore[assignment]
        check.cache_clear()
    try:
        yield
    finally:
        for name, check in zip(hidden, checks, strict=True):
            del sys.modules[name]
            check.cache_clear()


def import_models() -> None:
    """Import the base classes of all models, without what they need not where that works."""
    with suppress(ImportError), _absent(*UNUSED):
        import transformers.generation.utils
        import transformers.modeling_utils  # noqa: F401
