"""The best posterior of every example, where the encoder gives one function for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from isthmus.latent.ascent import ascend
from isthmus.latent.distribution import Posterior
from isthmus.latent.noise import example_noise, in_whole
from isthmus.models.base import LatentModel, evaluating, in_batches, tokens_at_once
from isthmus.models.codec import Batch, Examples
from isthmus.progress import Progress, no_progress

ASCENT_STREAM = 2**33
"""Noise of step k is stream 2³³ + k: none that training or evaluation draws from."""

CHOICE_STREAM = 2**34
"""Noise on which start and end are compared."""

CHOICE_PAIRS = 8
"""Antithetic pairs of draws in that comparison."""

HELD = 4
"""Batches are smaller than without gradient by this factor: all layers' activations are held."""


def refine(
    model: LatentModel,
    examples: Examples | Sequence[Any],
    *,
    steps: int = 50,
    learning_rate: float = 0.1,
    seed: int = 0,
    places: Sequence[int] | None = None,
    progress: Progress = no_progress,
) -> Posterior:
    """Improve the encoder's posterior of every example by gradient ascent on its ELBO at β = 1.

    The model stays as it is. Every step draws one antithetic pair, z = mean ± σ·ε, afresh, so
    that no posterior fits the noise it was found with. The start is kept where the end is not
    better on a fixed third noise; the bound of the result on that noise is therefore too good by
    a little, and a gap has to be measured on another: :func:`isthmus.evaluation.likelihood.bounds`
    does. All noise of example i is a function of (seed, i).

    References:
        Hoffman et al. (2013), Stochastic Variational Inference; Cremer et al. (2018), Inference
        Suboptimality in Variational Autoencoders, arXiv 1801.03558.

    Args:
        model: any model with a latent; without one the posterior is empty and stays so.
        examples: prepared by its codec, or texts.
        steps: ≥ 0; each costs two decoder passes of every example, forward and backward.
        learning_rate: at the first step, falling to zero; units of z.
        seed: of the noise.
        places: of the examples in a whole of which they are a part, for the noise.
        progress: called with the number of examples just done.

    Returns:
        [N P], in the order of the examples, in main memory.
    """
    if not isinstance(examples, Examples):
        examples = model.read(examples)
    parts, order = [], []
    with evaluating(model), fixed(model):
        for indices, batch in in_batches(model, examples, progress, share=2 * HELD):
            here = in_whole(places, indices)
            parts.append(_refine_batch(model, batch, here, steps, learning_rate, seed).cpu())
            order += indices
    return Posterior.concatenate(parts)[torch.tensor(order).argsort()]


def _refine_batch(
    model: LatentModel,
    batch: Batch,
    indices: Sequence[int],
    steps: int,
    learning_rate: float,
    seed: int,
) -> Posterior:
    start, prior = model.posterior(batch), model.prior
    if not start.mean.numel():
        return start

    def antithetic(stream: int, pairs: int) -> Tensor:
        noise = example_noise(seed, stream, indices, (pairs, *model.latent_shape)).transpose(0, 1)
        return torch.cat([noise, -noise]).to(model.device)  # [2·pairs N P]

    def loss(posterior: Posterior, noise: Tensor) -> Tensor:
        return model.terms_under(posterior, prior, batch, noise).terms.negative_elbo

    def at_step(posterior: Posterior, step: int) -> Tensor:
        return loss(posterior, antithetic(ASCENT_STREAM + step, 1))

    end, _ = ascend(start, at_step, steps, learning_rate)
    at_once = max(1, tokens_at_once(model) // model.symbols(batch))
    parts = antithetic(CHOICE_STREAM, CHOICE_PAIRS).split(at_once)
    with torch.no_grad():
        before, after = (
            torch.stack([loss(q, part) * len(part) for part in parts]).sum(0) for q in (start, end)
        )
    # Row n of the start, or row n of the end, which comes N rows later.
    rows = torch.arange(len(start), device=before.device) + len(start) * (after < before)
    return Posterior.concatenate([start, end])[rows]


@contextmanager
def fixed(model: torch.nn.Module) -> Iterator[None]:
    """No parameter needs a gradient inside the block; each is as before after it."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_()
