"""How well features predict a known class: a linear classifier with few labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.errors import IsthmusError
from isthmus.evaluation.usage import Estimate

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Features: TypeAlias = "NDArray[Any] | csr_array"
"""A row per example, [N P]."""
Indices = NDArray[np.int64]

SIZES = (10, 100, 1000)
HELD_OUT = 1 / 3
STRENGTHS = (1.0, 0.1, 10.0, 0.01, 100.0)
"""Inverse penalties to choose from; the first of equally good ones wins."""
FOLDS = 5
ITERATIONS = 2000


@final
@dataclass(frozen=True)
class Draw:
    """Indices of the examples that a classifier is trained and tested on.

    Attributes:
        seed: Determines the draw.
        pool: All that are not held out.
        labelled: Those of the pool with a label.
        held_out: A third of all.
    """

    seed: int
    pool: Indices
    labelled: Indices
    held_out: Indices


def probe(
    features: Features, labels: Sequence[str], sizes: Sequence[int] = SIZES, seeds: int = 5
) -> dict[int, Estimate]:
    """Accuracy of a logistic classifier trained on n labels, on held-out examples.

    Low-resource classification as in Li et al. (2020), Optimus. Each seed holds out a third of
    the examples and labels n of the others, both stratified; draws depend on the labels alone, so
    that different features of the same texts get the same draws. Dense features are standardised
    over all that is not held out. The penalty is chosen by cross-validation on the n labels.

    Args:
        features: [N P].
        labels: The class of each of the N examples.
        sizes: Total numbers n of labels.
        seeds: Number of draws, at least 2.

    Returns:
        n → mean accuracy, with its standard error over the seeds.

    Raises:
        IsthmusError: Only one class, fewer labels than classes, or too few examples.
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
    """:func:`probe` for a classifier that always predicts the most frequent of the n labels.

    Arguments and result are those of ``probe``.
    """
    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    _check(names, classes, sizes, seeds)

    def right(draw: Draw) -> float:
        frequent = np.bincount(classes[draw.labelled]).argmax()
        return float((classes[draw.held_out] == frequent).mean())

    return {size: _mean([right(draw) for draw in draws(classes, size, seeds)]) for size in sizes}


def ruler_features(texts: Sequence[str]) -> csr_array:
    """TF-IDF of words and pairs of words, rows of length 1: a baseline without any network.

    Fitted on all texts, including those that are held out later, but on no labels.
    """
    from scipy.sparse import csr_array
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
    """``size`` random candidates, each class in proportion and at least once."""
    mixed = generator.permutation(candidates)
    of_class = [mixed[classes[mixed] == name] for name in range(classes.max() + 1)]
    shares = share_out(np.asarray([len(members) for members in of_class]), size)
    return np.concatenate([m[:share] for m, share in zip(of_class, shares, strict=True)])


def share_out(counts: Indices, total: int) -> Indices:
    """Integer shares of a total in proportion to ``counts``, at least 1 each.

    Every class starts with 1; then the class that is shortest of its exact share gets one more,
    until the total is reached.
    """
    exact = total * counts / counts.sum()
    shares = np.ones_like(counts)
    while shares.sum() < total:
        shares[np.argmax(exact - shares)] += 1
    return shares


def accuracy(features: Features, classes: Indices, draw: Draw) -> float:
    """Accuracy on the held-out examples of a classifier trained on the labelled ones."""
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
    """Features of the labelled and of the held-out examples, as input of the classifier."""
    from scipy.sparse import issparse

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
    """Stratified folds (train, test); no fold is tested on a class that it was not trained on.

    Classes with a single label are in every training part. No folds if all classes have only one.
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
            "one to train on and one to test on"
        )
    if seeds < 2:
        raise IsthmusError(f"seeds: got {seeds}, expected at least 2 for a standard error")
    pool = len(classes) - max(len(names), round(HELD_OUT * len(classes)))
    for size in sizes:
        if not len(names) <= size <= pool:
            raise IsthmusError(
                f"labels: got {size}, expected a number from {len(names)}, the number of classes, "
                f"to {pool}, the examples that are not held out"
            )
