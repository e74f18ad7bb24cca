"""Stochastic pooling and unpooling: of each block of p×p places one is drawn.

    pooled = Σ_i d_i x_i over the places i of a block,    unpooled_i = d_i x,    d ~ Categorical(π)

Pu et al. (2016, arXiv 1609.08976) put such layers between the convolutions of their encoder and of
their deconvolutional decoder. Here π of a block comes from a small network that reads the block in
the encoder, and what is unpooled in the decoder; z is all that is handed from one to the other.

In training d is drawn as one place, with the gradient of its relaxed draw (straight-through
Gumbel-softmax, Jang et al. 2017, arXiv 1611.01144). Outside of training d is its mean π (Zeiler &
Fergus 2013, arXiv 1301.3557), so what is measured depends on no draw: bounds are those of that
network. All blocks are worked on at once. Sides that p does not divide are padded with zeros, or
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
    """[N C H W] → [p·p N C h w], h = H/p and w = W/p rounded up, zeros where x has nothing."""
    height, width = x.shape[-2:]
    x = functional.pad(x, (0, -width % size, 0, -height % size))
    # Several times faster than unfold or pixel_unshuffle, whose places come last.
    return torch.stack([x[..., i::size, j::size] for i in range(size) for j in range(size)])


def unblocked(x: Tensor, size: int) -> Tensor:
    """[p·p N C h w] → [N C h·p w·p], what :func:`blocks` undoes."""
    return functional.pixel_shuffle(x.movedim(0, 2).flatten(1, 2), size)


def places(logits: Tensor, training: bool) -> Tensor:
    """D: a draw of one place in training, π outside of it; [p·p …] → the same shape."""
    if not training:
        return logits.softmax(0)
    gumbel = -(-torch.rand_like(logits).log()).log()
    relaxed = ((logits + gumbel) / TEMPERATURE).softmax(0)
    drawn = torch.zeros_like(relaxed).scatter_(0, relaxed.argmax(0, keepdim=True), 1.0)
    return drawn - relaxed.detach() + relaxed


@final
class StochasticPool(nn.Module):
    """One place of every block, told by a network with one tanh layer that reads the block.

    Arguments:
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
    """Every value to one place of its block, told by a 1×1 convolution that reads all channels.

    Arguments:
        channels: C.
        height, width: of the picture that comes out.
        size: p.
    """

    def __init__(self, channels: int, height: int, width: int, size: int) -> None:
        super().__init__()
        self.height, self.width, self.size = height, width, size
        self.logits = nn.Conv2d(channels, channels * size**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N C h w] → [N C H W]; of h·p × w·p places those beyond the picture are cut."""
        logits = self.logits(x).unflatten(1, (-1, x.shape[1])).movedim(1, 0)  # [p·p N C h w]
        spread = places(logits.contiguous(), self.training) * x
        return unblocked(spread, self.size)[..., : self.height, : self.width]
