"""What every kind of data has: a corpus, its splits, and how its examples are named and read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError, one_line
from isthmus.settings import Settings

if TYPE_CHECKING:
    from isthmus.data.stream import TextStream

LINES = 20
"""Lines about single examples that a report shows; of more it shows their number."""

_FEW_LABELS = 10
"""As many labels say nothing about whether they are some."""


class Kind(ABC):
    """A kind of data: everything that depends on what one example is.

    There is one object of each kind, in the file of its corpus; :mod:`isthmus.data.kinds` lists
    them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """What a model of it is called: a NAME model."""
    field: ClassVar[str]
    """The key of an example in JSON."""
    unit: ClassVar[str]
    """What numbers count: nats per UNIT."""
    has_text: ClassVar[bool] = False
    has_pictures: ClassVar[bool] = False
    label_source: ClassVar[str]
    """Where DATA of this kind holds labels."""

    @property
    def is_mixed(self) -> bool:
        """Whether an example can be a text, a picture, or both."""
        return self.has_text and self.has_pictures

    @abstractmethod
    def read(self, data: str, config: Mapping[str, Any], limit: int | None = None) -> Corpus:
        """Read a corpus as a model reads it.

        Args:
            data: What the user names.
            config: The model's configuration, as config.json holds it.
            limit: The first N examples only.
        """

    @abstractmethod
    def read_splits(self, data: str, settings: Settings) -> Splits[Any]:
        """Read what training needs."""

    @abstractmethod
    def example(self, text: str | None = None, picture: NDArray[np.uint8] | None = None) -> Any:
        """An example as models take it, from the parts that it can have."""

    @abstractmethod
    def named(self, word: str, config: Mapping[str, Any]) -> Any:
        """The example that a word on the command line names; arguments as for `read`."""

    def of_texts(self, texts: Corpus) -> Corpus:
        """A corpus of texts as one of this kind."""
        return texts


@final
@dataclass(frozen=True)
class Floor:
    """The entropy of a source, where it is known: no model needs fewer nats on average."""

    source: str
    nats: float
    """Per example, or what is known of it: of a picture with a caption, that of the caption."""
    deviation: float
    """Standard deviation of −ln p of one example."""


