"""Histograms of oriented gradients: where in a picture strokes run, and in which direction.

Dalal & Triggs (2005), CVPR, "Histograms of oriented gradients for human detection", with three
changes for drawings of one sign: cells have soft borders, the whole picture has one norm, and
roots are taken, so that distances are Hellinger distances. Needs no training; on handwriting and
proto-Elamite it beats principal components of pixels (benchmarks/results/signs.md).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CELLS: Final = 10
"""Per side."""
DIRECTIONS: Final = 12
"""Over half a turn: light on dark equals dark on light."""
BLUR: Final = 1.0
"""Standard deviation in pixels, before gradients are computed."""
SOFTNESS: Final = 0.6
"""Standard deviation of a cell's weights, in cells."""


def oriented_gradients(pictures: NDArray[Any]) -> NDArray[np.float64]:
    """√ of the share of a picture's gradients in each cell and direction, [M F].

    Args:
        pictures: [M S S], normalised.

    Returns:
        F = CELLS² · DIRECTIONS; each row has length 1, or is zero for an empty picture.
    """
    given = torch.from_numpy(np.asarray(pictures, dtype=np.float32))
    every = _gaussians(torch.arange(given.shape[-1]), given.shape[-1], BLUR)
    smooth = every @ given @ every.T
    across = smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]
    down = smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]
    strength = torch.hypot(across, down)
    place = torch.atan2(down, across).remainder(math.pi) * (DIRECTIONS / math.pi)
    lower = place.floor()
    share = place - lower  # of the next direction
    first = lower.long() % DIRECTIONS
    by_direction = strength.new_zeros(len(strength), DIRECTIONS, *strength.shape[1:])
    by_direction.scatter_add_(1, first[:, None], (strength * (1 - share))[:, None])
    by_direction.scatter_add_(1, (first + 1)[:, None] % DIRECTIONS, (strength * share)[:, None])
    side = strength.shape[-1] / CELLS
    centres = ((torch.arange(CELLS) + 0.5) * side).long()
    cell = _gaussians(centres, strength.shape[-1], SOFTNESS * side)
    cells = (cell @ by_direction @ cell.T).flatten(1)
    total = cells.sum(1, keepdim=True)
    return (cells / total.clamp_min(1e-12)).sqrt().double().numpy()


def _gaussians(centres: Tensor, size: int, deviation: float) -> Tensor:
    """Weights of a row of ``size`` pixels around each centre, cut off at three deviations, [K S].

    A Gaussian in the plane is one along the rows times one along the columns.
    """
    away = (torch.arange(size) - centres[:, None]).float()
    reach = int(3 * deviation)
    weights = torch.exp(-0.5 * (away / deviation).square()) * (away.abs() <= reach)
    whole = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square()).sum()
    return weights / whole
