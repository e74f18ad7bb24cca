"""Random numbers that are pure functions of (seed, stream, index).

The noise of an example must not depend on the batch it happens to be in: only then do one
process and two, one worker and four, a first run and a resumed one see the same draws.
A counter-based generator gives this without keeping any state: Salmon et al. 2011,
"Parallel Random Numbers: As Easy as 1, 2, 3" (Philox), as numpy implements it.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch

NOISE: Final = 0
CORRUPTION: Final = 1
LABEL: Final = 2
CODE: Final = 3
DOOR: Final = 4
SPELLING: Final = 5

_WORD = 2**64


def generators(
    seed: int, stream: int, indices: Sequence[int], purpose: int
) -> Iterator[np.random.Generator]:
    """Yield a fresh generator for every index.

    Key = (seed, index) and counter = (0, 0, stream, purpose), each modulo 2**64: distinct
    arguments can never share a draw, because a generator only advances the two low words.

    Args:
        seed: Seed of the run.
        stream: The epoch, or any other number that keeps draws apart.
        indices: One number per example.
        purpose: `NOISE`, `CORRUPTION`, `LABEL`, `CODE`, `DOOR` or `SPELLING`.

    Yields:
        The generator of each index; it is valid until the next one is asked for.
    """
    bits = np.random.Philox(key=0)
    generator = np.random.Generator(bits)
    # Setting the state costs 2 µs, a new Philox 11 µs.
    state = bits.state
    state["state"]["counter"][:] = (0, 0, stream % _WORD, purpose)
    for index in indices:
        state["state"]["key"][:] = (seed % _WORD, index % _WORD)
        bits.state = state
        yield generator


def example_noise(
    seed: int, stream: int, indices: Sequence[int], shape: tuple[int, ...]
) -> torch.Tensor:
    """Draw standard normal noise, each row a pure function of (seed, stream, index).

    Args:
        seed: Seed of the run.
        stream: The epoch in training; in evaluation any fixed number of the caller's.
        indices: The examples' places in their corpus, N of them.
        shape: Shape of one example's noise, for example (P,) or (K, P).

    Returns:
        float32 tensor [N, *shape].
    """
    noise = np.empty((len(indices), *shape), dtype=np.float32)  # [N, *shape]
    rows = zip(noise, generators(seed, stream, indices, NOISE), strict=True)
    for row, generator in rows:
        generator.standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(noise)


def in_whole(places: Sequence[int] | None, rows: Sequence[int]) -> Sequence[int]:
    """The places in their corpus of some rows of a part of it; of the whole, the rows."""
    return rows if places is None else [places[row] for row in rows]


def gumbel_noise(seed: int, stream: int, indices: Sequence[int], classes: int) -> torch.Tensor:
    """Draw standard Gumbel noise −log(−log u), each row a pure function of (seed, stream, index).

    The class with the largest log p(y) + noise is a draw from p(y) (Gumbel 1954; Jang et al.
    2017, arXiv 1611.01144, eq. 1).

    Args:
        seed: Seed of the run.
        stream: The epoch.
        indices: The examples' places in their corpus, N of them.
        classes: C.

    Returns:
        float32 tensor [N C].
    """
    noise = np.empty((len(indices), classes), dtype=np.float32)  # [N C]
    rows = zip(noise, generators(seed, stream, indices, LABEL), strict=True)
    for row, generator in rows:
        row[:] = -np.log(generator.standard_exponential(classes))  # −log u is exponential
    return torch.from_numpy(noise)
