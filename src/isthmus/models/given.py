"""Vectors that are given with the texts, in place of an encoder, and the start of a model on them.

The posterior's head is an affine map of a text's vector v [E]. It starts as the whitening of the
training vectors: z has a mean of 0, unit variances and no correlations, so that the prior fits.

    mean of q(z|v) = (λ + ε)^(−1/2) U (v − v̄),    U [P E], λ: principal directions of v, variances

A fresh decoder can also start by knowing which words a vector stands for. Of vectors with one
covariance, log p(w|v) is linear in the whitened vector, with the mean z̄_w of the texts that have w
as its slope (linear discriminant analysis). So the output embedding of w starts as z̄_w, turned
into the width of the decoder, and what the bridge "embedding" adds to each token as z, turned
alike. docs/inversion.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from isthmus.data.kind import sampled
from isthmus.data.vectors import stacked
from isthmus.errors import IsthmusError
from isthmus.models.bridges import Bridge, CombinedBridge, EmbeddingBridge
from isthmus.models.cooccurrence import MOST_TOKENS, successor_vectors
from isthmus.models.inspection import token_embeddings
from isthmus.models.optimus import OptimusModel

WHITENED_BY: Final = 50_000
"""Vectors that the head's start is computed from; a random sample if there are more."""
FLOOR: Final = 0.01
"""ε, as a share of the mean variance: what varies less is not blown up to a variance of 1."""
LOG_VARIANCE: Final = -4.0
"""Of each dimension of z at the start: the noise is an eighth of the spread of the texts."""
EMBEDDING_NORM: Final = 2.0
"""Length of a token's embedding at the start."""
GAIN: Final = 3.0
"""How much longer what comes from z is than the embedding of the token before."""
APART: Final = 0.3
"""Length of the noise, in units of an embedding, by which tokens of one z̄ are kept apart."""
RARE: Final = 3.0
"""Texts without a word that its z̄_w is shrunk by."""


@torch.no_grad()
def start_head(model: OptimusModel, texts: Sequence[str]) -> None:
    """Start the posterior's head as the whitening of the vectors of training texts.

    Raises:
        IsthmusError: z has more numbers than the vectors.
    """
    head, size = model.encoder.head, model.encoder.latent_size
    width = head.in_features
    if size > width:
        raise IsthmusError(
            f"model.latent_size: got {size} numbers in all for vectors of {width}, expected at "
            f"most {width}"
        )
    places = sampled(len(texts), WHITENED_BY, 0)
    vectors = torch.from_numpy(stacked([texts[place] for place in places])).double()
    centre = vectors.mean(0)
    spread, directions = torch.linalg.eigh(torch.cov(vectors.T, correction=0).reshape(width, -1))
    scale = (spread.clamp_min(0) + FLOOR * spread.mean().clamp_min(1e-12)).rsqrt()
    rows = (directions * scale).T.flip(0)[:size]  # the largest variance first
    head.weight.zero_()
    head.bias.zero_()
    head.weight[:size] = rows
    head.bias[:size] = -rows @ centre
    if head.out_features == 2 * size:
        head.bias[size:] = LOG_VARIANCE


@torch.no_grad()
def start_words(model: OptimusModel, texts: Sequence[str]) -> None:
    """Start a fresh decoder as one that knows which words a vector stands for; see the module.

    Args:
        model: with its head started.
        texts: of training, with their vectors.

    Raises:
        IsthmusError: A bridge without the part "embedding", or no softmax over all tokens.
    """
    bridge, output = _embedding(model.bridge), model.decoder.model.get_output_embeddings()
    inputs = token_embeddings(model.decoder.stack)
    if (
        bridge is None
        or not isinstance(output, nn.Linear)
        or output.weight.shape != inputs.shape
        or model.config.decoder_pretrained
        or model.config.latents > 1
        or model.labels is not None
    ):
        raise IsthmusError(
            "model.start: got copy with --embeddings, expected a new decoder with "
            "--model.decoder.output softmax, one latent, no labels and a --model.bridge with "
            "embedding; or use --model.start fresh"
        )
    read = model.codec.prepare(texts).decoder_tokens
    means = _means(model, texts, read.ids, read.offsets, len(inputs))
    width = inputs.shape[1]
    turn = torch.linalg.svd(means, full_matrices=False)[2][:width]  # [≤ H, P]
    turn = nn.functional.pad(turn, (0, 0, 0, width - len(turn)))
    noise = normalize(torch.randn(len(means), width), dim=1)
    alike = EMBEDDING_NORM * normalize(means @ turn.T / _typical(means) + APART * noise, dim=1)
    special = model.decoder.special
    end = special.start if special.end is None else special.end
    counted = int(np.searchsorted(read.offsets, MOST_TOKENS, side="right")) - 1
    ids, lengths = read.ids[: read.offsets[counted]], read.lengths[:counted]
    after = successor_vectors(ids, lengths, (special.start, end), alike)
    inputs.copy_(EMBEDDING_NORM * normalize(after + APART * noise, dim=1))
    output.weight.copy_(alike)
    gain = GAIN * EMBEDDING_NORM / math.sqrt(bridge.linear.in_features)
    bridge.linear.weight.zero_()
    bridge.linear.weight[:, : turn.shape[1]] = gain * turn


def _typical(means: Tensor) -> Tensor:
    return means.norm(dim=1).median().clamp_min(1e-6)


def _means(
    model: OptimusModel, texts: Sequence[str], ids: np.ndarray, offsets: np.ndarray, count: int
) -> Tensor:
    """z̄ of the texts that have each token, shrunk to 0 for rare ones, [V P]."""
    from scipy.sparse import csr_array

    size, head = model.encoder.latent_size, model.encoder.head
    has = csr_array((np.ones(len(ids), np.float32), ids, offsets), shape=(len(texts), count))
    has.sum_duplicates()
    has.data[:] = 1
    total = np.zeros((count, size), np.float32)
    for first in range(0, len(texts), WHITENED_BY):
        some = slice(first, first + WHITENED_BY)
        z = nn.functional.linear(
            torch.from_numpy(stacked(texts[some])), head.weight[:size], head.bias[:size]
        )
        total += has[some].T @ z.numpy()
    each = has.sum(0)
    return torch.from_numpy(total / (each + RARE)[:, None]).float()


def _embedding(bridge: Bridge) -> EmbeddingBridge | None:
    parts = bridge.parts.values() if isinstance(bridge, CombinedBridge) else [bridge]
    return next((part for part in parts if isinstance(part, EmbeddingBridge)), None)
