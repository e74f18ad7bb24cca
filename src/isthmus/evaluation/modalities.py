"""What is measured of a latent with several modalities: each alone, and each from every other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, final

import torch
from torch import Tensor

from isthmus.data.captioned import CaptionedCorpus, Example
from isthmus.data.kind import sampled
from isthmus.evaluation import text
from isthmus.evaluation.labels import accuracy
from isthmus.evaluation.likelihood import Bounds, bounds, round_trip
from isthmus.evaluation.measures import Effort, Measures, Metrics, squared_error
from isthmus.evaluation.usage import Estimate, put
from isthmus.latent.distribution import Posterior
from isthmus.latent.noise import example_noise
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import LatentModel, evaluating, in_batches, over_batches, tokens_at_once
from isthmus.models.codec import Examples
from isthmus.models.generation import Generation
from isthmus.models.joint.codec import JointExamples
from isthmus.models.joint.model import JointModel
from isthmus.models.pictures.label_heads import LabelHead

MODALITY_STREAM = 2**34
"""Noise of these draws: a stream that neither training nor the bounds reach."""

SAMPLES = 20
"""Draws from one modality, at most: each pair of modalities takes them anew."""


@final
class JointMeasures(Measures):
    """The measures of examples with several modalities."""

    def symbols(self, measured: Bounds, examples: JointExamples) -> Metrics:
        """None: a token and a value of a picture are no common unit."""
        return {}

    def returned(
        self, model: LatentModel, measured: Bounds, examples: JointExamples, effort: Effort
    ) -> Metrics:
        """Each modality alone, and each from every other."""
        assert isinstance(model, JointModel)
        return modality_metrics(model, examples.examples, effort)

    def passes(self, examples: JointExamples, texts: int) -> int:
        """The bounds of each part alone."""
        return sum(int(own.sum()) for own in examples.given.values())

    def baseline(self, corpus: CaptionedCorpus) -> dict[str, Any]:
        """None."""
        return {}


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

    How well one modality predicts another: −log of the predictive distribution ∫ q(z) p(x|z) dz.
    The estimate is too high on average and falls to it with K (Pu et al. 2016 average their
    predictor over draws as well). The noise of example i is a function of (seed, i).

    Args:
        model: A joint model.
        posterior: What is known of z, [N P]; a standard normal for the prediction of the prior.
        targets: Prepared examples that have only what is to be predicted.
        samples: K.
        seed: Of the draws.
    """
    nats = torch.empty(len(targets), dtype=torch.double)
    with evaluating(model):
        for indices, batch in in_batches(model, targets):
            noise = example_noise(seed, MODALITY_STREAM, indices, (samples, *model.latent_shape))
            noise = noise.transpose(0, 1).to(model.device)
            z = posterior[indices].to(model.device).rsample(noise=noise)
            at_once = max(1, tokens_at_once(model) // model.symbols(batch))
            losses = torch.cat([model.reconstruction(part, batch) for part in z.split(at_once)])
            mean = torch.logsumexp(-losses.double(), 0) - math.log(samples)
            nats[indices] = -mean.cpu()
    return nats


def modality_metrics(model: JointModel, examples: Sequence[Example], effort: Effort) -> Metrics:
    """Each modality from itself, and from every other.

    Of modalities a and b, over the examples that have both:

    * ``b_nll_iw``, ``b_elbo``: bounds of log p(x_b), with q(z|x_b);
    * ``b_from_a``: :func:`predictive_nats` of x_b under q(z|x_a); ``b_from_a_shuffled``: under
      that of another example; ``b_from_prior``: under the prior. If a says something of b, it is
      below both;
    * of a model that predicts labels, :func:`predicted_label_metrics`;
    * ``caption_from_picture_bleu`` and ``_exact_match``: greedy captions from the mean of
      q(z|picture) against those of the examples; ``picture_from_caption_squared_error``: of values
      scaled to 0 … 1.
    """
    metrics: Metrics = {}
    samples, seed = effort.samples, effort.seed
    draws = min(samples, SAMPLES)
    for part in model.modalities:
        having = [example for example in examples if getattr(example, part) is not None]
        if not having:
            continue
        alone = model.codec.prepare(only(having, part))
        metrics[f"{part}s"] = len(having)
        measured = bounds(
            model,
            alone,
            samples=samples,
            seed=seed,
            progress=effort.progress,
            workers=effort.workers,
        )
        put(metrics, f"{part}_nll_iw", Estimate.mean_of(measured.nll_iw))
        put(metrics, f"{part}_elbo", Estimate.mean_of(-measured.negative_elbo))
        prior = standard_normal(len(having), model.config.latent_size)
        nats = predictive_nats(model, prior, alone, samples=draws, seed=seed)
        put(metrics, f"{part}_from_prior", Estimate.mean_of(nats))
    for source, part in permutations(model.modalities, 2):
        both = [e for e in examples if all(getattr(e, p) is not None for p in (source, part))]
        if both:
            metrics |= _across(model, both, source, part, replace(effort, samples=draws))
    labelled = [example for example in examples if example.label is not None]
    if labelled and model.labels is not None:
        metrics |= predicted_label_metrics(model, model.labels, labelled)
    return metrics


def predicted_label_metrics(
    model: JointModel, head: LabelHead, labelled: Sequence[Example]
) -> Metrics:
    """How well the model predicts labels from all else in an example, and from each modality.

    * ``labels``: examples with a label; ``labels_unknown``: those whose label no training example
      had. They count as wrong, and have no nats;
    * ``label_accuracy``, ``label_nats``: fraction right of E_q[p(y|z)] and its −log, under q(z|all
      parts); ``label_from_a_…``: under q(z|x_a), over the examples that have a;
      ``label_from_prior_…``: under the prior;
    * ``label_commonest``: share of the commonest label, what guessing it would get right.

    For the Bayesian SVM p(y|z) is its pseudo-likelihood over the sum of it over all labels.

    Args:
        model: With labels.
        head: Its p(y|z).
        labelled: N ≥ 1 examples with a label.
    """
    names, labels = model.label_set.names, [str(example.label) for example in labelled]
    metrics: Metrics = {"labels": len(labelled)}
    if unknown := sum(label not in names for label in labels):
        metrics["labels_unknown"] = unknown
    commonest = max(sorted(set(labels)), key=labels.count)
    share = torch.tensor([label == commonest for label in labels]).double()
    put(metrics, "label_commonest", Estimate.mean_of(share))
    sets = {f"label_from_{part}": (part,) for part in model.modalities} | {
        "label": model.modalities
    }
    for name, parts in sets.items():
        having = [e for e in labelled if any(getattr(e, part) is not None for part in parts)]
        if having:
            read = model.codec.prepare(only(having, *parts))
            with evaluating(model):
                log_p = over_batches(model, read, model.label_posterior)
            metrics |= _judged(log_p, names, [str(example.label) for example in having], name)
    prior = standard_normal(1, model.config.latent_size).to(model.device)
    log_p = head.averaged(prior).detach().cpu().expand(len(labels), -1)
    return metrics | _judged(log_p, names, labels, "label_from_prior")


def _judged(log_p: Tensor, names: Sequence[str], labels: Sequence[str], name: str) -> Metrics:
    metrics: Metrics = {}
    put(metrics, f"{name}_accuracy", accuracy(log_p, names, labels))
    known = [(row, names.index(label)) for row, label in enumerate(labels) if label in names]
    if known:
        nats = torch.stack([-log_p[row, place] for row, place in known])
        put(metrics, f"{name}_nats", Estimate.mean_of(nats))
    return metrics


def standard_normal(count: int, latent_size: int) -> DiagonalGaussian:
    """The prior as a posterior of N examples."""
    return DiagonalGaussian(torch.zeros(count, latent_size), torch.zeros(count, latent_size))


def _across(
    model: JointModel, both: list[Example], source: str, part: str, effort: Effort
) -> Metrics:
    """How well one part predicts another."""
    metrics: Metrics = {}
    samples, seed = effort.samples, effort.seed
    name = f"{part}_from_{source}"
    posterior = model.encode(only(both, source))
    targets = model.codec.prepare(only(both, part))
    own = predictive_nats(model, posterior, targets, samples=samples, seed=seed)
    put(metrics, name, Estimate.mean_of(own))
    if len(both) > 1:
        other = posterior[round_trip(len(both), seed)]
        foreign = predictive_nats(model, other, targets, samples=samples, seed=seed)
        put(metrics, f"{name}_shuffled", Estimate.mean_of(foreign))
    if effort.texts:
        places = sampled(len(both), effort.texts, seed)
        back = model.decode(posterior.mean[places], Generation(part=part))
        metrics |= _returned([getattr(both[n], part) for n in places], back, part, name)
    return metrics


def _returned(given: list[Any], back: list[Any], part: str, name: str) -> Metrics:
    metrics: Metrics = {}
    if part == "caption":
        put(metrics, f"{name}_exact_match", text.exact_match(given, back))
        put(metrics, f"{name}_bleu", text.bleu(given, back))
    if part == "picture":
        put(metrics, f"{name}_squared_error", squared_error(given, back))
    return metrics
