"""The built-in corpus: a small world, described in sentences and drawn in pictures.

Sentences come from an unambiguous probabilistic grammar, so the log-probability of each sentence
and the entropy of the corpus are known exactly. No model's mean −log p can be below that entropy.
Sentence i is a function of (split, seed, i); nothing is read from files.

Examples:
    >>> from isthmus.data import scenes
    >>> scenes.factors("two small red cats sit above a blue house in the meadow")["relation"]
    'above'
"""

from isthmus.data.scenes.corpus import (
    SPLITS,
    TINY,
    WORLD,
    counterpart,
    entropy,
    factors,
    generate,
    log_probability,
    parse,
    sentence,
    vocabulary,
)
from isthmus.data.scenes.exact import Entropy
from isthmus.data.scenes.grammar import Grammar, Sentence
from isthmus.data.scenes.nodes import Choice, Factor, Given
from isthmus.data.scenes.picture import VISIBLE, render

__all__ = [
    "SPLITS",
    "TINY",
    "VISIBLE",
    "WORLD",
    "Choice",
    "Entropy",
    "Factor",
    "Given",
    "Grammar",
    "Sentence",
    "counterpart",
    "entropy",
    "factors",
    "generate",
    "log_probability",
    "parse",
    "render",
    "sentence",
    "vocabulary",
]
