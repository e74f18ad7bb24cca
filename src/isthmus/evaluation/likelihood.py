"""The true bound of every example, whatever the model was trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from isthmus.data.batches import BucketBatches
from isthmus.data.kind import sampled
from isthmus.explore.walks import exchange
from isthmus.latent.distribution import Posterior
from isthmus.latent.noise import example_noise, in_whole
from isthmus.models.base import (
    LatentModel,
    evaluating,
    in_batches,
    to_device,
    tokens_at_once,
)
from isthmus.models.codec import Batch, Examples
from isthmus.models.workers import HERE, Workers, prepared
from isthmus.progress import Progress, no_progress

EVALUATION_STREAM = 2**32
"""Noise of evaluation: a stream that no training epoch reaches."""

SWAPPED_AT_MOST = 500
"""Examples whose latents are swapped one by one; fewer where there are many latents."""
SWAPS_AT_MOST, FEWEST_SWAPPED = 8_000, 30
"""Passes of single examples in all, and examples however many latents they have."""


@final
@dataclass(frozen=True)
class Bounds:
    """Per-example results of N examples with K samples each, nats, in main memory.

    Args:
        reconstruction: −E_q[log p(x|z)], mean over the K samples, [N].
        kl: KL(q(z|x) ‖ p(z)), [N P], or [N 1] for priors without a closed form.
        nll_iw: −log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x), [N].
        own: −log p(x|z) at the first sample, [N].
        swapped: the same with the first sample of another example, [N], see :func:`round_trip`;
            none for N = 1.
        posterior: q(z|x).
        z: the first sample, [N P].
    """

    reconstruction: Tensor
    kl: Tensor
    nll_iw: Tensor
    own: Tensor
    swapped: Tensor | None
    posterior: Posterior
    z: Tensor

    @property
    def negative_elbo(self) -> Tensor:
        """−ELBO of every example, [N]."""
        return self.reconstruction + self.kl.flatten(1).sum(-1).double()


@torch.no_grad()
def bounds(
    model: LatentModel,
    examples: Examples,
    *,
    samples: int,
    seed: int = 0,
    posterior: Posterior | None = None,
    progress: Progress = no_progress,
    workers: Workers = HERE,
) -> Bounds:
    """ELBO terms and the importance-weighted bound (Burda et al. 2016, eq. 8) of every example.

    The noise of example i is a function of (seed, i), so no number depends on the order or the
    size of batches. Memory is bounded by base.TOKENS_AT_ONCE decoder tokens, whatever K and N are.

    Args:
        model: any model with a latent.
        examples: prepared by its codec.
        samples: K ≥ 1.
        seed: of the noise.
        posterior: q(z|x) of all examples, where it is not to be the encoder's; the noise is the
            same, so that differences are paired.
        progress: called with the number of examples just done.
        workers: who computes.
    """
    work = partial(_part_bounds, samples=samples, seed=seed)
    reconstruction, kl, nll_iw, own, z, *tensors = workers.map(
        work, model, examples, posterior, progress=progress
    )
    swapped = None
    if len(examples) > 1:
        other = z[round_trip(len(z), seed)]
        [swapped] = workers.map(_part_losses, model, examples, other)
    return Bounds(reconstruction, kl, nll_iw, own, swapped, model.family(*tensors), z)


@torch.no_grad()
def _part_bounds(
    model: LatentModel,
    examples: Any,
    places: Sequence[int],
    posterior: Posterior | None,
    *,
    samples: int,
    seed: int,
    progress: Progress,
) -> tuple[Tensor, ...]:
    """The columns of some examples, and the tensors of their posteriors."""
    parts, order = [], []
    with evaluating(model):
        for indices, batch in in_batches(model, prepared(model, examples), progress):
            here = in_whole(places, indices)
            noise = example_noise(seed, EVALUATION_STREAM, here, (samples, *model.latent_shape))
            q = model.posterior(batch) if posterior is None else posterior[indices]
            noise = noise.transpose(0, 1).to(model.device)
            columns = _batch_bounds(model, q.to(model.device), batch, noise)
            parts.append((*columns, *q.cpu().tensors))
            order += indices
    back = torch.tensor(order).argsort()
    return tuple(torch.cat(column)[back] for column in zip(*parts, strict=True))


def _batch_bounds(
    model: LatentModel, posterior: Posterior, batch: Batch, noise: Tensor
) -> tuple[Tensor, ...]:
    """The columns of one batch; noise [K N P]."""
    prior = model.prior
    if not math.prod(model.latent_shape) or not posterior.varies:
        noise = noise[:1]  # without a latent, or under a codebook, all samples are one
    per_sample = model.symbols(batch)
    reconstruction, log_ratio = [], []
    for part in noise.split(max(1, tokens_at_once(model) // per_sample)):
        z = posterior.rsample(noise=part)  # [S N P]
        reconstruction.append(model.reconstruction(z, batch))
        log_ratio.append(posterior.log_prob(z) - prior.log_prob(z))  # [S N]
    losses, ratio = torch.cat(reconstruction), torch.cat(log_ratio)  # [K N]
    log_weights = -losses - ratio
    nll_iw = math.log(len(noise)) - torch.logsumexp(log_weights.double(), 0)
    exact = posterior.has_exact_kl(prior)
    kl = posterior.kl(prior) if exact else ratio.mean(0).unsqueeze(-1)
    z = posterior.rsample(noise=noise[:1])[0]
    return tuple(c.cpu() for c in (losses.double().mean(0), kl, nll_iw, losses[0], z))


def round_trip(count: int, seed: int) -> Tensor:
    """For each of N examples another one: the next in a random round trip, [N]."""
    trip = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(trip)
    other[trip] = trip.roll(-1)
    return other


@torch.no_grad()
def latent_swaps(
    model: LatentModel,
    examples: Examples,
    measured: Bounds,
    seed: int = 0,
    at_most: int = SWAPPED_AT_MOST,
) -> Tensor:
    """The rise of −log p(x|z) with one of K latents from another example, for each, [K M], nats.

    Args:
        model: any model with K > 1 latents.
        examples: N > 1 of them, prepared by its codec.
        measured: their bounds.
        seed: of the bounds, which determines the other example, and of the choice of the M.
        at_most: M, or fewer where K is large, since each of the K costs a pass.
    """
    other = measured.z[round_trip(len(measured.z), seed)]
    affordable = max(FEWEST_SWAPPED, SWAPS_AT_MOST // other.shape[1])
    places = torch.tensor(sampled(len(other), min(at_most, affordable), seed))
    rises = torch.empty(other.shape[1], len(places), dtype=torch.double)
    lengths = examples.lengths[places.numpy()]
    with evaluating(model):
        for part in BucketBatches(lengths, tokens_per_batch=tokens_at_once(model), shuffle=False):
            rows = places[part]
            batch = to_device(examples.collate(rows.tolist()), model.device)
            own, foreign = measured.z[rows], other[rows]
            for latent in range(len(rises)):
                z = exchange(own, foreign, latent).to(model.device)
                losses = model.reconstruction(z.unsqueeze(0), batch)[0].double().cpu()
                rises[latent, part] = losses - measured.own[rows]
    return rises


@torch.no_grad()
def _part_losses(
    model: LatentModel, examples: Any, places: Sequence[int], z: Tensor, *, progress: Progress
) -> tuple[Tensor]:
    """−log p(x_i|z_i) of some examples, [N], nats."""
    losses = torch.empty(len(z), dtype=torch.double)
    with evaluating(model):
        for indices, batch in in_batches(model, prepared(model, examples), progress):
            given = z[indices].to(model.device).unsqueeze(0)
            losses[indices] = model.reconstruction(given, batch)[0].double().cpu()
    return (losses,)
