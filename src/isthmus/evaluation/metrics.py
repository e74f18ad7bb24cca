"""Everything about a model in one dictionary, in stated units, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from isthmus.evaluation import text, usage
from isthmus.evaluation.doors import door_metrics
from isthmus.evaluation.labels import evaluate_labels
from isthmus.evaluation.likelihood import Bounds, bounds
from isthmus.evaluation.pictures import bits_metrics, returned_metrics
from isthmus.evaluation.refine import refine
from isthmus.evaluation.usage import Estimate, put
from isthmus.explore.walks import decode_as, likely_labels
from isthmus.models.base import LatentModel
from isthmus.models.codec import Examples, TextExamples
from isthmus.models.generation import Generation
from isthmus.models.joint.codec import JointExamples
from isthmus.models.joint.model import JointModel
from isthmus.models.labels import label_set
from isthmus.models.pictures.codec import PictureExamples
from isthmus.progress import Progress, no_progress

Metrics = dict[str, Any]

PRIOR_SAMPLES = 1000


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
    progress: Progress = no_progress,
) -> Metrics:
    """Measure a model: likelihood, use of the latent, what comes back of texts or pictures.

    Arguments:
        model: any model.
        examples: the texts or pictures, prepared by its codec.
        samples: K of the importance-weighted bound.
        texts: how many are decoded for exact match, BLEU and diversity; 0 for none.
        refine_steps: of gradient ascent on each text's own posterior, which tell the amortisation
            gap; 0 for none.
        seed: of all noise.
        measured: the bounds, where they have been taken already, with the same samples and seed.
        labels: the true labels of the texts; read only for a model with labels.
        progress: called with the number just done, of :func:`work`.

    Returns:
        Nats per example unless the name says otherwise; ``x_se`` is the standard error of x, None
        where one example gives none. See docs/numbers.md for every key.
    """
    if measured is None:
        measured = bounds(model, examples, samples=samples, seed=seed, progress=progress)
    metrics: Metrics = {_counted(examples): len(examples), "iw_samples": samples, "seed": seed}
    metrics |= likelihood_metrics(measured, examples)
    if refine_steps:
        best = refine(model, examples, steps=refine_steps, seed=seed, progress=progress)
        again = bounds(
            model, examples, samples=samples, seed=seed, posterior=best, progress=progress
        )
        metrics |= {"refine_steps": refine_steps} | refined_metrics(measured, again)
    metrics |= latent_metrics(model, measured)
    if label_set(model).names:
        # In a joint model some labels may be missing: the doors judge the others.
        given = None if isinstance(model, JointModel) else labels
        metrics |= evaluate_labels(model, examples, measured.posterior.mean, given, seed)
    if isinstance(examples, TextExamples):
        if texts:
            metrics |= text_metrics(model, measured, examples, texts, seed, progress)
        metrics["legacy"] = legacy_metrics(measured, examples)
    elif isinstance(model, JointModel) and isinstance(examples, JointExamples):
        metrics |= door_metrics(
            model, examples.examples, samples=samples, texts=texts, seed=seed, progress=progress
        )
    elif texts:
        metrics |= returned_metrics(model, measured, examples, texts, progress)
    return metrics


def _counted(examples: Examples) -> str:
    """What examples are called where they are counted."""
    kinds = {TextExamples: "sentences", PictureExamples: "pictures"}
    return kinds.get(type(examples), "examples")


def likelihood_metrics(measured: Bounds, examples: Examples) -> Metrics:
    """The terms of the bounds, how far they are apart, and the best bound by the symbol."""
    metrics: Metrics = {}
    by_symbol: Metrics = {}
    if isinstance(examples, TextExamples):
        metrics, by_symbol = _text_symbols(measured, examples)
    elif isinstance(examples, PictureExamples):
        by_symbol = bits_metrics(measured, examples)
    kl = measured.kl.flatten(1).sum(-1).double()
    put(metrics, "reconstruction", Estimate.mean_of(measured.reconstruction))
    put(metrics, "kl", Estimate.mean_of(kl))
    put(metrics, "elbo", Estimate.mean_of(-measured.negative_elbo))
    put(metrics, "nll_iw", Estimate.mean_of(measured.nll_iw))
    put(metrics, "inference_gap", Estimate.mean_of(measured.negative_elbo - measured.nll_iw))
    return metrics | by_symbol


def _text_symbols(measured: Bounds, examples: TextExamples) -> tuple[Metrics, Metrics]:
    """How many symbols there are, and perplexities whose two sides count the same ones."""
    whole = examples.predicted_texts
    ends = int(examples.codec.decoder_special.end is not None)  # CTRL predicts none
    words = torch.tensor([len(one.split()) + ends for one in whole], dtype=torch.double)
    characters = torch.tensor([len(one) + ends for one in whole], dtype=torch.double)
    predicted = torch.from_numpy(examples.predicted).double()
    counts: Metrics = {
        "tokens": int(predicted.sum()),
        "words": int(words.sum()),
        "characters": int(characters.sum()),
        "cut": examples.decoder_tokens.cut,
        "unknown_tokens": examples.decoder_tokens.unknown,
    }
    metrics: Metrics = {}
    put(metrics, "ppl_token", _exponential(Estimate.ratio_of(measured.nll_iw, predicted)))
    put(metrics, "ppl_word", _exponential(Estimate.ratio_of(measured.nll_iw, words)))
    bits = Estimate.ratio_of(measured.nll_iw / math.log(2), characters)
    put(metrics, "bits_per_character", bits)
    return counts, metrics


def refined_metrics(measured: Bounds, refined: Bounds) -> Metrics:
    """Whose fault a loose bound is: the encoder's, or that of the family of posteriors.

    The gaps are those of Cremer et al. (2018, table 1), with importance-weighted bounds in the
    place of log p(x). Both bounds come from the same noise, which is not the noise that the
    posteriors were refined with: errors are those of paired differences.

    Arguments:
        measured: under the encoder's posteriors.
        refined: under those that :func:`isthmus.evaluation.refine.refine` made of them.
    """
    metrics: Metrics = {}
    gap = measured.negative_elbo - refined.negative_elbo
    put(metrics, "elbo_refined", Estimate.mean_of(-refined.negative_elbo))
    put(metrics, "nll_iw_refined", Estimate.mean_of(refined.nll_iw))
    put(metrics, "amortisation_gap", Estimate.mean_of(gap))
    rest = refined.negative_elbo - refined.nll_iw
    put(metrics, "approximation_gap", Estimate.mean_of(rest))
    return metrics


def _exponential(estimate: Estimate) -> Estimate:
    """Exp of an estimate; its error by the derivative. Beyond float64 it is infinity."""
    value = torch.tensor(estimate.value, dtype=torch.double).exp().item()
    error = None if estimate.standard_error is None else value * estimate.standard_error
    return Estimate(value, error, estimate.count)


def latent_metrics(model: LatentModel, measured: Bounds) -> Metrics:
    """Mutual information and its ceiling, active units, swap gap, the aggregate posterior."""
    count = len(measured.z)
    limit = math.log(count)
    information = usage.mutual_information(measured.posterior, measured.z)
    metrics: Metrics = {
        "latent_size": measured.posterior.mean[0].numel(),
        "prior": model.config.prior,
        "mutual_information_limit": limit,
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


def work(examples: Examples, texts: int, refine_steps: int = 0) -> int:
    """What :func:`evaluate` has to do: bounds of all, some reconstructions, as many samples.

    To refine takes two more rounds: the ascent, and the bounds again. Of pictures no samples are
    measured.
    """
    rounds = 3 if refine_steps else 1
    if isinstance(examples, JointExamples):  # bounds once more for each part alone
        return rounds * len(examples) + sum(int(own.sum()) for own in examples.given.values())
    decoded = 2 if isinstance(examples, TextExamples) else 1
    return rounds * len(examples) + decoded * min(texts, len(examples))


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: those become null."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def text_metrics(
    model: LatentModel,
    measured: Bounds,
    examples: TextExamples,
    texts: int,
    seed: int,
    progress: Progress,
) -> Metrics:
    """Reconstruction from the posterior mean (greedy), and samples from the prior."""
    count = min(texts, len(examples))
    original = examples.predicted_texts[:count]
    longest = int(examples.predicted.max())
    greedy = Generation(max_new_tokens=longest)
    metrics: Metrics = {"texts": count}
    if measured.z.numel():
        own = likely_labels(model, examples.texts[:count])
        returned = decode_as(model, measured.posterior.mean[:count], own, greedy, progress)
        put(metrics, "exact_match", text.exact_match(original, returned))
        put(metrics, "bleu", text.bleu(original, returned))
    generator = torch.Generator().manual_seed(seed)
    drawn = model.decode(
        model.prior.sample(count, generator),
        Generation(max_new_tokens=longest, sample=True, seed=seed),
        progress,
    )
    for name, sample in (("prior", drawn), ("data", original)):
        put(metrics, f"{name}_distinct_1", text.distinct(sample, 1))
        put(metrics, f"{name}_distinct_2", text.distinct(sample, 2))
        put(metrics, f"{name}_unique", text.unique(sample))
    return metrics


def legacy_metrics(measured: Bounds, examples: TextExamples) -> Metrics:
    """The units of Optimus' code, for comparison with its tables and for nothing else.

    Its perplexity divides by subwords + 2, though only subwords + 1 tokens are predicted; its
    mutual information takes one term analytically; its "NLL" is −E log p(x|z).
    """
    counted = torch.from_numpy(examples.predicted).double() + 1
    has_latent = measured.z.numel() > 0
    return {
        "optimus_ppl": _exponential(Estimate.ratio_of(measured.nll_iw, counted)).value,
        "optimus_nll": measured.reconstruction.mean().item(),
        "optimus_mutual_information": usage.legacy_mutual_information(
            measured.posterior, measured.z
        )
        if has_latent
        else 0.0,
    }
