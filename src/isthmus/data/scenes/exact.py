"""The exact entropies of a grammar, as sums over its tree.

Given the scene, the choices in the parts of a tuple are independent, so the means and variances
of their −ln p add up. Each node has a few totals for every scene, in arrays with one axis per
factor, of length 1 if the factor makes no difference. The factors are then summed out one by one.
Nothing is sampled and no scene is enumerated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isthmus.data.scenes.nodes import ABSENT, Choice, Factor, Given, Node

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Entropy:
    """The exact entropies of a grammar: lower bounds on any model's expected −log p(text)."""

    nats_per_sentence: float
    """H(text) = −Σ p(text) ln p(text)."""
    nats_per_word: float
    """H(text) / E[words]: its exponential is the lowest possible perplexity per word."""
    nats_per_token: float
    """H(text) / E[words + 1]: a token is a word or the end of a sentence."""
    mean_words: float
    """E[words] of a sentence, without its end."""
    scene: float
    """H(scene): the joint entropy of all factors, in nats."""
    wording: float
    """H(text | scene) = H(text) − H(scene), as each text has one scene; nats per sentence."""
    standard_deviation: float
    """Of −ln p(text); divided by √n it is the standard error of a mean over n sentences."""
    factors: dict[str, float]
    """H(factor) for each; H(text | factor) = H(text) − H(factor)."""
    repeat_probability: float
    """Σ p(text)²: the probability that two independent sentences are equal."""
    sentences: int
    """The number of distinct sentences."""


class _Totals(NamedTuple):
    """Sums over all wordings of a node, given the scene."""

    nats: Array  # E[−ln p]
    variance: Array  # Var[−ln p]
    words: Array  # E[words]
    repeat: Array  # Σ p²
    sentences: Array  # Σ 1


def exact_entropy(factors: Sequence[Factor], root: Node) -> Entropy:
    """The entropies of a grammar in which each sentence has one derivation."""
    wording, variance, words, repeat, sentences = _totals(root, factors)
    nats, square = wording, variance + wording**2
    for axis, factor in reversed(list(enumerate(factors))):
        p = _probability(factor, factors)
        cost = -np.log(np.where(p > 0, p, 1.0))
        square = (p * (cost**2 + 2 * cost * nats + square)).sum(axis, keepdims=True)
        nats = (p * (cost + nats)).sum(axis, keepdims=True)
        wording = (p * wording).sum(axis, keepdims=True)
        words = (p * words).sum(axis, keepdims=True)
        repeat = (p**2 * repeat).sum(axis, keepdims=True)
        sentences = ((p > 0) * sentences).sum(axis, keepdims=True)
    total, mean_words = nats.item(), words.item()
    return Entropy(
        nats_per_sentence=total,
        nats_per_word=total / mean_words,
        nats_per_token=total / (mean_words + 1),
        mean_words=mean_words,
        scene=total - wording.item(),
        wording=wording.item(),
        # Rounding may leave a variance of 0 slightly negative.
        standard_deviation=math.sqrt(max(square.item() - total**2, 0.0)),
        factors={factor.name: _label_entropy(factor, factors) for factor in factors},
        repeat_probability=repeat.item(),
        sentences=round(sentences.item()),
    )


def _axis(name: str, factors: Sequence[Factor]) -> int:
    return [factor.name for factor in factors].index(name)


def _probability(factor: Factor, factors: Sequence[Factor]) -> Array:
    """P(value | the factor that it depends on), on the axes of both."""

    def along(name: str, numbers: list[float]) -> Array:
        shape = [1] * len(factors)
        shape[_axis(name, factors)] = len(numbers)
        return np.array(numbers).reshape(shape)

    present = along(factor.name, [factor.weights.get(value, 0.0) for value in factor.values])
    if factor.unless is None:
        return present
    absent = along(factor.name, [float(value == ABSENT) for value in factor.values])
    parent, trigger = factor.unless
    values = factors[_axis(parent, factors)].values
    triggered = along(parent, [float(value == trigger) for value in values])
    return triggered * absent + (1 - triggered) * present


def _label_entropy(factor: Factor, factors: Sequence[Factor]) -> float:
    """Entropy of a factor's marginal distribution, "none" included."""
    p = _probability(factor, factors)
    if factor.unless:
        axis = _axis(factor.unless[0], factors)
        p = (_probability(factors[axis], factors) * p).sum(axis)
    return float(-(p * np.log(np.where(p > 0, p, 1.0))).sum())


def _totals(node: Node, factors: Sequence[Factor]) -> _Totals:
    match node:
        case str():
            one = np.ones((1,) * len(factors))
            return _Totals(0 * one, 0 * one, len(node.split()) * one, one, one)
        case tuple():
            return reduce(_follow, (_totals(part, factors) for part in node), _totals("", factors))
        case Choice():
            return _mix(node.weights, [_totals(option, factors) for option in node.options])
        case Given():
            axis = _axis(node.factor, factors)
            cases = [_totals(node.cases[value], factors) for value in factors[axis].weights]
            if ABSENT in factors[axis].values:
                # A node is never reached if its factor is absent: any case may fill the place.
                cases.append(cases[0])
            return _Totals(*(_stack(lane, axis) for lane in zip(*cases, strict=True)))


def _follow(left: _Totals, right: _Totals) -> _Totals:
    """Two parts of a tuple: independent, given the scene."""
    return _Totals(
        left.nats + right.nats,
        left.variance + right.variance,
        left.words + right.words,
        left.repeat * right.repeat,
        left.sentences * right.sentences,
    )


def _mix(weights: Sequence[float], options: Sequence[_Totals]) -> _Totals:
    """A choice: taking an option costs −ln w, and then the cost of the option."""
    pairs = list(zip(weights, options, strict=True))
    nats = sum((w * (option.nats - math.log(w)) for w, option in pairs), np.zeros(1))
    spread = [
        w * (option.variance + (option.nats - math.log(w) - nats) ** 2) for w, option in pairs
    ]
    return _Totals(
        nats,
        sum(spread, np.zeros(1)),
        sum((w * option.words for w, option in pairs), np.zeros(1)),
        sum((w**2 * option.repeat for w, option in pairs), np.zeros(1)),
        sum((option.sentences for _, option in pairs), np.zeros(1)),
    )


def _stack(arrays: Sequence[Array], axis: int) -> Array:
    """One array along `axis`, of length 1 there if all are equal."""
    rows = [
        array.take([row], axis) if array.shape[axis] > 1 else array
        for row, array in enumerate(arrays)
    ]
    shape = np.broadcast_shapes(*(row.shape for row in rows))
    stacked = np.concatenate([np.broadcast_to(row, shape) for row in rows], axis)
    first = stacked.take([0], axis)
    return first if bool((stacked == first).all()) else stacked
