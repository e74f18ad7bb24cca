"""A probabilistic grammar whose sampling, parsing and entropies are exact.

A sentence is sampled in two steps: first a *scene*, one value for each `Factor`; then the
*wording*, a walk through a tree of nodes in which every `Choice` picks an option. A node is

* a string: its words (`ARTICLE` becomes "a" or "an" by the word that follows),
* a tuple: its parts in order,
* `Choice(...)`: one of its options at random (paraphrase), or
* `Given(factor, ...)`: the case for the scene's value of a factor (agreement).

A derivation d is a scene and its choices, with p(d) = p(scene) · Π p(choices). If every sentence
has exactly one derivation, p(sentence) = p(d), and the entropy of sentences is that of
derivations: an exact sum over the tree.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from isthmus.data.scenes.draw import Draw
from isthmus.data.scenes.exact import Entropy, exact_entropy
from isthmus.data.scenes.nodes import (
    ABSENT,
    ARTICLE,
    Choice,
    Factor,
    Given,
    Node,
    article,
    children,
    columns,
    spelled,
    terminals,
)
from isthmus.errors import IsthmusError

BLOCK = 1 << 16
"""Sentences sampled at a time: bounds the memory and does not change the samples."""

Picks: TypeAlias = frozenset[tuple[tuple[int, ...], int]]
"""The place of a choice in the tree (steps into tuples and options), and the option taken."""


class Sentence(NamedTuple):
    """A sentence, the scene it describes, and log p(text) in nats."""

    text: str
    factors: dict[str, str]
    log_probability: float


class Grammar:
    """Factors and a tree of nodes, as the module describes.

    Raises:
        IsthmusError: The tree does not match the factors or their values.
    """

    def __init__(self, factors: Sequence[Factor], root: Node) -> None:
        self.factors = tuple(factors)
        self.root = root
        self._axis = {factor.name: axis for axis, factor in enumerate(self.factors)}
        for position, factor in enumerate(self.factors):
            if factor.unless and self._axis.get(factor.unless[0], position) >= position:
                raise IsthmusError(
                    f"factor '{factor.name}' depends on '{factor.unless[0]}', which must be "
                    "declared before it"
                )
        self._check(root)

    def _check(self, node: Node) -> None:
        if isinstance(node, Given):
            if node.factor not in self._axis:
                raise IsthmusError(
                    f"the grammar uses the factor '{node.factor}', which is not among "
                    f"{list(self._axis)}"
                )
            missing = set(self._factor(node.factor).weights) - set(node.cases)
            if missing:
                raise IsthmusError(f"no case for '{node.factor}' = {sorted(missing)}")
        for child in children(node):
            self._check(child)

    def _factor(self, name: str) -> Factor:
        return self.factors[self._axis[name]]

    def restrict(self, values: Mapping[str, Sequence[str]]) -> "Grammar":
        """The same tree with fewer values: each named factor keeps only the given ones."""
        return Grammar(
            [
                factor.restrict(values[factor.name]) if factor.name in values else factor
                for factor in self.factors
            ],
            self.root,
        )

    def vocabulary(self) -> list[str]:
        """All words of the tree, in alphabetical order."""
        words = {word for text in terminals(self.root) for word in text.split()}
        if ARTICLE in words:
            words = words - {ARTICLE} | {"a", "an"}
        return sorted(words)

    def sample(self, key: tuple[int, int], start: int, count: int) -> list[Sentence]:
        """Sentences start … start + count − 1 of the endless stream with this key.

        Sentence i uses row i of a counter-based stream (Philox 4×64, Salmon et al. 2011,
        https://doi.org/10.1145/2063384.2063405), so it does not depend on start and count.
        """
        sentences: list[Sentence] = []
        for first in range(start, start + count, BLOCK):
            sentences += self._block(key, first, min(BLOCK, start + count - first))
        return sentences

    def _block(self, key: tuple[int, int], start: int, count: int) -> Iterator[Sentence]:
        width = len(self.factors) + columns(self.root)
        width += -width % 4  # the generator's counter advances by four numbers
        random = np.random.Philox(key=np.array(key, dtype=np.uint64), counter=start * width // 4)
        raw = random.random_raw(count * width).reshape(count, width)
        uniforms = np.ldexp((raw >> np.uint64(11)).astype(np.float64), -53)  # on [0, 1)
        draw = Draw(self.factors, uniforms)
        texts = draw.texts(self.root)
        names = tuple(self._axis)
        scenes = (dict(zip(names, row, strict=True)) for row in zip(*draw.labels(), strict=True))
        return map(Sentence, texts, scenes, draw.log_probability.tolist())

    def derivations(self, text: str) -> list[Sentence]:
        """All derivations of a text: one for a sentence of the grammar, none for other texts."""
        words = text.split(" ")
        return [
            Sentence(text, scene, self._scene_log_probability(scene) + log_probability)
            for end, partial, log_probability in self._match(self.root, words, 0, {})
            if end == len(words)
            for scene in self._completions(partial)
        ]

    def parse(self, text: str) -> Sentence:
        """The sentence with its factors and its log-probability.

        Raises:
            IsthmusError: The text does not have exactly one derivation.
        """
        found = self.derivations(text)
        if len(found) != 1:
            raise IsthmusError(
                f"expected a sentence with one derivation, got {text!r} with {len(found)}; "
                "sentences of the corpus are lower case, one space between words, no punctuation"
            )
        return found[0]

    def log_probability(self, text: str) -> float:
        """log p(text) in nats; −inf for a text outside the grammar."""
        logs = [sentence.log_probability for sentence in self.derivations(text)]
        return float(np.logaddexp.reduce(logs)) if logs else -math.inf

    def wordings(self, scene: Mapping[str, str]) -> list[Sentence]:
        """All sentences for a scene.

        Raises:
            IsthmusError: A factor is missing or unknown, or has an impossible value.
        """
        self._check_scene(scene)
        base = self._scene_log_probability(scene)
        return [
            Sentence(spelled(words), dict(scene), base + log_probability)
            for words, log_probability, _ in _wordings(self.root, scene, ())
        ]

    def counterpart(self, text: str, changes: Mapping[str, str]) -> Sentence:
        """The same sentence with some factors changed.

        It makes the same choices (word order, synonyms) where the new scene offers them, and
        takes the first option elsewhere. A factor that the new scene cannot have becomes "none".

        Raises:
            IsthmusError: The text is outside the grammar, or the new scene is impossible.
        """
        scene = self.parse(text).factors
        changed = {**scene, **changes}
        for factor in self.factors:
            if factor.unless and changed[factor.unless[0]] == factor.unless[1]:
                changed[factor.name] = ABSENT
        candidates = self.wordings(changed)
        picks = next(
            picks for words, _, picks in _wordings(self.root, scene, ()) if spelled(words) == text
        )
        shared = [len(picks & other) for _, _, other in _wordings(self.root, changed, ())]
        return candidates[shared.index(max(shared))]

    def enumerate(self) -> Iterator[Sentence]:
        """Every derivation, for grammars small enough to enumerate."""
        for scene in self._completions({}):
            yield from self.wordings(scene)

    @cached_property
    def entropy(self) -> Entropy:
        """The exact entropies, in nats."""
        return exact_entropy(self.factors, self.root)

    def _match(
        self, node: Node, words: list[str], position: int, scene: dict[str, str]
    ) -> Iterator[tuple[int, dict[str, str], float]]:
        """All (end, factors known so far, log p of the choices) with which a node fits `words`."""
        match node:
            case str():
                end = position
                for word in node.split():
                    following = words[end + 1] if end + 1 < len(words) else ""
                    expected = article(following) if word == ARTICLE else word
                    if end == len(words) or words[end] != expected:
                        return
                    end += 1
                yield end, scene, 0.0
            case tuple():
                if not node:
                    yield position, scene, 0.0
                    return
                for middle, known, first in self._match(node[0], words, position, scene):
                    for end, final, rest in self._match(node[1:], words, middle, known):
                        yield end, final, first + rest
            case Choice():
                for weight, option in zip(node.weights, node.options, strict=True):
                    for end, known, inner in self._match(option, words, position, scene):
                        yield end, known, math.log(weight) + inner
            case Given(factor=factor):
                known_value = scene.get(factor)
                values = [known_value] if known_value else self._factor(factor).weights
                for value in values:
                    bound = scene if known_value else {**scene, factor: value}
                    yield from self._match(node.cases[value], words, position, bound)

    def _completions(self, partial: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """All scenes with p > 0 that agree with the known factors."""
        names = list(self._axis)
        known = [
            [partial[factor.name]] if factor.name in partial else factor.values
            for factor in self.factors
        ]
        for values in itertools.product(*known):
            scene = dict(zip(names, values, strict=True))
            if all(factor.probability(scene) > 0 for factor in self.factors):
                yield scene

    def _scene_log_probability(self, scene: Mapping[str, str]) -> float:
        return sum(math.log(factor.probability(scene)) for factor in self.factors)

    def _check_scene(self, scene: Mapping[str, str]) -> None:
        if set(scene) != set(self._axis):
            raise IsthmusError(f"a scene needs the factors {list(self._axis)}, got {list(scene)}")
        for factor in self.factors:
            if factor.probability(scene) == 0:
                raise IsthmusError(
                    f"'{factor.name}' cannot be '{scene[factor.name]}' in this scene; its values "
                    f"are {list(factor.values)}"
                    + (f", '{ABSENT}' only with {factor.unless}" if factor.unless else "")
                )


def _wordings(
    node: Node, scene: Mapping[str, str], place: tuple[int, ...]
) -> Iterator[tuple[str, float, Picks]]:
    """All (words, log p of the choices, choices) of a node at `place` in the tree."""
    match node:
        case str():
            yield " ".join(node.split()), 0.0, frozenset()
        case tuple():
            parts = [list(_wordings(part, scene, (*place, n))) for n, part in enumerate(node)]
            for combination in itertools.product(*parts):
                yield (
                    " ".join(text for text, _, _ in combination if text),
                    sum(log for _, log, _ in combination),
                    frozenset(pick for _, _, picks in combination for pick in picks),
                )
        case Choice():
            for number, (weight, option) in enumerate(
                zip(node.weights, node.options, strict=True)
            ):
                taken = {(place, number)}
                for text, log, picks in _wordings(option, scene, (*place, number)):
                    yield text, math.log(weight) + log, picks | taken
        case Given():
            yield from _wordings(node.cases[scene[node.factor]], scene, place)
