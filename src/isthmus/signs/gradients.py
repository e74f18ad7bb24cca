"""Pictures by where their strokes run which way: histograms of oriented gradients.

Dalal & Triggs (2005), CVPR, "Histograms of oriented gradients for human detection", with three
changes for drawings of one sign: cells have soft borders, one norm holds for a whole picture, and
roots are taken, so that distances are Hellinger's. No training; on handwriting and proto-Elamite
ahead of principal components of pixels (benchmarks/results/signs.md).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

CELLS: Final = 10
"""A side."""
DIRECTIONS: Final = 12
"""Of a line, over half a turn: light on dark and dark on light are alike."""
BLUR: Final = 1.0
"""Pixels, before gradients are taken."""
SOFTNESS: Final = 0.6
"""Standard deviation of a cell's weights, in cells."""


def oriented_gradients(pictures: NDArray[Any]) -> NDArray[np.float64]:
    """√ of the share of a picture's gradients that lie in a cell and run a way, [M F].

    Arguments:
        pictures: [M S S], normalised.

    Returns:
        F = CELLS² · DIRECTIONS; each row has length 1, or is zero for an empty picture.
    """
    smooth = _blurred(torch.from_numpy(np.asarray(pictures, dtype=np.float32))[:, None], BLUR)
    across = smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]
    down = smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]
    strength = torch.hypot(across, down)[:, 0]
    place = torch.atan2(down, across)[:, 0].remainder(math.pi) * (DIRECTIONS / math.pi)
    lower = place.floor()
    share = place - lower  # of the next direction
    first = lower.long() % DIRECTIONS
    by_direction = strength.new_zeros(len(strength), DIRECTIONS, *strength.shape[1:])
    by_direction.scatter_add_(1, first[:, None], (strength * (1 - share))[:, None])
    by_direction.scatter_add_(1, (first + 1)[:, None] % DIRECTIONS, (strength * share)[:, None])
    side = strength.shape[-1] / CELLS
    centres = ((torch.arange(CELLS) + 0.5) * side).long()
    soft = _blurred(by_direction.flatten(0, 1)[:, None], SOFTNESS * side)
    cells = soft[:, 0][:, centres][:, :, centres].reshape(len(strength), -1)
    total = cells.sum(1, keepdim=True)
    return (cells / total.clamp_min(1e-12)).sqrt().double().numpy()


def _blurred(pictures: Tensor, deviation: float) -> Tensor:
    """Convolved with a Gaussian, [N 1 H W]."""
    reach = int(3 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    weights = (weights / weights.sum()).to(pictures)
    rows = functional.conv2d(pictures, weights.view(1, 1, 1, -1), padding=(0, reach))
    return functional.conv2d(rows, weights.view(1, 1, -1, 1), padding=(reach, 0))
