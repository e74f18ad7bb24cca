"""Pictures as another hand might have drawn them: turned, scaled, sheared, bent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional


@final
@dataclass(frozen=True)
class Augmentation:
    """How far pictures are changed, each by its own draw.

    Born et al. turn by up to 45°, scale by 0.4 … 1 and shear by up to 25°, all pictures of a
    sequence alike; that far a sign that is cut to its ink and upright need not be turned.
    """

    rotation: float = 12.0
    """Degrees, either way."""
    smallest: float = 0.8
    """Scale is drawn from here to 1, for height and width apart."""
    shear: float = 15.0
    """Degrees, either way."""
    shift: float = 0.08
    """Of half the side, either way."""
    bend: float = 0.08
    """Standard deviation of a smooth displacement, of half the side."""


def augment(pictures: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Changed pictures, paper 0 around them.

    Arguments:
        pictures: [N H W] in [0, 1].
        how: how far.
        generator: on the CPU, so that a seed gives the same everywhere.

    Returns:
        [N H W].
    """
    count, height, width = pictures.shape

    def either_way(size: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * size

    turn, shear = either_way(math.radians(how.rotation)), either_way(math.radians(how.shear))
    scale = how.smallest + (1 - how.smallest) * torch.rand(count, 2, generator=generator)
    shift = torch.stack([either_way(how.shift), either_way(how.shift)], -1)
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], -1)
    sheared = torch.eye(2).repeat(count, 1, 1)
    sheared[:, 0, 1] = shear.tan()
    # The grid says where a pixel comes from, so a smaller sign needs a larger step.
    matrix = rotation.view(-1, 2, 2) @ sheared / scale[:, None]
    affine = torch.cat([matrix, shift[..., None]], -1).to(pictures)
    grid = functional.affine_grid(affine, [count, 1, height, width], align_corners=False)
    knots = torch.randn(count, 2, 4, 4, generator=generator) * how.bend
    smooth = functional.interpolate(
        knots.to(pictures), (height, width), mode="bicubic", align_corners=True
    )
    bent = grid + smooth.permute(0, 2, 3, 1)
    return functional.grid_sample(pictures[:, None], bent, align_corners=False)[:, 0].clamp(0, 1)
