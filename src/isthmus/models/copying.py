"""A fresh model that copies its texts before any training.

A decoder that starts at random learns first which tokens are frequent, then which follow one
another, and long after that to read z; the encoder meanwhile learns nothing. Here the way from a
token through its latent to its own probability is open from the start:

    h_t ≈ e(x_t) → mean of z_k = μ W h_t → + g Wᵀ z_k / μ at place t → p(x_t) ∝ exp(e(x_t) · …)

with one table of embeddings e for the encoder and the output, and orthonormal rows W [P H] for
each of a latent's tokens. The decoder reads other embeddings: with e, a token would begin by
predicting itself; these predict what follows it, as counted. What is left to learn is which of
this the context makes superfluous, and what lies between texts. docs/log.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from isthmus.errors import IsthmusError
from isthmus.models.bridges import AlignedBridge, Bridge, CombinedBridge, LinearBridge
from isthmus.models.cooccurrence import MOST_TOKENS, successor_vectors, token_vectors
from isthmus.models.inspection import token_embeddings
from isthmus.models.optimus import OptimusModel

MEAN_SCALE: Final = 2.0
"""μ, the rms of a posterior mean; its noise starts at 1."""
EMBEDDING_NORM: Final = 2.0
"""|e| at the start: large enough that a token's own logit stands out."""
GAIN: Final = 3.0
"""g, how much longer what comes from z is than the embedding of the token before."""
SUMMARY_GAIN: Final = 2.0
"""The same of what comes from the summary."""
SUMMARY_TOKENS: Final = 12
"""Tokens of a text, about: a mean over them is shorter than a token by their square root."""
ALIKE: Final = 0.8
"""Cosine between the start of a token's embedding and its vector from counts; the rest is noise,
by which the decoder keeps similar tokens apart."""


@torch.no_grad()
def start_copying(model: OptimusModel, texts: Sequence[str] = ()) -> None:
    """Set embeddings, head and bridge of a fresh model so that it copies its texts.

    The summary, if there is one, starts as the mean of the texts' tokens, and raises the
    probability of these tokens wherever the decoder reads it.

    Args:
        model: fresh.
        texts: of training, from which similar tokens get similar embeddings; none leave them at
            random.

    Raises:
        IsthmusError: another pooling or bridge, or sides of different widths or vocabularies.
    """
    bridge = _aligned(model.bridge)
    codec = model.codec
    theirs, ours = token_embeddings(model.encoder.model), token_embeddings(model.decoder.stack)
    output = model.decoder.model.get_output_embeddings()
    if (
        bridge is None
        or model.encoder.pooling != "blocks"
        or codec.encoder_tokenizer is not codec.decoder_tokenizer
        or not isinstance(output, nn.Linear)  # an adaptive output has no row for each token
        or not theirs.shape == ours.shape == output.weight.shape
        or model.encoder.head.in_features != bridge.length * ours.shape[1]
    ):
        raise IsthmusError(
            "model.start: got copy, expected a new encoder and decoder of one width with "
            "--model.encoder.pooling blocks, --model.bridge aligned and --model.decoder.output "
            "softmax; or use --model.start fresh"
        )
    width, length = ours.shape[1], bridge.length
    alike, after = _tables(model, texts, *ours.shape)
    theirs.copy_(alike)
    ours.copy_(after)
    output.weight.copy_(alike)  # last: the decoder's two tables may be one
    size = model.config.latent_size // length
    if not 0 < size <= width:
        raise IsthmusError(
            f"model.latent_size: got {model.config.latent_size} for {length} tokens a latent, "
            f"expected {length} to {length * width}"
        )
    head, back = model.encoder.head.weight, bridge.linear.weight
    head.zero_()
    back.zero_()
    gain = GAIN * EMBEDDING_NORM / (MEAN_SCALE * size**0.5)
    for place in range(length):
        rows = _orthonormal(size, width)
        mine = slice(place * size, (place + 1) * size)
        theirs_at = slice(place * width, (place + 1) * width)
        head[mine, theirs_at] = MEAN_SCALE * rows
        back[theirs_at, mine] = gain * rows.T
    if model.config.summary:
        _start_summary(model, width)


def _start_summary(model: OptimusModel, width: int) -> None:
    size = model.config.summary * model.config.latent_size
    if size > width:
        raise IsthmusError(
            f"model.summary: got {model.config.summary} latents of {model.config.latent_size}, "
            f"which are {size} numbers, expected at most {width}, the width of the model"
        )
    rows, bridge = _orthonormal(size, width), model.summary_bridge
    nn.init.zeros_(model.encoder.summary_pool.query.weight)
    head = nn.init.zeros_(model.encoder.summary_head.weight)
    head[:size] = MEAN_SCALE * SUMMARY_TOKENS**0.5 * rows
    assert isinstance(bridge, LinearBridge)
    back = nn.init.zeros_(bridge.linear.weight)
    gain = SUMMARY_GAIN * EMBEDDING_NORM / (MEAN_SCALE * size**0.5)
    # Beside each of its latents the bridge reads y, if there is one.
    back.view(width, model.config.summary, -1)[..., : model.config.latent_size] = (
        gain * rows.T.reshape(width, model.config.summary, -1)
    )


def _tables(
    model: OptimusModel, texts: Sequence[str], count: int, width: int
) -> tuple[Tensor, Tensor]:
    """Embeddings by what a token is like, and by what follows it; rows of one length.

    Both are what counts say, turned at random so that all numbers are used, and something of the
    token alone, by which it differs from similar ones.
    """
    noise = normalize(torch.randn(count, width), dim=1)
    if not texts:
        return EMBEDDING_NORM * noise, EMBEDDING_NORM * noise @ _orthonormal(width, width)
    read = model.codec.prepare(texts).decoder_tokens
    counted = int(np.searchsorted(read.offsets, MOST_TOKENS, side="right")) - 1
    ids, lengths = read.ids[: read.offsets[counted]], read.lengths[:counted]
    vectors = token_vectors(ids, lengths, count, width) @ _orthonormal(width, width)
    apart = math.sqrt(1 - ALIKE**2)
    alike = normalize(ALIKE * vectors + apart * noise, dim=1)
    special = model.decoder.special
    end = special.start if special.end is None else special.end
    after = successor_vectors(ids, lengths, (special.start, end), alike)
    after = normalize(after + alike @ _orthonormal(width, width), dim=1)
    return EMBEDDING_NORM * alike, EMBEDDING_NORM * after


def _aligned(bridge: Bridge) -> AlignedBridge | None:
    parts = bridge.parts.values() if isinstance(bridge, CombinedBridge) else [bridge]
    return next((part for part in parts if isinstance(part, AlignedBridge)), None)


def _orthonormal(rows: int, columns: int) -> Tensor:
    return torch.linalg.qr(torch.randn(columns, rows))[0].T
