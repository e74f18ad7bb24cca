"""How close decoded pictures are to their originals, apart from any likelihood."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isthmus.evaluation.usage import Estimate


def peak_signal_to_noise(given: Tensor, drawn: Tensor) -> Estimate:
    """PSNR of N pictures, 10 log₁₀(peak² / mean squared error), decibels.

    The error is a mean over the values of all pictures, so that one that is met exactly makes
    nothing infinite. Its standard error comes from that of the mean (delta method).

    Args:
        given: Values from −1 to 1, [N …]: the peak is 2.
        drawn: The same for what was drawn.
    """
    error = Estimate.mean_of((given - drawn).flatten(1).double().square().mean(1))
    if error.value == 0:
        return Estimate(math.inf, None, error.count)
    decibels = 10 * math.log10(4 / error.value)
    if error.standard_error is None:
        return Estimate(decibels, None, error.count)
    slope = 10 / math.log(10) / error.value
    return Estimate(decibels, slope * error.standard_error, error.count)


def inversion_error(given: Tensor, drawn: Tensor) -> Estimate:
    """Normalised inversion error: mean ‖C(x) − C(x̂)‖ over mean ‖C(x) − C(x′)‖ of other pictures.

    0 is exact; 1 is no nearer than another picture of the set. The standard error is that of the
    numerator alone, the denominator being a mean over all N (N − 1) / 2 pairs.
    Dosovitskiy & Brox (2016), arXiv 1506.02753, section 4.

    Args:
        given: Features of N ≥ 2 pictures, [N F]; their values themselves are features too.
        drawn: Of what was drawn for them, [N F].
    """
    given, drawn = given.flatten(1).double(), drawn.flatten(1).double()
    usual = torch.pdist(given).mean()
    return Estimate.mean_of((given - drawn).norm(dim=1) / usual)


def sharpness(pictures: Tensor) -> Tensor:
    """Gradient energy: Σ of squared differences between neighbours, [N C H W] → [N]."""
    exact = pictures.double()
    down, right = exact.diff(dim=2), exact.diff(dim=3)
    return down.square().flatten(1).sum(1) + right.square().flatten(1).sum(1)


def sharpness_ratio(given: Tensor, drawn: Tensor) -> Estimate:
    """Gradient energy of what was drawn over that of what was given, each a sum over N pictures.

    1 for pictures as sharp as their originals, below for blurred ones, above for noisy ones.

    Args:
        given: Values of any scale, [N C H W].
        drawn: Of the same scale.
    """
    return Estimate.ratio_of(sharpness(drawn), sharpness(given))
