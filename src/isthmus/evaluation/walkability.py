"""Is a space worth walking in? Meaning, fluency, walks, smoothness and samples in figures.

docs/numbers.md explains every key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from isthmus.data.kind import sampled
from isthmus.data.profile import has_words
from isthmus.evaluation.judge import CountingJudge, Judge
from isthmus.evaluation.meaning import (
    SentenceEncoder,
    content_kept,
    function_words,
    meaning_metrics,
    put_or_null,
    unknown_words,
)
from isthmus.evaluation.measures import Metrics
from isthmus.evaluation.text import distinct, exact_match
from isthmus.evaluation.usage import Estimate
from isthmus.evaluation.walking import RADII, STEPS, WHOLE, Extent, Walked

LEAST = 100
"""From fewer texts no judge is fitted."""
BROKEN_FLUENCY = 1.5
"""Fluency breaks where the perplexity is this many times that of the unmoved."""
NO_MAUVE = 'mauve is not measured: it is not installed; run: pip install "isthmus[metrics]"'
NO_JUDGE = (
    f"fluency is not measured: a judge needs at least {LEAST} texts beside those that it judges; "
    "name the training texts with --training, or a language model with --judge"
)
_RESAMPLES = 200
_PARTS = 5
"""Parts left out in turn for the error of MAUVE."""


def walkability(
    found: Walked,
    encoder: SentenceEncoder | None,
    judge: Judge | None = None,
    extent: Extent = WHOLE,
    seed: int = 0,
) -> tuple[Metrics, list[str]]:
    """All figures, and a line for each that could not be taken.

    Args:
        found: See :func:`isthmus.evaluation.walking.walked`.
        encoder: Of sentences; without one, what it measures is null.
        judge: A language model; without one, n-grams of ``found.others``.
        extent: Among how many of ``found.others`` the nearest one is sought.
        seed: Of random pairs, of those others, and of resampling.
    """
    enough = len(found.others) >= LEAST
    if judge is None and enough:
        judge = CountingJudge(found.others, found.others_are)
    metrics: Metrics = {"meaning_texts": len(found.own)}
    metrics["sentence_encoder"] = None if encoder is None else encoder.name
    metrics |= _meaning(found, encoder, extent, seed)
    function = function_words(found.others if enough else found.own)
    put_or_null(metrics, "content_kept", content_kept(found.own, found.returned, function))
    metrics |= _fluency(found, judge) | _unknown(found, enough)
    metrics |= _walks(found, encoder)
    metrics |= _smoothness(found, encoder, judge, metrics, seed)
    metrics |= _samples(found, encoder, seed)
    notes = [] if judge else [NO_JUDGE]
    if encoder and find_spec("mauve") is None:
        notes.append(NO_MAUVE)
    return metrics, notes


def _meaning(found: Walked, encoder: SentenceEncoder | None, extent: Extent, seed: int) -> Metrics:
    metrics: Metrics = {}
    if encoder is None:
        for name in ("meaning", "meaning_nearest", "meaning_random", "meaning_share"):
            put_or_null(metrics, name, None)
        return metrics
    others = [found.others[i] for i in sampled(len(found.others), extent.nearest, seed)]
    own, returned = encoder.embed(found.own), encoder.embed(found.returned)
    metrics |= meaning_metrics(own, returned, encoder.embed(others), seed)
    return metrics | {"meaning_nearest_of": found.others_are}


def _fluency(found: Walked, judge: Judge | None) -> Metrics:
    """Perplexities under the judge, and their ratios to that of the real texts."""
    metrics: Metrics = {"judge": None, "judge_unit": None}
    if judge is not None:
        unit = "word" if judge.words else "character"
        metrics |= {"judge": judge.name, "judge_unit": unit}
    real = judge.scores(found.own) if judge else None
    put_or_null(metrics, "judged_ppl", real.perplexity if real else None)
    parts = {"returned": found.returned, "midpoints": found.middles, "samples": found.samples}
    for name, texts in parts.items():
        scores = judge.scores(texts) if judge and texts else None
        ratio = scores.ratio_to(real, paired=name == "returned") if scores and real else None
        put_or_null(metrics, f"judged_ppl_{name}", scores.perplexity if scores else None)
        put_or_null(metrics, f"fluency_{name}", ratio)
    return metrics


def _unknown(found: Walked, enough: bool) -> Metrics:
    """Words that no other text has: n-grams take all of them for rare words."""
    metrics: Metrics = {}
    known = frozenset(word for text in found.others for word in text.split())
    parts = {"": found.own, "_midpoints": found.middles, "_samples": found.samples}
    for name, texts in parts.items():
        share = unknown_words(texts, known) if enough and has_words(found.own) else None
        put_or_null(metrics, f"unknown_words{name}", share)
    return metrics


def _walks(found: Walked, encoder: SentenceEncoder | None) -> Metrics:
    """Ends that come back, and steps that lead from the one end to the other."""
    metrics: Metrics = {"walk_pairs": len(found.walks), "walk_points": STEPS + 2}
    names = ("walk_ends_reproduced", "walk_stays", "walk_falls", "walk_rises")
    metrics |= {name + error: None for name in names for error in ("", "_se")}
    if not found.walks:
        return metrics
    firsts, lasts = ([found.own[place] for place in column] for column in found.ends.T.tolist())
    both = [
        walk[0].split() == first.split() and walk[-1].split() == last.split()
        for walk, first, last in zip(found.walks, firsts, lasts, strict=True)
    ]
    stays = [[a == b for a, b in pairwise(walk)] for walk in found.walks]
    put_or_null(metrics, names[0], Estimate.mean_of(torch.tensor(both).double()))
    put_or_null(metrics, names[1], Estimate.mean_of(torch.tensor(stays).double().mean(1)))
    if encoder is None:
        return metrics
    points = encoder.embed([text for walk in found.walks for text in walk])
    points = points.view(len(found.walks), STEPS + 2, -1)
    signs = {names[2]: (firsts, -1), names[3]: (lasts, 1)}
    for name, (texts, sign) in signs.items():
        cosine = torch.einsum("mte,me->mt", points, encoder.embed(texts))
        forward = (sign * cosine.diff(dim=1) > 1e-6).double()
        # The steps of one walk depend on each other: the error is over walks.
        put_or_null(metrics, name, Estimate.mean_of(forward.mean(1)))
    return metrics


def _smoothness(
    found: Walked,
    encoder: SentenceEncoder | None,
    judge: Judge | None,
    metrics: Metrics,
    seed: int,
) -> Metrics:
    """A row for each radius, and the radii at which meaning and fluency break."""
    own = found.unmoved
    rows: list[Metrics] = [{"radius": radius} for radius in RADII]
    for row, texts in zip(rows, found.moved, strict=True):
        put_or_null(row, "exact_match", exact_match(own, texts))
    broken: Metrics = {"smoothness": rows}
    put_or_null(broken, "posterior_radius", found.posterior_radius)
    for name in ("meaning_radius", "fluency_radius"):
        put_or_null(broken, name, None)
    if encoder is not None:
        mine = encoder.embed(own)
        cosine = torch.stack([(mine * encoder.embed(texts)).sum(1) for texts in found.moved])
        for row, near in zip(rows, cosine, strict=True):
            put_or_null(row, "meaning", Estimate.mean_of(near))
        random = metrics["meaning_random"] or 0.0

        def lost(chosen: Tensor) -> Tensor:
            mean = cosine[:, chosen].double().mean(1) - random
            return 1 - mean / mean[0]

        # Where nothing comes back there is nothing to lose.
        kept = Estimate.mean_of(cosine[0].double() - random)
        if kept.value > 2 * (kept.standard_error or 0):
            put_or_null(broken, "meaning_radius", _radius(lost, 0.5, len(own), seed))
    if judge is not None:
        scores = [judge.scores(texts) for texts in found.moved]
        for row, one in zip(rows, scores, strict=True):
            put_or_null(row, "fluency", one.ratio_to(scores[0], paired=True))

        def rougher(chosen: Tensor) -> Tensor:
            nats = [(s.nats[chosen].sum() / s.symbols[chosen].sum()).item() for s in scores]
            return (torch.tensor(nats) - nats[0]).exp()

        broken_at = _radius(rougher, BROKEN_FLUENCY, len(own), seed)
        put_or_null(broken, "fluency_radius", broken_at)
    return broken


def _radius(curve: Callable[[Tensor], Tensor], level: float, count: int, seed: int) -> Estimate:
    """Where a rising curve over RADII first reaches a level; the largest radius if it never does.

    Args:
        curve: Maps chosen texts to its values, one for each radius.
        level: Above its first value.
        count: Of texts; the error is that over resampled ones.
        seed: Of the resampling.
    """
    generator = torch.Generator().manual_seed(seed)
    reached = _reached(curve(torch.arange(count)), level)
    if count < 2:
        return Estimate(reached, None, count)
    draws = torch.randint(count, (_RESAMPLES, count), generator=generator)
    again = [_reached(curve(chosen), level) for chosen in draws]
    return Estimate(reached, float(np.std(again, ddof=1)), count)


def _reached(values: Tensor, level: float) -> float:
    heights = values.tolist()
    for place in range(1, len(heights)):
        if heights[place] >= level:
            share = (level - heights[place - 1]) / (heights[place] - heights[place - 1])
            return RADII[place - 1] + share * (RADII[place] - RADII[place - 1])
    return RADII[-1]


def _samples(found: Walked, encoder: SentenceEncoder | None, seed: int) -> Metrics:
    """Variety of samples beside that of as many real texts, and MAUVE between the two."""
    metrics: Metrics = {}
    count = min(len(found.samples), len(found.real))
    samples, real = found.samples[:count], found.real[:count]
    worded = count > 0 and has_words(real)
    theirs = distinct(real, 2) if worded else None
    ours = distinct(samples, 2) if worded else None
    put_or_null(metrics, "samples_distinct_2", ours)
    put_or_null(metrics, "texts_distinct_2", theirs)
    mauve = None
    if encoder is not None and count >= LEAST and find_spec("mauve") is not None:
        mauve = mauve_of(encoder.embed(samples), encoder.embed(real), seed)
    put_or_null(metrics, "mauve", mauve)
    return metrics


def mauve_of(ours: Tensor, theirs: Tensor, seed: int = 0) -> Estimate:
    """MAUVE (Pillutla et al. 2021) between two sets of vectors [N E], by its authors' package.

    The error comes from leaving out a fifth of both in turn (jackknife over groups).
    """
    parts = torch.arange(len(ours)) % _PARTS
    values = [_mauve(ours[parts != p], theirs[parts != p], seed) for p in range(_PARTS)]
    error = math.sqrt((_PARTS - 1) * float(np.var(values)))
    return Estimate(_mauve(ours, theirs, seed), error, len(ours))


def _mauve(ours: Tensor, theirs: Tensor, seed: int) -> float:
    from mauve import compute_mauve

    p, q = (np.ascontiguousarray(part.numpy()) for part in (theirs, ours))
    found = compute_mauve(p_features=p, q_features=q, seed=seed % 2**31, verbose=False)
    return float(found.mauve)
