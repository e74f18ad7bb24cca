"""Text that comes back out: reconstruction and the diversity of samples."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from isthmus.evaluation.usage import Estimate

_GROUPS = 10


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
