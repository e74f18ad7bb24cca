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
    """A code and what says more of it: ``Code("Reviews", "Rating: 5.0")``."""

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
        names: of the codes.
        separator: what stands between a code and its detail, such as ":" in ``DESC:manner``;
            white space where it is empty.

    Raises:
        IsthmusError: No names, a name twice, an empty one, or one that could not be read back.
    """

    names: tuple[str, ...]
    separator: str = ""

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise IsthmusError(f"codes: got {list(self.names)}, expected different names")
        for name in self.names:
            cut = self.separator and self.separator in name
            if cut or not name or name != name.strip() or "=" in name:
                raise IsthmusError(
                    f"codes: got {name!r}, expected a name without white space around it and "
                    f"without any of '=' {self.separator!r} in it; rename it"
                )

    def index(self, name: str) -> int:
        """Return the place of a code.

        Raises:
            IsthmusError: There is no such code; the nearest ones are told.
        """
        return label_index(name, self.names, "code")

    def parse(self, text: str) -> Code:
        """Take a code apart: the longest known name that begins the text, then its detail.

        Raises:
            IsthmusError: No known name begins it; the nearest ones are told.
        """
        text = text.strip()
        if self.separator:
            name, detail = split_label(text, self.separator)
            return Code(self.names[self.index(name)], detail)
        for name in sorted(self.names, key=len, reverse=True):
            detail = text.removeprefix(name)
            if text.startswith(name) and (not detail or detail[0].isspace()):
                return Code(name, detail.strip())
        return Code(self.names[self.index(self._nearest_beginning(text))])

    def _nearest_beginning(self, text: str) -> str:
        """As many words of the text as one of the names has, chosen for likeness to a name."""
        words = text.split()
        beginnings = {" ".join(words[: len(name.split())]): None for name in self.names}

        def likeness(beginning: str) -> float:
            return max(SequenceMatcher(None, beginning, name).ratio() for name in self.names)

        return max(beginnings, key=likeness)

    def text(self, code: Code) -> str:
        """A code as it is written, which :meth:`parse` reads back.

        Raises:
            IsthmusError: The code is unknown, or would be read back as another one.
        """
        text = f"{code.name}{self.separator or ' '}{code.detail}" if code.detail else code.name
        if (found := self.parse(text)) != code:
            raise IsthmusError(
                f"code: got {code}, which would be read back as {found}; expected a detail "
                "without white space around it that does not go on to another code's name"
            )
        return text

    def requested(self, arguments: Sequence[str]) -> Mixture:
        """Read what a user asks for on a command line: one code, or several with weights.

        ``Reviews "Rating: 5.0"`` is one code, and all that follows it is its detail.
        ``Books=0.7 Reviews=0.3`` are several; their weights are divided by their sum. A first
        argument with "=" in it is the start of several, so that an address with one has to stand
        after its code, in an argument of its own.

        Raises:
            IsthmusError: No argument; an unknown code; a weight that is no number above 0; codes
                with and without weights together.
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
        return Mixture((self._one(arguments),), (1.0,))

    def _one(self, arguments: Sequence[str]) -> Code:
        """A code and all that follows it."""
        if not self.separator:
            return self.parse(" ".join(arguments))
        first = self.parse(arguments[0])
        return Code(first.name, " ".join([first.detail, *arguments[1:]]).strip())

    def _weighted(self, arguments: Sequence[str]) -> Mixture:
        """Codes that all have a weight after their last "="."""
        parts = [text.rpartition("=") for text in arguments]
        codes = tuple(self.parse(name) for name, _, _ in parts)
        weights = [_weight(text) for _, _, text in parts]
        total = math.fsum(weights)
        return Mixture(codes, tuple(weight / total for weight in weights))

    def _half_weighted(self, bare: str) -> IsthmusError:
        """The error where some codes have a weight and one has none."""
        return IsthmusError(
            f"codes: got {bare!r} without a weight beside others that have one, expected all or "
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
            "text that has '=' in it goes after its code, in an argument of its own"
        )
    return weight
