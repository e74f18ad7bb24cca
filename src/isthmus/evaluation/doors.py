"""What is measured of a latent with several doors: each alone, and from each to every other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.captioned import Example
from isthmus.evaluation import text
from isthmus.evaluation.labels import accuracy
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate, put
from isthmus.latent.distribution import Posterior
from isthmus.latent.noise import example_noise
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import evaluating, in_batches, over_batches, tokens_at_once
from isthmus.models.codec import Examples
from isthmus.models.generation import Generation
from isthmus.models.joint.model import JointModel
from isthmus.models.pictures.label_heads import LabelHead
from isthmus.progress import Progress, no_progress

DOOR_STREAM = 2**34
"""Noise of draws at a door: a stream that neither training nor the bounds reach."""

SAMPLES = 20
"""Draws at a door, at most: the average over them is taken anew for every pair of doors."""


def only(examples: Sequence[Example], *parts: str) -> list[Example]:
    """The same examples with some of their parts and no others."""
    return [Example(**{part: getattr(example, part) for part in parts}) for example in examples]


@torch.no_grad()
def predictive_nats(
    model: JointModel,
    posterior: Posterior,
    targets: Examples,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Tensor:
    """−log 1/K Σ_k p(x|z_k), z_k ~ q, of N targets under a posterior each, [N], nats.

    What a door says of another part: −log of the predictive distribution ∫ q(z) p(x|z) dz, whose
    estimate is on average too high and falls to it with K (Pu et al. 2016 average their predictor
    over draws as well). The noise of example i is a function of (seed, i).

    Arguments:
        model: a joint model.
        posterior: what is known of z, [N P]; a standard normal for the prior's own prediction.
        targets: prepared examples that have only what is to be predicted.
        samples: K.
        seed: of the draws.
    """
    nats = torch.empty(len(targets), dtype=torch.double)
    with evaluating(model):
        for indices, batch in in_batches(model, targets):
            noise = example_noise(seed, DOOR_STREAM, indices, (samples, *model.latent_shape))
            noise = noise.transpose(0, 1).to(model.device)
            z = posterior[indices].to(model.device).rsample(noise=noise)
            at_once = max(1, tokens_at_once(model) // model.symbols(batch))
            losses = torch.cat([model.reconstruction(part, batch) for part in z.split(at_once)])
            mean = torch.logsumexp(-losses.double(), 0) - math.log(samples)
            nats[indices] = -mean.cpu()
    return nats


def door_metrics(
    model: JointModel,
    examples: Sequence[Example],
    *,
    samples: int,
    texts: int,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Each part through its own door, and every part through every other door.

    Of part b and door a, over the examples that have both:

    * ``b_nll_iw``, ``b_elbo``: bounds of log p(x_b), through b's door alone;
    * ``b_from_a``: :func:`predictive_nats` of x_b under q(z|x_a); ``b_from_a_shuffled``: the same
      under another example's, ``b_from_prior``: under the prior. A door that is worth something
      lies below both;
    * of labels, where the model tells them, :func:`told_metrics`;
    * ``caption_from_picture_bleu`` and ``_exact_match``: greedy captions from the mean of
      q(z|picture) against the example's own one; ``picture_from_caption_squared_error``: of values
      scaled to 0 … 1.
    """
    metrics: dict[str, Any] = {}
    draws = min(samples, SAMPLES)
    for part in model.kinds:
        having = [example for example in examples if getattr(example, part) is not None]
        if not having:
            continue
        alone = model.codec.prepare(only(having, part))
        metrics[f"{part}s"] = len(having)
        measured = bounds(model, alone, samples=samples, seed=seed, progress=progress)
        put(metrics, f"{part}_nll_iw", Estimate.mean_of(measured.nll_iw))
        put(metrics, f"{part}_elbo", Estimate.mean_of(-measured.negative_elbo))
        prior = standard_normal(len(having), model.config.latent_size)
        nats = predictive_nats(model, prior, alone, samples=draws, seed=seed)
        put(metrics, f"{part}_from_prior", Estimate.mean_of(nats))
    for door, part in permutations(model.kinds, 2):
        both = [e for e in examples if all(getattr(e, p) is not None for p in (door, part))]
        if both:
            metrics |= _through(model, both, door, part, draws, texts, seed)
    labelled = [example for example in examples if example.label is not None]
    if labelled and model.labels is not None:
        metrics |= told_metrics(model, model.labels, labelled)
    return metrics


