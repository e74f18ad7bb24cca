"""Starting up: the libraries of a verb that uses a model, imported at the least cost.

Only the command line does this, whose process is its own.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, final

UNUSED = ("accelerate", "scipy", "torch_distributed")
"""What transformers imports with its base classes where it is installed: for device maps, for the
losses of object detection, and for models in parts on several devices."""
COMPILER = "torch._dynamo"
"""A third of torch and all of sympy; it compiles models, which no verb does."""


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
    """To modules that are imported inside the block, packages are as if not installed, for good.

    For good, because these modules then lack the names that they would have imported from them.
    """
    from transformers import utils
    from transformers.utils import import_utils

    before = {f"is_{name}_available": getattr(utils, f"is_{name}_available") for name in packages}
    for name in before:
        vars(utils)[name] = vars(import_utils)[name] = _no
    try:
        yield
    finally:
        vars(utils).update(before)
        vars(import_utils).update(before)


def _no(*_: Any) -> bool:
    return False


@final
class _Postponed(ModuleType):
    """A module that is run once something asks for a name that it has not been given."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what inspect asks of every module
            raise AttributeError(name)
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _as_it_is(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator that changes nothing."""
    return _as_it_is if function is None else function


def _postpone_compiler() -> None:
    """Leave torch's compiler out until something is compiled: models only mark code for it."""
    spec = find_spec(COMPILER)
    if COMPILER in sys.modules or spec is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _Postponed
    for decorator in ("disable", "assume_constant_result", "allow_in_graph"):
        setattr(module, decorator, _as_it_is)
    sys.modules[COMPILER] = module


def import_models() -> None:
    """Import the base classes of all models, without what they need not where that works."""
    _postpone_compiler()
    with suppress(ImportError), _absent(*UNUSED):
        import transformers.generation.utils
        import transformers.modeling_utils  # noqa: F401
