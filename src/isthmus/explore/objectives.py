"""Functions of texts that a search maximises: called with care, once for each text."""

from __future__ import annotations

import math
import typing
from collections import abc
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any, NamedTuple, final

from isthmus.errors import IsthmusError, reason_of

Function = Callable[..., Any]
"""A text → a number, or a list of texts → a list of numbers."""


class Value(NamedTuple):
    """What an objective says of a text."""

    value: float | None
    """None where it failed, returned None, or no finite number."""
    fault: str = ""
    """Why it failed, in one line."""


@final
class Objective:
    """A function of texts with the values that are known already.

    It takes a list of texts, and returns as many numbers, if its first parameter is annotated as
    a list or a sequence; otherwise one text. What it raises is kept as the text's fault.

    Args:
        function: to be maximised.

    Raises:
        IsthmusError: it cannot be called.
    """

    def __init__(self, function: Function) -> None:
        if not callable(function):
            raise IsthmusError(
                f"objective: got {type(function).__name__}, expected a function of a text"
            )
        self.function, self.takes_list = function, _takes_list(function)
        self.known: dict[str, Value] = {}

    def values(self, texts: Sequence[str]) -> Iterator[Value]:
        """The values of texts in order, each once it is known."""
        if self.takes_list:
            missing = list(dict.fromkeys(text for text in texts if text not in self.known))
            if missing:
                self.known.update(zip(missing, self._of_list(missing), strict=True))
        for text in texts:
            if text not in self.known:
                self.known[text] = self._of_one(text)
            yield self.known[text]

    def _of_one(self, text: str) -> Value:
        try:
            return _number(self.function(text))
        except Exception as error:  # whatever a user's function raises
            return Value(None, reason_of(error))

    def _of_list(self, texts: list[str]) -> list[Value]:
        try:
            found = list(self.function(texts))
        except Exception as error:  # whatever a user's function raises
            return [Value(None, reason_of(error))] * len(texts)
        if len(found) != len(texts):
            raise IsthmusError(
                f"objective: returned {len(found):,} values for {len(texts):,} texts, expected "
                "one for each; None where there is none"
            )
        return [_checked(one) for one in found]


def _checked(given: Any) -> Value:
    try:
        return _number(given)
    except Exception as error:  # whatever float() of a user's object raises
        return Value(None, reason_of(error))


def _number(given: Any) -> Value:
    if given is None:
        return Value(None)
    value = float(given)
    return Value(value) if math.isfinite(value) else Value(None)


def _takes_list(function: Function) -> bool:
    """Whether the first parameter is annotated as a list or a sequence of texts."""
    try:
        first = next(iter(signature(function).parameters.values())).annotation
    except (StopIteration, TypeError, ValueError):  # of C, without a signature
        return False
    if isinstance(first, str):  # annotations are not evaluated
        return first.rpartition(".")[2].lower().startswith(("list", "sequence", "iterable"))
    kinds = (list, abc.Sequence, abc.Iterable)
    return first in kinds or typing.get_origin(first) in kinds
