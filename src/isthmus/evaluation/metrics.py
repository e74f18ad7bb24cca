"""Everything about a model in one dictionary, in stated units, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from isthmus.data.captioned import JOINT
from isthmus.data.corpus import TEXT
from isthmus.data.kind import Floor, Kind
from isthmus.data.pictures import PICTURE
from isthmus.evaluation import usage
from isthmus.evaluation.floor import check_floor
from isthmus.evaluation.labels import evaluate_labels
from isthmus.evaluation.likelihood import Bounds, bounds, latent_swaps
from isthmus.evaluation.measures import Effort, Measures, Metrics
from isthmus.evaluation.modalities import JointMeasures
from isthmus.evaluation.pictures import PictureMeasures
from isthmus.evaluation.refine import refine
from isthmus.evaluation.text import TextMeasures, reconstruction_metrics
from isthmus.evaluation.usage import Estimate, put
from isthmus.latent.distribution import Posterior
from isthmus.models.base import LatentModel, summarised
from isthmus.models.codec import Examples, TextExamples
from isthmus.models.labels import label_set
from isthmus.models.workers import HERE, Workers, prepared
from isthmus.progress import Progress, no_progress
from isthmus.runs.card import SAME, SUMMARY

MEASURES: dict[Kind, Measures] = {
    TEXT: TextMeasures(),
    PICTURE: PictureMeasures(),
    JOINT: JointMeasures(),
}
"""What is measured of each kind of data alone."""


def evaluate(
    model: LatentModel,
    examples: Examples,
    *,
    samples: int = 100,
    texts: int = 1000,
    refine_steps: int = 0,
    seed: int = 0,
    measured: Bounds | None = None,
    labels: Sequence[str] | None = None,
    floor: Floor | None = None,
    progress: Progress = no_progress,
    workers: Workers = HERE,
) -> Metrics:
    """Measure a model: likelihood, use of the latent, what comes back of texts or pictures.

    Args:
        model: Any model.
        examples: The texts or pictures, prepared by its codec.
        samples: K of the importance-weighted bound.
        texts: How many are decoded for exact match, BLEU and diversity; 0 for none.
        refine_steps: Of gradient ascent on each text's own posterior, for the amortisation
            gap; 0 for none.
        seed: Of all noise.
        measured: The bounds, where they have been taken already, with the same samples and seed.
        labels: The true labels of the texts; read only for a model with labels.
        floor: The entropy of the corpus, where it is known.
        progress: Called with the number just done, of :func:`work`.
        workers: Who computes the bounds, refinement and likelihoods under labels. The decoding
            of ``texts`` examples and all that is computed of the figures of each stay here.

    Returns:
        Nats per example unless the name says otherwise; ``x_se`` is the standard error of x, None
        where one example gives none. See docs/numbers.md for every key.

    Raises:
        IsthmusError: The likelihood is impossible, see :func:`check_floor`.
    """
    kind, effort = examples.kind, Effort(samples, texts, seed, progress, workers)
    if measured is None:
        measured = measured_bounds(model, examples, effort)
    check_floor(floor, examples, Estimate.mean_of(measured.nll_iw), "−log p(x)")
    metrics: Metrics = {f"{kind.unit}s": len(examples), "iw_samples": samples, "seed": seed}
    metrics |= likelihood_metrics(measured, examples)
    if refine_steps and not model.config.summary:
        metrics |= refined(model, examples, measured, effort, refine_steps)
    metrics |= latent_metrics(model, measured)
    if model.config.latents > 1:
        metrics |= grid_metrics(model, examples, measured, seed)
    if label_set(model).names:
        # With several modalities some labels may be missing: their measures handle the others.
        given = None if model.modalities else labels
        metrics |= evaluate_labels(model, examples, measured.posterior.mean, given, seed, workers)
    metrics |= MEASURES[kind].returned(model, measured, examples, effort)
    if (nats := metrics.get("caption_nll_iw")) is not None:
        captions = Estimate(nats, metrics["caption_nll_iw_se"], metrics["captions"])
        check_floor(floor, examples, captions, "−log p(caption)")
    if model.config.summary and isinstance(examples, TextExamples):
        metrics |= summary_metrics(model, examples, effort, floor, refine_steps)
    return metrics


def measured_bounds(
    model: LatentModel, examples: Examples, effort: Effort, posterior: Posterior | None = None
) -> Bounds:
    """The bounds of examples, under the encoder's posteriors or given ones."""
    return bounds(
        model,
        examples,
        samples=effort.samples,
        seed=effort.seed,
        posterior=posterior,
        progress=effort.progress,
        workers=effort.workers,
    )


def likelihood_metrics(measured: Bounds, examples: Examples) -> Metrics:
    """The terms of the bounds, how far they are apart, and the best bound by the symbol."""
    metrics: Metrics = {}
    kl = measured.kl.flatten(1).sum(-1).double()
    put(metrics, "reconstruction", Estimate.mean_of(measured.reconstruction))
    put(metrics, "kl", Estimate.mean_of(kl))
    put(metrics, "elbo", Estimate.mean_of(-measured.negative_elbo))
    put(metrics, "nll_iw", Estimate.mean_of(measured.nll_iw))
    put(metrics, "inference_gap", Estimate.mean_of(measured.negative_elbo - measured.nll_iw))
    return metrics | MEASURES[examples.kind].symbols(measured, examples)


def refined(
    model: LatentModel, examples: Examples, measured: Bounds, effort: Effort, steps: int
) -> Metrics:
    """What is gained by the best posterior of each example, found in some steps of ascent."""
    ascent = partial(_part_refined, steps=steps, seed=effort.seed)
    best = model.family(*effort.workers.map(ascent, model, examples, progress=effort.progress))
    again = measured_bounds(model, examples, effort, best)
    return {"refine_steps": steps} | refined_metrics(measured, again)


