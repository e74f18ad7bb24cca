"""The parts of a grammar: the factors of a scene, and the nodes of the tree that words it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from isthmus.errors import IsthmusError

ARTICLE = "a(n)"
"""A terminal that becomes "an" before a vowel and "a" elsewhere."""

ABSENT = "none"
"""The value of a factor that does not apply to a scene."""


def article(following: str) -> str:
    """The indefinite article before a word, by its first letter."""
    return "an" if following[:1] in tuple("aeiou") else "a"


def spelled(words: str) -> str:
    """Words with every article written out."""
    for vowel in "aeiou":
        words = words.replace(f"{ARTICLE} {vowel}", f"an {vowel}")
    return words.replace(ARTICLE, "a")


@dataclass(frozen=True)
class Factor:
    """A property of a scene, drawn with fixed probabilities.

    Attributes:
        name: The label's name.
        weights: Value → weight, scaled to sum to 1.
        unless: (another factor, its value) that makes this one absent ("none").
    """

    name: str
    weights: Mapping[str, float]
    unless: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights.values()) <= 0:
            raise IsthmusError(f"factor '{self.name}' needs values with weights above 0")
        total = sum(self.weights.values())
        scaled = {value: weight / total for value, weight in self.weights.items()}
        object.__setattr__(self, "weights", scaled)

    @property
    def values(self) -> tuple[str, ...]:
        """All values; "none" is the last if the factor may be absent."""
        return (*self.weights, ABSENT) if self.unless else tuple(self.weights)

    def probability(self, scene: Mapping[str, str]) -> float:
        """P(the scene's value of this factor | the rest of the scene)."""
        if self.unless and scene[self.unless[0]] == self.unless[1]:
            return float(scene[self.name] == ABSENT)
        return self.weights.get(scene[self.name], 0.0)

    def restrict(self, values: Sequence[str]) -> "Factor":
        """The same factor with fewer values, in the same proportions."""
        unknown = set(values) - set(self.weights)
        if unknown:
            raise IsthmusError(
                f"'{self.name}' has no value {sorted(unknown)}; "
                f"its values are {list(self.weights)}"
            )
        return Factor(self.name, {v: self.weights[v] for v in values}, self.unless)


@dataclass(frozen=True, eq=False, init=False)
class Choice:
    """One of several options at random, with equal weights by default."""

    options: "tuple[Node, ...]"
    weights: tuple[float, ...]

    def __init__(self, *options: "Node", weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(options) if weights is None else weights
        if not options or len(weights) != len(options) or min(weights) <= 0:
            raise IsthmusError(f"a choice needs a weight above 0 for each option, got {weights}")
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "weights", tuple(w / sum(weights) for w in weights))


@dataclass(frozen=True, eq=False)
class Given:
    """The case for the scene's value of a factor."""

    factor: str
    cases: "Mapping[str, Node]"


Node: TypeAlias = "str | tuple[Node, ...] | Choice | Given"


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below a node."""
    match node:
        case str():
            return ()
        case tuple():
            return node
        case Choice():
            return node.options
        case Given():
            return tuple(node.cases.values())


def terminals(node: Node) -> Iterator[str]:
    """All strings in the tree from a node down."""
    if isinstance(node, str):
        yield node
    for child in children(node):
        yield from terminals(child)


def columns(node: Node) -> int:
    """The largest number of random numbers that one walk through the node uses."""
    below = [columns(child) for child in children(node)]
    if isinstance(node, tuple):
        return sum(below)
    return isinstance(node, Choice) + max(below, default=0)
