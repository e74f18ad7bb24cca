"""Random distortions of pictures, as if drawn by another hand: rotated, scaled, sheared, bent."""

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
    """Ranges of the distortions, drawn for each picture.

    Born et al. rotate by up to 45°, scale by 0.4 … 1 and shear by up to 25°, the same for all
    pictures of a sequence; signs that are cropped to their ink and upright need less.
    """

    rotation: float = 12.0
    """Degrees, in both directions."""
    smallest: float = 0.8
    """Scale is drawn between this and 1, separately for height and width."""
    shear: float = 15.0
    """Degrees, in both directions."""
    shift: float = 0.08
    """In units of half the side, in both directions."""
    bend: float = 0.08
    """Standard deviation of a smooth displacement, in units of half the side."""


def augment(pictures: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Distort pictures [N H W] in [0, 1]; paper, 0, comes in at the edges.

    The generator is on the CPU, so a seed gives the same result on every device.
    """
    count, height, width = pictures.shape

    def symmetric(size: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * size

    turn, shear = symmetric(math.radians(how.rotation)), symmetric(math.radians(how.shear))
    scale = how.smallest + (1 - how.smallest) * torch.rand(count, 2, generator=generator)
    shift = torch.stack([symmetric(how.shift), symmetric(how.shift)], -1)
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], -1)
    sheared = torch.eye(2).repeat(count, 1, 1)
    sheared[:, 0, 1] = shear.tan()
    # The grid has the source of each pixel, so a smaller sign needs a larger step.
    matrix = rotation.view(-1, 2, 2) @ sheared / scale[:, None]
    affine = torch.cat([matrix, shift[..., None]], -1).to(pictures)
    grid = functional.affine_grid(affine, [count, 1, height, width], align_corners=False)
    knots = torch.randn(count, 2, 4, 4, generator=generator) * how.bend
    smooth = functional.interpolate(
        knots.to(pictures), (height, width), mode="bicubic", align_corners=True
    )
    bent = grid + smooth.permute(0, 2, 3, 1)
    return functional.grid_sample(pictures[:, None], bent, align_corners=False)[:, 0].clamp(0, 1)
