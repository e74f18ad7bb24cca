"""Scripts with a known inventory: shapes that lie apart, each drawn several times."""

from __future__ import annotations

import numpy as np

from isthmus.signs.inscriptions import Signs


def shapes(count, seed=0):
    """Blocky pictures [count 64 64] that share few strokes."""
    blocks = np.random.default_rng(seed).random((count, 8, 8)) < 0.4
    return np.kron(blocks, np.ones((8, 8))).astype(np.float32)


def drawn(shape_of, seed=1, noise=0.08):
    """A noisy drawing for each place of a list of shapes, [M 64 64] in [0, 1]."""
    generator = np.random.default_rng(seed)
    exact = shapes(max(shape_of) + 1)[shape_of]
    return np.clip(exact + generator.normal(0, noise, exact.shape), 0, 1).astype(np.float32)


def script(names, shape_of, order=None):
    """Signs with these working names, drawn from these shapes."""
    files = tuple(f"drawing{number:03d}" for number in range(len(names)))
    rows = order if order is not None else [range(len(names))]
    return Signs(
        drawn(shape_of),
        tuple(np.asarray(row, dtype=np.int64) for row in rows),
        files,
        tuple(names),
        "planted",
    )


def muddled():
    """Six shapes, six drawings each, but "one" and "two" are one shape, and "split" is two.

    Shapes: 0 is one or two, 1 and 2 are split, 3 to 5 have a name of their own.
    """
    shape_of = [shape for shape in range(6) for _ in range(6)]
    names = ["one", "two"] * 3 + ["split"] * 12 + [f"sign{s}" for s in (3, 4, 5) for _ in range(6)]
    return script(names, shape_of)
