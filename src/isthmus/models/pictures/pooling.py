"""Stochastic pooling and unpooling: one of the p×p places of each block is drawn.

    pooled = Σ_i d_i x_i over the places i of a block,    unpooled_i = d_i x,    d ~ Categorical(π)

Pu et al. (2016, arXiv 1609.08976) put such layers between the convolutions of their encoder and of
their deconvolutional decoder. Here π of a block comes from a small network that reads the block in
the encoder, and the unpooled value in the decoder; only z passes from one to the other.

In training d is drawn as one place, with the gradient of its relaxed draw (straight-through
Gumbel-softmax, Jang et al. 2017, arXiv 1611.01144). Outside of training d is its mean π (Zeiler &
Fergus 2013, arXiv 1301.3557), so measurements depend on no draw, and bounds are those of that
network. All blocks are processed at once. Sides that p does not divide are padded with zeros, or
cut.
"""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE: Final = 0.5
"""Of the relaxed draw."""


def blocks(x: Tensor, size: int) -> Tensor:
    """[N C H W] → [p·p N C h w], h = H/p and w = W/p rounded up, padded with zeros."""
    height, width = x.shape[-2:]
    x = functional.pad(x, (0, -width % size, 0, -height % size))
    # Several times faster than unfold or pixel_unshuffle, whose places come last.
    return torch.stack([x[..., i::size, j::size] for i in range(size) for j in range(size)])


def unblocked(x: Tensor, size: int) -> Tensor:
    """[p·p N C h w] → [N C h·p w·p], the inverse of :func:`blocks`."""
    return functional.pixel_shuffle(x.movedim(0, 2).flatten(1, 2), size)


def places(logits: Tensor, training: bool) -> Tensor:
    """d: a draw of one place in training, π outside of it; [p·p …] → the same shape."""
    if not training:
        return logits.softmax(0)
    gumbel = -(-torch.rand_like(logits).log()).log()
    relaxed = ((logits + gumbel) / TEMPERATURE).softmax(0)
    drawn = torch.zeros_like(relaxed).scatter_(0, relaxed.argmax(0, keepdim=True), 1.0)
    return drawn - relaxed.detach() + relaxed


@final
class StochasticPool(nn.Module):
    """Keep one place of every block, chosen by a network with one tanh layer that reads the block.

    Args:
        size: p.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        area = size**2
        self.logits = nn.Sequential(nn.Conv1d(area, area, 1), nn.Tanh(), nn.Conv1d(area, area, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N C H W] → [N C h w], h = H/p and w = W/p rounded up."""
        parts = blocks(x, self.size)
        logits = self.logits(parts.flatten(1)).view_as(parts)
        return (places(logits, self.training) * parts).sum(0)


@final
class StochasticUnpool(nn.Module):
    """Put every value in one place of its block, chosen by a 1×1 convolution over all channels.

    Args:
        channels: C.
        height, width: of the output.
        size: p.
    """

    def __init__(self, channels: int, height: int, width: int, size: int) -> None:
        super().__init__()
        self.height, self.width, self.size = height, width, size
        self.logits = nn.Conv2d(channels, channels * size**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N C h w] → [N C H W]; places beyond the output are cut."""
        logits = self.logits(x).unflatten(1, (-1, x.shape[1])).movedim(1, 0)  # [p·p N C h w]
        spread = places(logits.contiguous(), self.training) * x
        return unblocked(spread, self.size)[..., : self.height, : self.width]
