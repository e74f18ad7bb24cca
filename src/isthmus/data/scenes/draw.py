"""Sampling many sentences at once: one random number per decision, all rows in step."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isthmus.data.scenes.nodes import Choice, Factor, Given, Node, columns, spelled

Rows: TypeAlias = NDArray[np.intp]
Texts: TypeAlias = NDArray[Any]  # of Python strings


class Draw:
    """One scene and one walk through the tree for each row of uniform numbers.

    The first columns determine the factors, the others the choices in the order of the walk.
    Options that exclude each other read the same columns.
    """

    def __init__(self, factors: Sequence[Factor], uniforms: NDArray[np.float64]) -> None:
        self.factors = factors
        self.uniforms = uniforms  # N C
        self.log_probability = np.zeros(len(uniforms))  # N, nats
        self.codes: dict[str, NDArray[np.intp]] = {}  # factor → index of its value, N
        for column, factor in enumerate(factors):
            self.codes[factor.name] = self._factor(factor, uniforms[:, column])

    def _factor(self, factor: Factor, uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
        weights = np.array(list(factor.weights.values()))
        codes = _pick(weights, uniforms)
        present = np.ones(len(uniforms), dtype=bool)
        if factor.unless:
            name, value = factor.unless
            parent = next(other for other in self.factors if other.name == name)
            if value in parent.values:
                present = self.codes[name] != parent.values.index(value)
        self.log_probability += np.where(present, np.log(weights)[codes], 0.0)
        return np.where(present, codes, len(weights))

    def labels(self) -> list[list[str]]:
        """The values of each factor, row by row."""
        return [
            np.array(factor.values, dtype=object)[self.codes[factor.name]].tolist()
            for factor in self.factors
        ]

    def texts(self, root: Node) -> list[str]:
        """The sentence of each row."""
        rows = np.arange(len(self.uniforms))
        texts = np.full(len(rows), "", dtype=object) + self._walk(root, rows, len(self.factors))
        return [spelled(text[1:]) for text in texts.tolist()]

    def _walk(self, node: Node, rows: Rows, column: int) -> Texts | str:
        """The node's words for each of the rows, each word after a space."""
        match node:
            case str():
                return "".join(f" {word}" for word in node.split())
            case tuple():
                texts: Texts | str = ""
                for part in node:
                    texts = texts + self._walk(part, rows, column)
                    column += columns(part)
                return texts
            case Choice():
                picked = _pick(np.array(node.weights), self.uniforms[rows, column])
                self.log_probability[rows] += np.log(node.weights)[picked]
                return self._scatter(node.options, picked, rows, column + 1)
            case Given():
                factor = next(one for one in self.factors if one.name == node.factor)
                cases = [node.cases[value] for value in factor.weights]
                return self._scatter(cases, self.codes[node.factor][rows], rows, column)

    def _scatter(
        self, nodes: Sequence[Node], picked: NDArray[np.intp], rows: Rows, column: int
    ) -> Texts:
        texts = np.empty(len(rows), dtype=object)
        for number, node in enumerate(nodes):
            mine = np.flatnonzero(picked == number)
            if len(mine):
                texts[mine] = self._walk(node, rows[mine], column)
        return texts


def _pick(weights: NDArray[np.float64], uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
    # Without the last bound, rounding cannot yield an index past the end.
    return np.searchsorted(np.cumsum(weights)[:-1], uniforms, side="right")
