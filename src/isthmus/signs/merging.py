"""Reading codes of pictures with as many states as they need.

A frequent sign first gets several states, one for each way of drawing it. Two states are merged if
their neighbours and looks differ by less than the cost of the parameters of a second state
(Schwarz's criterion). Known names are not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.signs.clusters import squared_distances
from isthmus.signs.reading import Reading, Table, looks, means, read_order

Matrix = NDArray[np.float64]


def read_codes(
    codes: NDArray[Any],
    counts: NDArray[np.int64],
    order: Sequence[NDArray[np.int64]],
    states: int,
    seed: int,
) -> Reading:
    """Read starting from k-means clusters of codes, merge states, read again.

    Args:
        codes: [M P].
        counts: Tokens of each picture, [M].
        order: Sequences of picture indices.
        states: K at the start; limited to a quarter of the pictures with tokens.
        seed: Of k-means.
    """
    most = max(2, int((counts > 0).sum()) // 4)
    prior = looks(codes, means(codes, counts, min(states, most), seed)[0])
    found = read_order(prior, order)
    joined = merge_states(found, codes, counts)
    mixed = 0.5 * (prior + found.states) @ joined
    return read_order(mixed.astype(np.float32), order).verdicts(counts)


def merge_states(found: Reading, codes: NDArray[Any], counts: NDArray[np.int64]) -> Table:
    """The merged state of each state, [K K'], with a 1 in each row.

    Merging two states costs log-likelihood, in nats: of pairs of neighbours, N Σ J ln (J / (left ·
    right)) as in Brown et al. (1992), and of looks, where each picture is a normal draw around the
    centroid of its state. The cheapest pair merges as long as its cost is below ½ (2K + P) ln N,
    the price of two rows of transitions and a centroid.

    Args:
        found: K states.
        codes: Of the pictures, [M P].
        counts: Tokens of each, [M].
    """
    tokens = float(counts.sum())
    there = counts > 0
    points, states = codes[there], found.states[there].astype(np.float64)
    pairs = (found.shares[:, None] * found.transitions).astype(np.float64) * tokens
    weight = states.sum(0)
    centroid = states.T @ points / np.maximum(weight, 1e-9)[:, None]
    spread = (squared_distances(points, centroid) * states).sum(1).mean() / codes.shape[1]
    groups = np.eye(len(pairs))
    while len(pairs) > 2:
        apart = squared_distances(centroid, centroid) / (2 * max(spread, 1e-12))
        both = weight[:, None] * weight / np.maximum(weight[:, None] + weight, 1e-9)
        cost = pair_costs(pairs) + both * apart
        np.fill_diagonal(cost, np.inf)
        kept, gone = sorted(divmod(int(cost.argmin()), len(pairs)))
        saved = 0.5 * (2 * len(pairs) + codes.shape[1]) * math.log(tokens)
        if cost[kept, gone] >= saved:
            break
        joined = np.eye(len(pairs))
        joined[gone, kept] = 1
        joined = np.delete(joined, gone, axis=1)
        pairs, groups = joined.T @ pairs @ joined, groups @ joined
        total = joined.T @ weight
        centroid = joined.T @ (weight[:, None] * centroid) / np.maximum(total, 1e-9)[:, None]
        weight = total
    return groups.astype(np.float32)


def pair_costs(pairs: Matrix) -> Matrix:
    """Nats that Σ J ln (J / (left · right)) loses when two states merge, [K K].

    ``pairs`` is J, counts of neighbours, [K K].
    """
    each = _x_log_x(pairs)
    own = np.diag(pairs)
    crossed = own[:, None] + own + pairs + pairs.T
    # Rows and columns of the merged state, without the block that they share …
    new = _x_log_x(pairs[:, None] + pairs[None]).sum(2)
    new += _x_log_x(pairs.T[:, None] + pairs.T[None]).sum(2)
    new -= _x_log_x(own[:, None] + pairs.T) + _x_log_x(pairs + own)
    new -= _x_log_x(own[:, None] + pairs) + _x_log_x(pairs.T + own)
    new += _x_log_x(crossed)  # … and that block
    alone = each.sum(0) + each.sum(1) - np.diag(each)
    old = alone[:, None] + alone - each - each.T
    return old - new - _merged_margin(pairs.sum(1)) - _merged_margin(pairs.sum(0))


def _merged_margin(margin: Matrix) -> Matrix:
    each = _x_log_x(margin)
    return each[:, None] + each - _x_log_x(margin[:, None] + margin)


def _x_log_x(values: Matrix) -> Matrix:
    return values * np.log(np.maximum(values, 1e-300))
