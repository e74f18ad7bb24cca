"""Variational parameters of every example for itself, by gradient ascent from an encoder's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from isthmus.latent.posterior import DiagonalGaussian

Loss = Callable[[DiagonalGaussian, int], Tensor]
"""Loss [N], nats, of N posteriors at step k; no example's may depend on another's posterior."""

EPSILON = 0.1
"""Adam's ε, nats per unit: what has a smaller slope moves in proportion to it. A tiny ε would send
the dimensions that a latent does not use on a walk of full steps, led by noise and rounding."""

Slope = tuple[Tensor, ...]
"""Derivatives of a loss by mean and log_variance, both [N P]."""


def ascend(
    start: DiagonalGaussian, loss: Loss, steps: int, learning_rate: float
) -> tuple[DiagonalGaussian, Slope]:
    """Adam on (mean, log_variance) of N posteriors, its rate falling to zero by a cosine.

    Adam moves every number by its own gradients alone, so N examples in one batch climb as each
    would by itself. Nothing else gets a gradient.

    References:
        Hoffman et al. (2013), Stochastic Variational Inference; Kingma & Ba (2015), Adam.

    Arguments:
        start: where to begin, [N P]; no gradient flows into it.
        loss: what to lower, for the bound its negative.
        steps: ≥ 1.
        learning_rate: at the first step; about the farthest that a number moves in one.

    Returns:
        The posteriors that the steps lead to, and the slope at the start.
    """
    mean = start.mean.detach().clone().requires_grad_()
    log_variance = start.log_variance.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([mean, log_variance], learning_rate, eps=EPSILON)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    first: Slope = ()
    for step in range(steps):
        with torch.enable_grad():
            value = loss(DiagonalGaussian(mean, log_variance), step).sum()
        slope = torch.autograd.grad(value, [mean, log_variance])
        first = first or slope
        mean.grad, log_variance.grad = slope
        optimiser.step()
        decay.step()
    return DiagonalGaussian(mean, log_variance).detach(), first
