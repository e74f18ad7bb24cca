"""Reading pictures and their order together: a hidden Markov model of signs.

Every token has a state, states follow each other by a bigram, and a state emits one of its
pictures. The looks of the pictures enter as a prior on which state emits which picture; their
context decides where looks alone cannot. It is the model used to break homophonic ciphers
(Knight et al. 2006, "Unsupervised analysis for decipherment problems"), with pictures in place of
cipher letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.explore.walks import equal_points
from isthmus.signs.clusters import squared_distances

CHUNK = 50
"""Longer sequences are cut here, which loses only the pair of neighbours at a cut."""
ITERATIONS = 20
SETTLING = 4
"""Iterations that learn transitions alone, before pictures may change their state."""
LOOKS = 0.1
"""Weight of looks against context: tokens of the prior for every token."""
WIDENING = 8.0
"""Of the variance of a state's pictures, so the prior leaves room for doubt."""

Table = NDArray[np.float32]


@final
@dataclass(frozen=True)
class Reading:
    """States of M pictures and the transitions between the K states."""

    states: Table
    """[M K] p(state | picture)."""
    transitions: Table
    """[K K] p(next | state)."""
    shares: Table
    """[K] p(state)."""

    def profiles(self) -> Table:
        """√p(next | state) and √p(previous | state), [K 2K].

        Euclidean distances of roots of probabilities are Hellinger distances: two states with the
        same neighbours are close, whatever their pictures look like.
        """
        joint = self.shares[:, None] * self.transitions
        previous = (joint / np.maximum(joint.sum(0), 1e-12)).T
        return np.sqrt(np.concatenate([self.transitions, previous], axis=1))

    def verdicts(self, counts: NDArray[np.int64]) -> Reading:
        """The reading with p(state | picture) to the power of the picture's token count.

        A picture is one sign, so the evidence of its tokens multiplies. `states` is their mean,
        which leaves more doubt than many tokens together do.
        """
        from scipy.special import softmax

        logs = np.log(np.maximum(self.states, 1e-9)) * np.maximum(counts, 1)[:, None]
        return Reading(softmax(logs, axis=1).astype(np.float32), self.transitions, self.shares)

    def centroids(self, codes: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean code [K P] of each state's tokens; codes [M P], counts [M] tokens of a picture."""
        weights = self.states * counts[:, None]
        return np.asarray(weights.T @ codes / np.maximum(weights.sum(0), 1e-9)[:, None])


def means(
    codes: NDArray[Any], counts: NDArray[np.int64], clusters: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """K-means of pictures weighted by their tokens: centroids [K P], cluster of each [M]."""
    from sklearn.cluster import KMeans

    found = KMeans(min(clusters, int((counts > 0).sum())), n_init=1, random_state=seed)
    with equal_points():
        found.fit(codes, sample_weight=counts)
    return found.cluster_centers_.astype(np.float64), found.labels_.astype(np.int64)


def looks(codes: NDArray[Any], centroids: NDArray[Any]) -> Table:
    """p(state | picture) by looks alone, [M K]: normal densities of one variance around centroids.

    Args:
        codes: [M P].
        centroids: [K P].
    """
    from scipy.special import softmax

    distance = squared_distances(codes, centroids)
    variance = max(distance.min(1).mean() / codes.shape[1], 1e-12)
    return np.asarray(softmax(-distance / (2 * variance * WIDENING), axis=1), dtype=np.float32)


def read_order(
    prior: Table, order: Sequence[NDArray[np.int64]], iterations: int = ITERATIONS
) -> Reading:
    """Expectation maximisation (Baum and Welch) of transitions and of each state's pictures.

    Args:
        prior: [M K] p(state | picture) by looks.
        order: Sequences of picture indices.
        iterations: Their number.
    """
    pictures, mask = padded(order)
    counts = np.bincount(pictures[mask], minlength=len(prior)).astype(np.float32)
    start = (counts[:, None] * prior + 1e-6 * prior).astype(np.float32)
    wanted = LOOKS * start
    transitions = np.full((prior.shape[1],) * 2, 1 / prior.shape[1], dtype=np.float32)
    shares = start.sum(0) / start.sum()
    drawn = start
    for iteration in range(iterations):
        weights = drawn + wanted + 1e-7
        emission = weights / weights.sum(0)
        found, pairs = forward_backward(emission, transitions, shares, pictures, mask)
        transitions = pairs + 0.02
        transitions /= transitions.sum(1, keepdims=True)
        totals = found.sum(0)
        shares = (totals + 1e-6) / (totals + 1e-6).sum()
        if iteration >= SETTLING:
            drawn = _sum_by(pictures[mask], found, len(prior))
    weights = drawn + wanted + 1e-7 * prior
    return Reading(weights / weights.sum(1, keepdims=True), transitions, shares)


def padded(
    order: Sequence[NDArray[np.int64]], chunk: int = CHUNK
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Sequences as rows [N T], cut to at most `chunk` tokens, and the mask of their tokens."""
    chunks = [row[at : at + chunk] for row in order for at in range(0, len(row), chunk)]
    longest = max(map(len, chunks), default=0)
    pictures = np.zeros((len(chunks), longest), dtype=np.int64)
    mask = np.zeros((len(chunks), longest), dtype=bool)
    for place, row in enumerate(chunks):
        pictures[place, : len(row)] = row
        mask[place, : len(row)] = True
    return pictures, mask


def forward_backward(
    emission: Table,
    transitions: Table,
    shares: Table,
    pictures: NDArray[np.int64],
    mask: NDArray[np.bool_],
) -> tuple[Table, Table]:
    """p(state | all pictures) of the tokens in the mask [C K], and expected pairs [K K].

    Messages are normalised at every step. Padding emits 1 from every state, so the backward
    message after the last token is flat, as it should be; its own states are left out.
    """
    length = pictures.shape[1]
    emitted = np.where(mask.T[..., None], emission[pictures.T], np.float32(1))  # [T N K]
    emitted /= np.maximum(emitted.max(2, keepdims=True), 1e-30)
    forward, backward = np.empty_like(emitted), np.ones_like(emitted)
    for t in range(length):
        reached = (shares if t == 0 else forward[t - 1] @ transitions) * emitted[t]
        forward[t] = reached / np.maximum(reached.sum(1, keepdims=True), 1e-30)
    for t in range(length - 2, -1, -1):
        behind = (emitted[t + 1] * backward[t + 1]) @ transitions.T
        backward[t] = behind / np.maximum(behind.sum(1, keepdims=True), 1e-30)
    states = forward * backward
    states /= np.maximum(states.sum(2, keepdims=True), 1e-30)
    followed = mask.T[1:]
    before, behind = forward[:-1][followed], (emitted * backward)[1:][followed]
    total = np.maximum(((before @ transitions) * behind).sum(1, keepdims=True), 1e-30)
    pairs = (before / total).T @ behind * transitions
    return states.transpose(1, 0, 2)[mask], pairs


def _sum_by(rows: NDArray[np.int64], values: Table, count: int) -> Table:
    """Σ of the values [C K] of each row, [count K]."""
    from scipy.sparse import csr_array

    places = (np.ones(len(rows), dtype=np.float32), (rows, np.arange(len(rows))))
    return np.asarray(csr_array(places, shape=(count, len(rows))) @ values)