def told_metrics(
    model: JointModel, head: LabelHead, labelled: Sequence[Example]
) -> dict[str, Any]:
    """How well labels are told from all else that is known of an example, and from each part.

    * ``labels``: examples with a label; ``labels_unknown``: those whose label the model was never
      told. They are counted wrong, and have no nats;
    * ``label_accuracy``, ``label_nats``: fraction right of E_q[p(y|z)] and its −log, under q(z|all
      parts); ``label_from_a_…``: the same under q(z|x_a), over the examples that have a;
      ``label_from_prior_…``: under the prior;
    * ``label_commonest``: share of the commonest label, what guessing it would get right.

    Of the Bayesian SVM p(y|z) is its pseudo-likelihood over the sum of it over all labels.

    Arguments:
        model: with labels.
        head: its p(y|z).
        labelled: N ≥ 1 examples with a label.
    """
    names, labels = model.label_set.names, [str(example.label) for example in labelled]
    metrics: dict[str, Any] = {"labels": len(labelled)}
    if unknown := sum(label not in names for label in labels):
        metrics["labels_unknown"] = unknown
    commonest = max(sorted(set(labels)), key=labels.count)
    share = torch.tensor([label == commonest for label in labels]).double()
    put(metrics, "label_commonest", Estimate.mean_of(share))
    sets = {f"label_from_{part}": (part,) for part in model.kinds} | {"label": model.kinds}
    for name, parts in sets.items():
        having = [e for e in labelled if any(getattr(e, part) is not None for part in parts)]
        if having:
            read = model.codec.prepare(only(having, *parts))
            with evaluating(model):
                log_p = over_batches(model, read, model.label_posterior)
            metrics |= _told(log_p, names, [str(example.label) for example in having], name)
    prior = standard_normal(1, model.config.latent_size).to(model.device)
    log_p = head.averaged(prior).detach().cpu().expand(len(labels), -1)
    return metrics | _told(log_p, names, labels, "label_from_prior")


def _told(log_p: Tensor, names: Sequence[str], labels: Sequence[str], name: str) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    put(metrics, f"{name}_accuracy", accuracy(log_p, names, labels))
    known = [(row, names.index(label)) for row, label in enumerate(labels) if label in names]
    if known:
        nats = torch.stack([-log_p[row, place] for row, place in known])
        put(metrics, f"{name}_nats", Estimate.mean_of(nats))
    return metrics


def standard_normal(count: int, latent_size: int) -> DiagonalGaussian:
    """The prior as a posterior of N examples."""
    return DiagonalGaussian(torch.zeros(count, latent_size), torch.zeros(count, latent_size))


def _through(
    model: JointModel,
    both: list[Example],
    door: str,
    part: str,
    draws: int,
    texts: int,
    seed: int,
) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    name = f"{part}_from_{door}"
    posterior = model.encode(only(both, door))
    targets = model.codec.prepare(only(both, part))
    own = predictive_nats(model, posterior, targets, samples=draws, seed=seed)
    put(metrics, name, Estimate.mean_of(own))
    if len(both) > 1:
        other = posterior[round_trip(len(both), seed)]
        foreign = predictive_nats(model, other, targets, samples=draws, seed=seed)
        put(metrics, f"{name}_shuffled", Estimate.mean_of(foreign))
    if texts:
        count = min(texts, len(both))
        mean = posterior.mean[:count]
        back = model.decode(mean, Generation(part=part))
        metrics |= _returned([getattr(e, part) for e in both[:count]], back, part, name)
    return metrics


def _returned(given: list[Any], back: list[Any], part: str, name: str) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    if part == "caption":
        put(metrics, f"{name}_exact_match", text.exact_match(given, back))
        put(metrics, f"{name}_bleu", text.bleu(given, back))
    if part == "picture":
        difference = torch.from_numpy((np.stack(back).astype(np.float64) - np.stack(given)) / 255)
        error = Estimate.mean_of(difference.square().flatten(1).mean(1))
        put(metrics, f"{name}_squared_error", error)
    return metrics


def round_trip(count: int, seed: int) -> Tensor:
    """For each of N examples another one: the next in a random round trip, [N]."""
    trip = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(trip)
    other[trip] = trip.roll(-1)
    return other
