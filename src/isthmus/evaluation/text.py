"""What is measured of texts alone: perplexities, reconstruction, the diversity of samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, final

import torch

from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import sampled
from isthmus.data.profile import has_words
from isthmus.evaluation import usage
from isthmus.evaluation.brier import brier_metrics, forecasts
from isthmus.evaluation.likelihood import Bounds
from isthmus.evaluation.measures import Effort, Measures, Metrics
from isthmus.evaluation.probe import ruler_features
from isthmus.evaluation.usage import Estimate, put
from isthmus.explore.walks import decode_as, likely_labels
from isthmus.models.base import LatentModel
from isthmus.models.codec import TextExamples
from isthmus.models.generation import Generation
from isthmus.progress import Progress, no_progress

_GROUPS = 10


@final
class TextMeasures(Measures):
    """The measures of texts."""

    def symbols(self, measured: Bounds, examples: TextExamples) -> Metrics:
        """Counts of symbols, and perplexities whose two sides count the same ones."""
        whole = examples.predicted_texts
        ends = int(examples.codec.decoder_special.end is not None)  # CTRL predicts none
        words = torch.tensor([len(one.split()) + ends for one in whole], dtype=torch.double)
        characters = torch.tensor([len(one) + ends for one in whole], dtype=torch.double)
        predicted = torch.from_numpy(examples.predicted).double()
        metrics: Metrics = {
            "tokens": int(predicted.sum()),
            "words": int(words.sum()),
            "characters": int(characters.sum()),
            "cut": examples.decoder_tokens.cut,
            "unknown_tokens": examples.decoder_tokens.unknown,
        }
        put(metrics, "ppl_token", Estimate.ratio_of(measured.nll_iw, predicted).exponential)
        if has_words(whole):
            put(metrics, "ppl_word", Estimate.ratio_of(measured.nll_iw, words).exponential)
        else:
            metrics |= {"ppl_word": None, "ppl_word_se": None}
        bits = Estimate.ratio_of(measured.nll_iw / math.log(2), characters)
        put(metrics, "bits_per_character", bits)
        return metrics

    def returned(
        self, model: LatentModel, measured: Bounds, examples: TextExamples, effort: Effort
    ) -> Metrics:
        """Reconstructions and samples, and the units of Optimus' code."""
        metrics = text_metrics(model, measured, examples, effort) if effort.texts else {}
        return metrics | {"legacy": legacy_metrics(measured, examples)}

    def passes(self, examples: TextExamples, texts: int) -> int:
        """As many samples as reconstructions."""
        return 2 * min(texts, len(examples))

    def baseline(self, corpus: TextCorpus) -> dict[str, Any]:
        """TF-IDF of words and pairs of words."""
        return {"TF-IDF": ruler_features(corpus.texts)}


def exact_match(texts: Sequence[str], reconstructions: Sequence[str]) -> Estimate:
    """Fraction of texts that come back word for word, white space apart."""
    same = [a.split() == b.split() for a, b in zip(texts, reconstructions, strict=True)]
    return Estimate.mean_of(torch.tensor(same).double())


def bleu(texts: Sequence[str], reconstructions: Sequence[str]) -> Estimate:
    """Corpus BLEU-4 of reconstructions, 0–100, by sacrebleu (Post 2018) on white-space tokens.

    The standard error comes from sacrebleu's bootstrap over sentences.
    """
    from sacrebleu.metrics.bleu import BLEU

    # effective_order: where no text has four words, the orders that do occur are averaged.
    metric = BLEU(tokenize="none", force=True, effective_order=True)
    # More than one resample is needed for an interval, and one sentence has none.
    resamples = 200 if len(texts) > 1 else 1
    score = metric.corpus_score(list(reconstructions), [list(texts)], n_bootstrap=resamples)
    error = score._ci / 1.96 if resamples > 1 else None
    return Estimate(score.score, error, len(texts))


