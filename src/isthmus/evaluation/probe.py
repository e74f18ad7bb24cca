"""How much of a known class a feature tells: a linear classifier with few labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from isthmus.errors import IsthmusError
from isthmus.evaluation.usage import Estimate

Features: TypeAlias = NDArray[Any] | csr_array
"""One row an example, [N P]."""
Indices = NDArray[np.int64]

SIZES = (10, 100, 1000)
HELD_OUT = 1 / 3
STRENGTHS = (1.0, 0.1, 10.0, 0.01, 100.0)
"""Inverse penalties to choose from; of equally good ones the first is taken."""
FOLDS = 5
ITERATIONS = 2000


@final
@dataclass(frozen=True)
class Draw:
    """Which examples a classifier sees and which it is judged on, as indices.

    Arguments:
        seed: what the draw is a function of.
        pool: all that are not held out.
        labelled: those of the pool whose class is told.
        held_out: a third of all.
    """

    seed: int
    pool: Indices
    labelled: Indices
    held_out: Indices


def probe(
    features: Features, labels: Sequence[str], sizes: Sequence[int] = SIZES, seeds: int = 5
) -> dict[int, Estimate]:
    """Accuracy of a logistic classifier with n labels, on examples that it has not seen.

    Each seed holds out a third of the examples and labels n of the others, both stratified, so
    that features of the same texts are judged on the same draws. Dense features are standardised
    by mean and deviation of all that is not held out, which takes no label; sparse ones are left
    as they are. The strength of the penalty is chosen by cross-validation within the n labels.

    References:
        Li et al. (2020), Optimus: low-resource classification.

    Arguments:
        features: [N P].
        labels: the class of each of the N examples.
        sizes: numbers n of labels in all.
        seeds: how many draws, ≥ 2.

    Returns:
        n → mean over the seeds; the standard error is that over the seeds, and the count theirs.

    Raises:
        IsthmusError: one class only, fewer labels than classes, or too few examples.
    """
    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    _check(names, classes, sizes, seeds)
    return {
        size: _mean([accuracy(features, classes, draw) for draw in draws(classes, size, seeds)])
        for size in sizes
    }


def majority(
    labels: Sequence[str], sizes: Sequence[int] = SIZES, seeds: int = 5
) -> dict[int, Estimate]:
    """What :func:`probe` would give if every example were put into the most frequent class.

    That is the most frequent among the n labels; arguments and result are those of ``probe``.
    """
    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    _check(names, classes, sizes, seeds)

    def right(draw: Draw) -> float:
        frequent = np.bincount(classes[draw.labelled]).argmax()
        return float((classes[draw.held_out] == frequent).mean())

    return {size: _mean([right(draw) for draw in draws(classes, size, seeds)]) for size in sizes}


def ruler_features(texts: Sequence[str]) -> csr_array:
    """TF-IDF of words and pairs of words, rows of length 1: the ruler without any network.

    Fitted on all texts, those that are held out later included; labels have no part in it.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]"
    )
    return csr_array(vectorizer.fit_transform(texts))


def draws(classes: Indices, size: int, seeds: int) -> Iterator[Draw]:
    """Held-out third and ``size`` labelled examples for each seed from 0, both stratified."""
    everything = np.arange(len(classes))
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        held_out = _stratified(everything, classes, round(HELD_OUT * len(classes)), generator)
        pool = np.setdiff1d(everything, held_out)
        yield Draw(seed, pool, _stratified(pool, classes, size, generator), held_out)


def _stratified(
    candidates: Indices, classes: Indices, size: int, generator: np.random.Generator
) -> Indices:
    """``size`` of the candidates at random, every class by its frequency and at least once."""
    mixed = generator.permutation(candidates)
    of_class = [mixed[classes[mixed] == name] for name in range(classes.max() + 1)]
    shares = share_out(np.asarray([len(members) for members in of_class]), size)
    return np.concatenate([m[:share] for m, share in zip(of_class, shares, strict=True)])


def share_out(counts: Indices, total: int) -> Indices:
    """Whole shares of a total in proportion to ``counts``, at least 1 each.

    Every class starts with 1; then the class that lacks most gets one more, until all is given.
    """
    exact = total * counts / counts.sum()
    shares = np.ones_like(counts)
    while shares.sum() < total:
        shares[np.argmax(exact - shares)] += 1
    return shares


def accuracy(features: Features, classes: Indices, draw: Draw) -> float:
    """Share of the held-out examples that a classifier of the labelled ones gets right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    known, unseen = _prepared(features, draw)
    model = LogisticRegression(max_iter=ITERATIONS)
    folds = _folds(classes[draw.labelled], draw.seed)
    if folds:
        model = GridSearchCV(model, {"C": STRENGTHS}, cv=folds)
    model.fit(known, classes[draw.labelled])
    return float(model.score(unseen, classes[draw.held_out]))


def _prepared(features: Features, draw: Draw) -> tuple[Features, Features]:
    """Features of the labelled and of the held-out examples as the classifier gets them."""
    if issparse(features):
        # Columns without an entry among the labelled keep the weight 0 under the penalty.
        known = features[draw.labelled]
        seen = np.unique(known.nonzero()[1])
        return known[:, seen], features[draw.held_out][:, seen]
    from sklearn.preprocessing import StandardScaler

    exact = np.asarray(features, dtype=np.float64)
    scaler = StandardScaler().fit(exact[draw.pool])
    return scaler.transform(exact[draw.labelled]), scaler.transform(exact[draw.held_out])


def _folds(classes: Indices, seed: int) -> list[tuple[Indices, Indices]]:
    """Stratified folds (train, test); no fold is judged on a class that it has not learnt.

    Classes with a single label are in every training part; where all have but one, no folds.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(classes)
    often = np.flatnonzero(counts[classes] > 1)
    if not len(often):
        return []
    single = np.flatnonzero(counts[classes] == 1)
    count = min(FOLDS, int(counts[counts > 1].min()))
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    return [
        (np.concatenate([single, often[train]]), often[test])
        for train, test in splitter.split(often, classes[often])
    ]


def _mean(accuracies: list[float]) -> Estimate:
    return Estimate.mean_of(torch.tensor(accuracies, dtype=torch.double))


def _check(names: NDArray[Any], classes: Indices, sizes: Sequence[int], seeds: int) -> None:
    counts = np.bincount(classes)
    if len(names) < 2:
        raise IsthmusError(f"a probe needs two classes or more, got one: {names[0]}")
    if counts.min() < 2:
        raise IsthmusError(
            f"class {names[counts.argmin()]} has one example; expected at least two, "
            "one to learn from and one to be judged on"
        )
    if seeds < 2:
        raise IsthmusError(f"seeds must be ≥ 2 for a confidence interval, got {seeds}")
    pool = len(classes) - max(len(names), round(HELD_OUT * len(classes)))
    for size in sizes:
        if not len(names) <= size <= pool:
            raise IsthmusError(
                f"labels must lie between the {len(names)} classes and the {pool} examples that "
                f"are not held out, got {size}"
            )
