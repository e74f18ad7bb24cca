"""Posteriors of single examples, by gradient steps from those of an encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior

Loss = Callable[[Posterior, int], Tensor]
"""Loss [N], nats, of N posteriors at step k; no example's may depend on another's posterior."""

EPSILON = 0.1
"""Adam's ε, nats per unit: what has a smaller slope moves in proportion to it. With a tiny ε the
dimensions that a latent does not use would walk at full steps, led by noise and rounding."""

Slope = tuple[Tensor, ...]
"""Derivatives of a loss by each of the posterior's tensors."""


def ascend(
    start: Posterior, loss: Loss, steps: int, learning_rate: float
) -> tuple[Posterior, Slope]:
    """Adam on the parameters of N posteriors, its rate falling to zero by a cosine.

    Adam moves every number by its own gradients alone, so N examples in one batch climb as each
    would by itself. Nothing else gets a gradient.

    References:
        Hoffman et al. (2013), Stochastic Variational Inference; Kingma & Ba (2015), Adam.

    Args:
        start: where to begin; no gradient flows into it.
        loss: what to lower, for the bound its negative.
        steps: ≥ 1.
        learning_rate: at the first step; about the farthest that a number moves in one.

    Returns:
        The posteriors after the last step, and the slope at the start.

    Raises:
        IsthmusError: the latents are discrete.
    """
    if start.is_discrete:
        raise IsthmusError("refine: no gradient step moves discrete latents; leave it out")
    family = type(start)
    tensors = [tensor.detach().clone().requires_grad_() for tensor in start.tensors]
    optimiser = torch.optim.Adam(tensors, learning_rate, eps=EPSILON)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    first: Slope = ()
    for step in range(steps):
        with torch.enable_grad():
            value = loss(family(*tensors), step).sum()
        slope = torch.autograd.grad(value, tensors)
        first = first or slope
        for tensor, gradient in zip(tensors, slope, strict=True):
            tensor.grad = gradient
        optimiser.step()
        decay.step()
    return family(*tensors).detach(), first