def distinct(texts: Sequence[str], n: int) -> Estimate:
    """Different n-grams over all n-grams (Li et al. 2016), in groups of a tenth of the texts.

    Fewer texts always look more diverse, so compare only values from equally many texts. The
    groups are there for the standard error.
    """
    values = []
    for group in _groups(texts):
        grams = [
            tuple(words[i : i + n])
            for words in (text.split() for text in group)
            for i in range(len(words) - n + 1)
        ]
        values.append(len(set(grams)) / len(grams) if grams else 0.0)
    return _of_groups(values, len(texts))


def unique(texts: Sequence[str]) -> Estimate:
    """Different texts over all texts, in the groups of :func:`distinct`."""
    return _of_groups([len(set(group)) / len(group) for group in _groups(texts)], len(texts))


def _groups(texts: Sequence[str]) -> list[Sequence[str]]:
    count = min(_GROUPS, len(texts))
    edges = [len(texts) * group // count for group in range(count + 1)]
    return [texts[start:end] for start, end in itertools.pairwise(edges)]


def _of_groups(values: list[float], count: int) -> Estimate:
    over_groups = Estimate.mean_of(torch.tensor(values, dtype=torch.double))
    return Estimate(over_groups.value, over_groups.standard_error, count)


def text_metrics(
    model: LatentModel,
    measured: Bounds,
    examples: TextExamples,
    effort: Effort,
) -> Metrics:
    """Reconstruction from the posterior mean (greedy), and samples from the prior."""
    places = sampled(len(examples), effort.texts, effort.seed)
    count, original = len(places), examples.spelled(places)
    metrics: Metrics = {"texts": count}
    if measured.z.numel():
        metrics |= reconstruction_metrics(model, measured, examples, effort)
        if forecasts(model):  # of chunks: for a language model it costs a pass for each token
            metrics |= brier_metrics(model, examples.codec.prepare(original), effort.seed)
    generator = torch.Generator().manual_seed(effort.seed)
    longest = int(examples.predicted.max())
    drawn = model.decode(
        model.prior.sample(count, generator),
        Generation(max_new_tokens=longest, sample=True, seed=effort.seed),
        effort.progress,
    )
    for name, sample in (("prior", drawn), ("data", original)):
        put(metrics, f"{name}_distinct_1", distinct(sample, 1))
        put(metrics, f"{name}_distinct_2", distinct(sample, 2))
        put(metrics, f"{name}_unique", unique(sample))
    return metrics


def reconstruction_metrics(
    model: LatentModel, measured: Bounds, examples: TextExamples, effort: Effort
) -> Metrics:
    """What comes back, greedily, from the posterior mean of some texts."""
    metrics: Metrics = {}
    places = sampled(len(examples), effort.texts, effort.seed)
    original = examples.spelled(places)
    returned = reconstructions(model, measured, examples, places, effort.progress)
    put(metrics, "exact_match", exact_match(original, returned))
    put(metrics, "bleu", bleu(original, returned))
    return metrics


def reconstructions(
    model: LatentModel,
    measured: Bounds,
    examples: TextExamples,
    places: Sequence[int],
    progress: Progress = no_progress,
) -> list[str]:
    """The greedy decodings of the posterior means of texts at some places."""
    own = likely_labels(model, [examples.texts[place] for place in places])
    greedy = Generation(max_new_tokens=int(examples.predicted.max()))
    return decode_as(model, measured.posterior.mean[places], own, greedy, progress)


def legacy_metrics(measured: Bounds, examples: TextExamples) -> Metrics:
    """The units of Optimus' code, for comparison with its tables and for nothing else.

    Its perplexity divides by subwords + 2, though only subwords + 1 tokens are predicted; its
    mutual information takes one term analytically; its "NLL" is −E log p(x|z).
    """
    counted = torch.from_numpy(examples.predicted).double() + 1
    has_latent = measured.z.numel() > 0
    return {
        "optimus_ppl": Estimate.ratio_of(measured.nll_iw, counted).exponential.value,
        "optimus_nll": measured.reconstruction.mean().item(),
        "optimus_mutual_information": usage.legacy_mutual_information(
            measured.posterior, measured.z
        )
        if has_latent
        else 0.0,
    }