def _part_refined(
    model: LatentModel,
    examples: Any,
    places: Sequence[int],
    *,
    steps: int,
    seed: int,
    progress: Progress,
) -> tuple[Tensor, ...]:
    """The tensors of the best posteriors of some examples."""
    there = prepared(model, examples)
    found = refine(model, there, steps=steps, seed=seed, places=places, progress=progress)
    return found.tensors


def refined_metrics(measured: Bounds, refined: Bounds) -> Metrics:
    """How much of a loose bound is due to the encoder, and to the family of posteriors.

    The gaps are those of Cremer et al. (2018, table 1), with importance-weighted bounds in the
    place of log p(x). Both bounds come from the same noise, which is not the noise that the
    posteriors were refined with: errors are those of paired differences.

    Args:
        measured: Under the encoder's posteriors.
        refined: Under those that :func:`isthmus.evaluation.refine.refine` made of them.
    """
    metrics: Metrics = {}
    gap = measured.negative_elbo - refined.negative_elbo
    put(metrics, "elbo_refined", Estimate.mean_of(-refined.negative_elbo))
    put(metrics, "nll_iw_refined", Estimate.mean_of(refined.nll_iw))
    put(metrics, "amortisation_gap", Estimate.mean_of(gap))
    rest = refined.negative_elbo - refined.nll_iw
    put(metrics, "approximation_gap", Estimate.mean_of(rest))
    return metrics


def latent_metrics(model: LatentModel, measured: Bounds) -> Metrics:
    """Mutual information and its ceiling, active units, swap gap, the aggregate posterior."""
    count = len(measured.z)
    limit = math.log(count)
    information = usage.mutual_information(measured.posterior, measured.z)
    metrics: Metrics = {
        "latent_size": measured.posterior.mean[0].numel(),
        "prior": model.config.prior,
        "mutual_information_limit": limit,
        "mutual_information_draws": information.count,
        "mutual_information_saturated": count > 1 and information.value > usage.SATURATED * limit,
        "active_units_threshold": usage.ACTIVE_THRESHOLD,
        "kl_per_dimension": measured.kl.mean(0).flatten().tolist(),
    }
    put(metrics, "mutual_information", information)
    put(metrics, "active_units", usage.active_units(measured.posterior))
    if measured.swapped is None:
        metrics["swap_gap"] = metrics["swap_gap_se"] = None
    else:
        put(metrics, "swap_gap", Estimate.mean_of(measured.swapped - measured.own))
    deviation = measured.posterior.standard_deviation.flatten(1)
    mean = measured.posterior.mean.flatten(1)
    spread = (mean - mean.mean(0)).square().mean(0) + deviation.square().mean(0)
    metrics["aggregate_mean"] = mean.mean(0).tolist()
    metrics["aggregate_standard_deviation"] = spread.sqrt().tolist()
    metrics["standard_deviation_per_dimension"] = deviation.mean(0).tolist()
    metrics["mean_squared_norm"] = mean.square().sum(1).mean().item()
    metrics["mean_standard_deviation"] = deviation.mean().item() if deviation.numel() else None
    return metrics


def grid_metrics(model: LatentModel, examples: Examples, measured: Bounds, seed: int) -> Metrics:
    """What each of K > 1 latents holds by itself; a figure that does not exist is None.

    Of two levels only the latents of the summary by itself are swapped: a detail is its token's.

    Args:
        model: Any model with K latents.
        examples: What was measured.
        measured: Its bounds.
        seed: Of the bounds.
    """
    kl, gaps = None, None
    if measured.kl.ndim == 3:  # else it does not split over dimensions
        kl = [Estimate.mean_of(column) for column in measured.kl.sum(-1).unbind(1)]
    details = model.config.summary and not model.only_summary
    if measured.swapped is not None and not details:
        gaps = [Estimate.mean_of(rise) for rise in latent_swaps(model, examples, measured, seed)]
    metrics: Metrics = {"latents": measured.z.shape[1]}
    for name, found in (("kl_per_latent", kl), ("swap_gap_per_latent", gaps)):
        metrics[name] = found and [one.value for one in found]
        metrics[f"{name}_se"] = found and [one.standard_error for one in found]
    return metrics


def summary_metrics(
    model: LatentModel,
    examples: TextExamples,
    effort: Effort,
    floor: Floor | None,
    refine_steps: int = 0,
) -> Metrics:
    """The figures of a summary by itself, a VAE of its own: see :class:`summarised`."""
    with summarised(model):
        measured = measured_bounds(model, examples, effort)
        found = likelihood_metrics(measured, examples) | latent_metrics(model, measured)
        found |= grid_metrics(model, examples, measured, effort.seed)
        if refine_steps:
            found |= refined(model, examples, measured, effort, refine_steps)
        if effort.texts:
            found |= reconstruction_metrics(model, measured, examples, effort)
    check_floor(floor, examples, Estimate.mean_of(measured.nll_iw), "−log p(x) of the summary")
    return {f"{SUMMARY}{name}": value for name, value in found.items() if name not in SAME}


def work(model: LatentModel, examples: Examples, texts: int, refine_steps: int = 0) -> int:
    """How many examples :func:`evaluate` reports progress on.

    Refinement takes two more rounds: the ascent, and the bounds again. A summary takes one more,
    and its own reconstructions.
    """
    count = len(examples)
    own = count + min(texts, count) if model.config.summary else 0
    rounds = 3 if refine_steps else 1
    return rounds * count + MEASURES[examples.kind].passes(examples, texts) + own


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: those become null."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
