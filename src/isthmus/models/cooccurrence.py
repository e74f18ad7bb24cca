"""Token vectors from counts: which tokens are alike, and which follow one another.

A fresh model takes long to find this out; counting takes seconds.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

WINDOW: Final = 5
"""Tokens on either side that count as near."""
DENSE: Final = 1_024
"""Vocabulary up to which all directions are computed. Small ones have fewer directions than are
asked for, and what ARPACK finds then differs from call to call, whatever the seed."""
MOST_TOKENS: Final = 2_000_000
"""Of the texts that are counted."""


def token_vectors(
    ids: NDArray[np.int32], lengths: NDArray[np.int64], vocabulary: int, size: int
) -> Tensor:
    """The principal directions of positive pointwise mutual information (Levy & Goldberg 2014).

    M[a, b] = max(0, log p(a, b) / (p(a) p(b))) for tokens a, b at most WINDOW apart in a text;
    with its singular values M ≈ U S V, row a of U √S, scaled to length 1, is the vector of a.

    Args:
        ids: tokens of all texts, one after the other.
        lengths: tokens of each text.
        vocabulary: V.
        size: of a vector, at most; there are at most V − 1 directions.

    Returns:
        [V size], zeros for a token that stands alone.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import svds

    text = np.repeat(np.arange(len(lengths)), lengths)
    first, second = [], []
    for apart in range(1, WINDOW + 1):
        same = text[:-apart] == text[apart:]
        first.append(ids[:-apart][same])
        second.append(ids[apart:][same])
    pair = np.concatenate(first), np.concatenate(second)
    counts = coo_array((np.ones(len(pair[0])), pair), shape=(vocabulary, vocabulary)).tocsr()
    counts = (counts + counts.T).tocoo()
    each = counts.sum(1)
    expected = each[counts.row] * each[counts.col] / max(1.0, each.sum())
    information = np.log(counts.data / expected).clip(0)
    rank = min(size, vocabulary - 1)
    matrix = coo_array((information, (counts.row, counts.col)), shape=counts.shape).tocsr()
    if not matrix.sum():  # texts of one token
        return torch.zeros(vocabulary, size)
    if vocabulary <= DENSE:
        left, values, _ = np.linalg.svd(matrix.toarray())
        left, values = left[:, :rank], values[:rank]
    else:
        left, values, _ = svds(matrix, k=rank, random_state=0)
    values = np.where(values > 1e-6 * values.max(), values, 0)  # else rounding errors get length 1
    found = torch.from_numpy((left * np.sqrt(values)).astype(np.float32))
    return torch.nn.functional.pad(normalize(found, dim=1), (0, size - rank))


def successor_vectors(
    ids: NDArray[np.int32], lengths: NDArray[np.int64], special: tuple[int, int], vectors: Tensor
) -> Tensor:
    """Where each token's successors lie: Σ_b p(b | a) v_b − Σ_b p(b) v_b for token a.

    As the input embedding of a decoder whose output embeddings are v, it makes the decoder start
    as a rough bigram model: it is the gradient of log p(b | a) where all tokens are predicted by
    their frequency.

    Args:
        ids: tokens of all texts, one after the other.
        lengths: tokens of each text, at least 1.
        special: what stands before the first token of a text, and after the last.
        vectors: v, [V H].

    Returns:
        [V H], scaled to length 1; zeros for a token that stands nowhere.
    """
    from scipy.sparse import coo_array

    start, end = special
    last = np.cumsum(lengths) - 1
    first = last - lengths + 1
    before = np.insert(ids, first, start)
    after = np.insert(ids, last + 1, end)
    shape = (len(vectors), len(vectors))
    counts = coo_array((np.ones(len(before)), (before, after)), shape=shape).tocsr()
    each = counts.sum(1)
    v = vectors.double().numpy()
    mean = counts.sum(0) @ v / each.sum()
    found = counts @ v / each.clip(1)[:, None] - (each > 0)[:, None] * mean
    return torch.nn.functional.normalize(torch.from_numpy(found).to(vectors), dim=1)