class Corpus(ABC):
    """Examples in the order of their source, with what the reader skipped and why."""

    kind: ClassVar[Kind]
    each: ClassVar[tuple[str, ...]]
    """The fields that hold one value for each example."""

    examples: Any
    """What a model is given."""
    names: list[str]
    """What to call each example."""
    labels: list[str] | None
    """The label of each example; None unless all have one."""
    source: str
    skipped: dict[str, int]
    """Reason → number of lines, rows or files."""
    notes: list[str]
    """Decisions of the reader that its user should know of."""
    floor: Floor | None = None
    """What no model can beat on such examples."""
    stream: TextStream | None = None
    """All examples, where these are a sample of them."""
    lines: list[str]
    """One for each example that the reader skipped or converted: which, what, expected."""

    @abstractmethod
    def contents(self) -> Iterator[bytes]:
        """Everything that the fingerprint covers."""

    def key(self, place: int) -> Hashable:
        """Equal for examples of which all or none must be in train."""
        return self.names[place]

    @property
    def known_labels(self) -> Sequence[str | None] | None:
        """The label of each example, None where it is missing; None if there are no labels."""
        return self.labels

    @property
    def titles(self) -> list[str]:
        """What to show of each example in a list."""
        return self.names

    @property
    def form(self) -> str:
        """What all examples share, behind their number; empty where nothing is to be said."""
        return ""

    @property
    def word_counts(self) -> list[int] | None:
        """Words of each example, of a corpus of texts; None of others."""
        return None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over examples and labels, in hexadecimal digits."""
        digest = hashlib.sha256()
        for content in self.contents():
            digest.update(content)
        return digest.hexdigest()

    @cached_property
    def warnings(self) -> list[str]:
        """What the reader did to single examples, and what is readable but hardly meant."""
        lines = self.lines[:LINES]
        if len(self.lines) > LINES:
            more = len(self.lines) - LINES
            lines.append(f"… and {more:,} more {self.kind.unit}s skipped or converted")
        places = range(len(self))
        if len(self) > 1 and all(self.key(place) == self.key(0) for place in places):
            lines.append(f"{self.source}: all {len(self):,} {self.kind.unit}s are equal")
        labels = len(set(self.labels or []))
        if labels > max(_FEW_LABELS, len(self) / 2):
            lines.append(
                f"{self.source}: {labels:,} different labels of {len(self):,} {self.kind.unit}s; "
                "are they labels?"
            )
        return [one_line(line) for line in lines]

    def summary(self) -> str:
        """How many examples, and how many labels they have."""
        count = f"{len(self):,} {self.kind.unit}{'s' if len(self) > 1 else ''}{self.form}"
        if self.labels is None:
            return count
        labels = len(set(self.labels))
        return f"{count} with {labels:,} label{'' if labels == 1 else 's'}"

    def report(self) -> str:
        """One line: source, number of examples, what was skipped, what was decided."""
        parts = [self.summary()]
        if self.skipped:
            parts.append(f"skipped {counts(self.skipped)}")
        return one_line(f"{self.source}: " + "; ".join(parts + self.notes))

    def part(self, places: NDArray[Any] | slice, **changes: Any) -> Self:
        """The examples at some places: indices, a mask or a slice."""
        chosen = np.arange(len(self))[places].tolist()
        own = {name: vars(self)[name] for name in self.each}
        kept = {
            name: values[places] if isinstance(values, np.ndarray) else [values[n] for n in chosen]
            for name, values in own.items()
            if values is not None
        }
        corpus: Any = self
        return replace(corpus, **kept, **changes)

    def limited(self, limit: int | None) -> Self:
        """The first examples, with a note on it if there are more."""
        if limit is None or limit >= len(self):
            return self
        note = f"the first of {len(self):,} (limit)"
        return self.part(slice(limit), notes=[*self.notes, note])

    def sample(self, count: int, seed: int) -> Self:
        """A random sample to judge the whole by, with a note on it if there are more examples."""
        if count >= len(self):
            return self
        note = f"a random sample of {count:,}"
        return self.part(np.array(sampled(len(self), count, seed)), notes=[*self.notes, note])


AnyCorpus = TypeVar("AnyCorpus", bound=Corpus)


@final
@dataclass(frozen=True)
class Splits(Generic[AnyCorpus]):
    """What training needs: examples to learn from, to choose by, and perhaps to test on."""

    train: AnyCorpus
    valid: AnyCorpus
    test: AnyCorpus | None
    repeated: dict[str, int]
    """For valid and test: how many of their examples are also in train."""

    def report(self) -> str:
        """The report of each split, and a line for examples that splits share."""
        parts = [part for part in (self.train, self.valid, self.test) if part is not None]
        lines = [part.report() for part in parts]
        lines += [warning for part in parts for warning in part.warnings]
        if len(self.valid) == 1:
            unit = self.train.kind.unit
            lines.append(
                f"one {unit} to judge by: its figures have no standard error; give more {unit}s"
            )
        lines += [
            f"{self.train.kind.field}s of {name} that are also in train: {count:,} (kept)"
            for name, count in self.repeated.items()
            if count
        ]
        return "\n".join(lines)


def make_splits(
    train: AnyCorpus,
    read: Callable[[str], AnyCorpus | None],
    *,
    valid_fraction: float = 0.05,
    valid_limit: int = 2_000,
    seed: int = 0,
) -> Splits[AnyCorpus]:
    """Complete the splits of a corpus; hold out a part of train if there is no valid.

    Args:
        train: What was read to train on.
        read: Reads "valid" or "test"; None where the source has no such split.
        valid_fraction: Share of the training examples to hold out, at least one.
        valid_limit: Hold out no more than this.
        seed: Which are held out is a function of the seed and their places.

    Raises:
        IsthmusError: There are fewer than two examples.
    """
    if not 0 < valid_fraction < 1:
        raise IsthmusError(f"valid_fraction must lie between 0 and 1, got {valid_fraction}")
    if len(train) < 2:
        more = f"; {train.lines[0]}" if train.lines else ""
        why = f" (skipped {counts(train.skipped)}{more})" if train.skipped else ""
        raise IsthmusError(
            f"{train.source} has one {train.kind.unit} only: training needs at least 2{why}"
        )
    test, valid = read("test"), read("valid")
    if valid is None:
        is_held = held_out(_keys(train), valid_fraction, valid_limit, seed)
        name = f"{train.source} (held out, seed {seed})"
        valid = train.part(is_held, source=name, skipped={}, notes=[], lines=[])
        train = train.part(~is_held)
    known = set(_keys(train))
    others = {"valid": valid} if test is None else {"valid": valid, "test": test}
    repeated = {name: sum(key in known for key in _keys(one)) for name, one in others.items()}
    return Splits(train, valid, test, repeated)


def _keys(corpus: Corpus) -> list[Hashable]:
    return [corpus.key(place) for place in range(len(corpus))]


def held_out(keys: Sequence[Hashable], fraction: float, most: int, seed: int) -> NDArray[np.bool_]:
    """Split by a random order of the distinct examples, so that all copies of one go together.

    Args:
        keys: Equal for copies of one example, N of them.
        fraction: Share to hold out, at least one example.
        most: Hold out no more than this.
        seed: Of the order.

    Returns:
        Which are held out, [N].
    """
    size = min(max(1, round(fraction * len(keys))), most, len(keys) - 1)
    copies: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        copies.setdefault(key, []).append(index)
    groups = list(copies.values())
    # Philox, because its draws are the same on every machine.
    generator = np.random.Generator(np.random.Philox(key=seed % 2**64))
    order = generator.permutation(len(groups))
    held: list[int] = []
    for group in order:
        if len(held) + len(groups[group]) <= size:
            held += groups[group]
        if len(held) == size:
            break
    # Where every example has more copies than may be held out, a copy has to stay in train.
    held = held or [groups[order[0]][0]]
    is_held = np.zeros(len(keys), dtype=bool)
    is_held[held] = True
    return is_held


def sampled(total: int, count: int, seed: int) -> list[int]:
    """The places of a random sample, in order; all places if there are no more than ``count``.

    Whatever is judged by a part of its data takes its part from here: files are often sorted, so
    the first examples stand for nothing but themselves.
    """
    order = np.random.default_rng(seed % 2**64).permutation(total)
    return sorted(order[:count].tolist())


def choose(there: Collection[str], data: str, split: str | None) -> str:
    """The split asked for; without one the split to judge by: test, else valid, else train.

    Raises:
        IsthmusError: DATA has no such split.
    """
    split = split or next(name for name in ("test", "valid", "train") if name in there)
    if split not in there:
        raise IsthmusError(f"{data} has no {split} split, only {', '.join(there)}")
    return split


def counts(reasons: Mapping[str, int]) -> str:
    """How many were skipped and why, in words."""
    return ", ".join(
        f"{number:,} {why.removesuffix('s') if number == 1 else why}"
        for why, number in reasons.items()
    )


def framed(contents: Iterable[str | bytes]) -> Iterator[bytes]:
    """Each content behind its length, so that no two sequences look alike when joined."""
    for content in contents:
        encoded = content.encode() if isinstance(content, str) else content
        yield b"%d\n" % len(encoded) + encoded
