"""Control codes: a name that a model knows, and free text after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import final

from isthmus.data.labelled import label_index, split_label
from isthmus.errors import IsthmusError


@final
@dataclass(frozen=True)
class Code:
    """A code and the free text that refines it: ``Code("Reviews", "Rating: 5.0")``."""

    name: str
    detail: str = ""


@final
@dataclass(frozen=True)
class Mixture:
    """Codes and their weights, which are above 0 and sum to 1; one code has weight 1."""

    codes: tuple[Code, ...]
    weights: tuple[float, ...]


@final
@dataclass(frozen=True)
class CodeBook:
    """The codes of a model, in its order.

    Attributes:
        names: Of the codes.
        separator: Between a code and its detail, such as ":" in ``DESC:manner``; white space
            if empty.

    Raises:
        IsthmusError: No names, a duplicate, an empty name, or one that could not be read back.
    """

    names: tuple[str, ...]
    separator: str = ""

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise IsthmusError(f"codes: got {list(self.names)}, expected different names")
        for name in self.names:
            cut = self.separator and self.separator in name
            if cut or not name or name != name.strip() or "=" in name:
                forbidden = " or ".join(repr(each) for each in ("=", self.separator) if each)
                raise IsthmusError(
                    f"codes: got {name!r}, expected a name without white space around it and "
                    f"without {forbidden} in it; rename it"
                )

    def parse(self, text: str) -> Code:
        """Split a code into the longest known name that begins it, and its detail.

        Raises:
            IsthmusError: No known name begins it; the message has the nearest ones.
        """
        text = text.strip()
        if self.separator:
            name, detail = split_label(text, self.separator)
            return Code(self._known(name), detail)
        for name in sorted(self.names, key=len, reverse=True):
            detail = text.removeprefix(name)
            if text.startswith(name) and (not detail or detail[0].isspace()):
                return Code(name, detail.strip())
        return Code(self._known(self._nearest_beginning(text)))

    def _known(self, name: str) -> str:
        return self.names[label_index(name, self.names, "code")]

    def _nearest_beginning(self, text: str) -> str:
        """The first words of the text, as many as make them most like one of the names."""
        words = text.split()
        beginnings = {" ".join(words[: len(name.split())]): None for name in self.names}

        def likeness(beginning: str) -> float:
            return max(SequenceMatcher(None, beginning, name).ratio() for name in self.names)

        return max(beginnings, key=likeness)

    def requested(self, arguments: Sequence[str]) -> Mixture:
        """Read the codes that a user requests on the command line: one, or several with weights.

        ``Reviews "Rating: 5.0"`` is one code, and all that follows it is its detail.
        ``Books=0.7 Reviews=0.3`` are several; their weights are divided by their sum. A first
        argument with "=" in it starts a list of several, so an address that contains one must
        come after its code, as a separate argument.

        Raises:
            IsthmusError: No argument; an unknown code; a weight that is not a number above 0;
                codes with and without weights together.
        """
        if not arguments:
            raise IsthmusError(f"codes: got none, expected one, such as {self.names[0]}")
        bare = [text for text in arguments if "=" not in text]
        if "=" in arguments[0]:
            if bare:
                raise self._half_weighted(bare[0])
            return self._weighted(arguments)
        for text in arguments[1:]:
            if text.rpartition("=")[0].strip() in self.names:
                raise self._half_weighted(arguments[0])
        if not self.separator:
            return Mixture((self.parse(" ".join(arguments)),), (1.0,))
        first = self.parse(arguments[0])
        detail = " ".join([first.detail, *arguments[1:]]).strip()
        return Mixture((Code(first.name, detail),), (1.0,))

    def _weighted(self, arguments: Sequence[str]) -> Mixture:
        """Codes that all have a weight after their last "="."""
        parts = [text.rpartition("=") for text in arguments]
        codes = tuple(self.parse(name) for name, _, _ in parts)
        weights = [_weight(text) for _, _, text in parts]
        total = math.fsum(weights)
        return Mixture(codes, tuple(weight / total for weight in weights))

    def _half_weighted(self, bare: str) -> IsthmusError:
        """The error if some codes have a weight and one has none."""
        return IsthmusError(
            f"codes: got {bare!r} without a weight next to others that have one, expected all or "
            f"none with one; write {bare}=1"
        )


def _weight(text: str) -> float:
    """A number above 0."""
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise IsthmusError(
            f"weight of a code: got {text!r}, expected a number above 0 after the last '='; free "
            "text that contains '=' goes after its code, as an argument of its own"
        )
    return weight
