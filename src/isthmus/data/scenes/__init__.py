"""The built-in corpus: a small world, told in sentences and drawn in pictures.

Sentences come from an unambiguous probabilistic grammar, so that the log-probability of each and
the entropy of all are known exactly: the limit below which no model's −log p can fall on average.
Sentence i is a function of (split, seed, i); nothing is read from files.

Example:
    >>> from isthmus.data import scenes
    >>> scenes.factors("two small red cats sit above a blue house in the meadow")["relation"]
    'above'
"""

from isthmus.data.scenes.corpus import (
    SPLITS,
    WORLD,
    counterpart,
    entropy,
    factors,
    generate,
    log_probability,
    parse,
    sentence,
    tiny,
    vocabulary,
)
from isthmus.data.scenes.exact import Entropy
from isthmus.data.scenes.grammar import Grammar, Sentence
from isthmus.data.scenes.nodes import Choice, Factor, Given
from isthmus.data.scenes.picture import VISIBLE, render

__all__ = [
    "SPLITS",
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
    "tiny",
    "vocabulary",
]
