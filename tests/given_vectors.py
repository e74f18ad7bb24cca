"""Texts of three words with vectors in place of an encoder, and tiny models on them."""

from __future__ import annotations

import numpy as np

from isthmus.data.vectors import embedded
from isthmus.models.build import build
from isthmus.settings import with_changes
from tiny import settings

WORDS = {"a": [3.0, 0.5, 0.0, 1.0], "b": [0.0, 2.0, 0.5, 1.0], "c": [1.0, 0.0, 1.5, 1.0]}


def vectors_of(texts):
    """The mean of fixed vectors of the words."""
    return np.array([np.mean([WORDS[w] for w in text.split()], axis=0) for text in texts])


def corpus(count=60):
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(list("abc"), draw.integers(1, 6))) for _ in range(count)]
    return embedded(texts, vectors_of(texts))


def made(texts, start="fresh", **model):
    plain = settings("llama", "memory+embedding", start=start)
    return build(with_changes(plain, {"model": model}, "test"), texts)
