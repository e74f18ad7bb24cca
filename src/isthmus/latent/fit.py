"""Fit a prior to the aggregate posterior of a trained model."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from isthmus.latent.distribution import Posterior
from isthmus.latent.prior_module import Encode, PriorModule

LOOKS = 10
"""Looks at the held-out posteriors during a fit."""
WARM_UP = 10
"""Steps in which the learning rate rises; after them the speed is known."""
MOST_STEPS = 4_000
"""As many steps as a fit to the clock makes."""
_HELD_OUT_DRAWS = 512


@final
@dataclass(frozen=True)
class Fit:
    """How a fit went.

    Args:
        steps: that were made.
        losses: −log p(z) on held-out posteriors at the start and at every look, nats.
    """

    steps: int
    losses: list[float]


def fit_prior(
    module: PriorModule,
    posterior: Posterior,
    encode: Encode,
    *,
    held_out: Posterior,
    steps: int = 1000,
    seconds: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
) -> Fit:
    """Fit a prior to the aggregate posterior of a trained model: maximise E_x E_q(z|x) log p(z).

    That is the whole dependence of the ELBO on the prior (Tomczak & Welling 2018, section 2). A
    prior can learn the training examples by heart, so what is kept is the best of the start and of
    ten moments of the fit on held-out posteriors.

    Args:
        module: the prior, changed in place.
        posterior: q(z|x) of the training examples, [N P].
        encode: the model's encoder for VampPrior; its weights stay as they are.
        held_out: q(z|x) of other examples.
        steps: Adam steps; 0 keeps the start.
        seconds: that the fit may take; the speed of the first steps then decides their number,
            and a fit with that number as ``steps`` is the same.
        batch_size: draws per step; the kind's own if absent.
        learning_rate: at its highest; it rises, then falls to zero by a cosine. The kind's own if
            absent.
        seed: of the draws.
    """
    begun = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    parameters = [one for one in module.parameters() if one.requires_grad]
    if not parameters:
        raise ValueError("this prior has no parameters, so there is nothing to fit")
    module.start_from(posterior, generator)
    rows = torch.randperm(len(held_out), generator=generator)[:_HELD_OUT_DRAWS]
    best = _Best(module, draw(held_out[rows], generator).to(parameters[0]), encode)
    rate, batch_size = learning_rate or module.learning_rate, batch_size or module.batch_size
    optimiser = torch.optim.Adam(parameters, lr=rate)
    steps, step, clock = steps if seconds is None else MOST_STEPS, 0, 0.0
    while step < steps:
        optimiser.param_groups[0]["lr"] = rate * _share(step, steps)
        rows = torch.randint(len(posterior), (batch_size,), generator=generator)
        loss = module.loss(draw(posterior[rows], generator).to(parameters[0]), encode, generator)
        _step(optimiser, parameters, torch.autograd.grad(loss, parameters))
        step += 1
        if step == 1:
            clock = time.monotonic()
        if step == WARM_UP and seconds is not None:
            each = (time.monotonic() - clock) / (WARM_UP - 1)
            left = seconds - (time.monotonic() - begun) - LOOKS * best.seconds
            steps = min(MOST_STEPS, WARM_UP + max(0, int(left / each)))
        if step == steps or (step >= WARM_UP and step % -(-steps // LOOKS) == 0):
            best.look()
    best.restore()
    module.finish(best.z)
    return Fit(step, best.losses)


def draw(posterior: Posterior, generator: torch.Generator) -> Tensor:
    """A draw from each posterior, [N P]."""
    noise = torch.randn(1, *posterior.mean.shape, generator=generator)
    return posterior.rsample(noise=noise)[0]


@final
class _Best:
    """The best parameters of a module so far on held-out draws z."""

    def __init__(self, module: PriorModule, z: Tensor, encode: Encode) -> None:
        self.module, self.z, self.encode = module, z, encode
        self.losses: list[float] = []
        begun = time.monotonic()
        self.look()
        self.seconds = time.monotonic() - begun

    @torch.no_grad()
    def look(self) -> None:
        """Measure the present parameters, and keep them if no earlier ones were better."""
        loss = -self.module(self.encode).log_prob(self.z).mean().item()
        if all(loss <= earlier for earlier in self.losses):
            self.kept = {name: one.clone() for name, one in self.module.state_dict().items()}
        self.losses.append(loss)

    def restore(self) -> None:
        """Put the best parameters back."""
        self.module.load_state_dict(self.kept)


def _share(step: int, steps: int) -> float:
    """The part of the highest learning rate at a step."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (steps - WARM_UP)))


def _step(
    optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], gradients: Sequence[Tensor]
) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    torch.nn.utils.clip_grad_norm_(parameters, 5.0)
    optimiser.step()
