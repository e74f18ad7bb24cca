"""What the labels of a model are good for: accuracy, use, and what z still knows of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.labelled import split_label
from isthmus.evaluation import calibration
from isthmus.evaluation.attribution import code_metrics, code_prior, log_likelihoods
from isthmus.evaluation.clustering import clustering_metrics
from isthmus.evaluation.usage import Estimate, put
from isthmus.models.base import LatentModel, evaluating, over_batches, summary_of
from isthmus.models.codec import Examples
from isthmus.models.labels import label_set, labelled
from isthmus.models.workers import HERE, Workers

_FOLDS = 5


def label_information(log_q: Tensor) -> Estimate:
    """I(x; y) under q(y|x) over N examples, nats: mean KL(q(y|x) ‖ mean q(y|x)), ≤ ln C.

    Args:
        log_q: log q(y|x), [N C].
    """
    exact = log_q.double()
    average = exact.exp().mean(0).log()
    return Estimate.mean_of((exact.exp() * (exact - average)).nan_to_num().sum(-1))


def accuracy(log_q: Tensor, names: Sequence[str], labels: Sequence[str]) -> Estimate:
    """Fraction of N examples whose most probable label is the true one."""
    found = [names[place] for place in log_q.argmax(-1).tolist()]
    right = [ours == theirs for ours, theirs in zip(found, labels, strict=True)]
    return Estimate.mean_of(torch.tensor(right).double())


def leakage(mean: Tensor, labels: Sequence[str], seed: int = 0) -> Estimate | None:
    """How much better a linear probe predicts the label from z than the commonest label does.

    A logistic regression on the standardised posterior mean, tested by five-fold cross-validation:
    0 if z knows nothing of the label.

    Args:
        mean: posterior means, [N P].
        labels: of the N texts.
        seed: of the folds.

    Returns:
        Accuracy of the probe minus accuracy of the commonest label; None if a label occurs once
        or all are the same, because no probe can be tested then.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    [(commonest, _), *others] = Counter(labels).most_common()
    if not others or others[-1][1] < 2:
        return None
    truth = np.asarray(labels)
    folds = StratifiedKFold(min(_FOLDS, others[-1][1]), shuffle=True, random_state=seed)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    found = cross_val_predict(probe, mean.flatten(1).double().numpy(), truth, cv=folds)
    gain = (found == truth).astype(float) - (truth == commonest)
    return Estimate.mean_of(torch.from_numpy(gain))


def label_metrics(
    log_q: Tensor,
    mean: Tensor,
    names: Sequence[str],
    labels: Sequence[str] | None,
    clusters: bool,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of labels, for N examples.

    Args:
        log_q: log q(y|x), [N C].
        mean: posterior means, [N P].
        names: of the C labels.
        labels: the true ones, if known.
        clusters: the names are numbers of clusters, to be matched with the labels.
        seed: of the probe's folds.

    Returns:
        ``label_information``, ``labels_used`` (labels that are the most probable one of some
        example), and with true labels ``label_accuracy`` or ``label_agreement``, and
        ``label_leakage``; all but the counts with their standard errors as ``…_se``.
    """
    estimates = {"label_information": label_information(log_q)}
    metrics: dict[str, Any] = {"labels_used": len(log_q.argmax(-1).unique())}
    if labels is not None:
        if clusters:
            metrics["label_agreement"] = clustering_metrics(labels, log_q.argmax(-1).tolist())
        else:
            estimates["label_accuracy"] = accuracy(log_q, names, labels)
        if mean.numel() and (left := leakage(mean, labels, seed)) is not None:
            estimates["label_leakage"] = left
    for name, estimate in estimates.items():
        put(metrics, name, estimate)
    return metrics


def evaluate_labels(
    model: LatentModel,
    examples: Examples,
    mean: Tensor,
    labels: Sequence[str] | None,
    seed: int,
    workers: Workers = HERE,
) -> dict[str, Any]:
    """All figures of the labels of a model, for N examples.

    Args:
        model: with labels.
        examples: prepared by its codec.
        mean: posterior means of the examples, [N P].
        labels: the true ones, if known.
        seed: of the draws of z, and of the probe's folds.
        workers: who computes likelihoods.

    Returns:
        Those of :func:`label_metrics`; of a model that reads given labels also those of
        :func:`isthmus.evaluation.attribution.code_metrics`.
    """
    known = label_set(model)
    if labels is not None:
        labels = [split_label(label, known.separator)[0] for label in labels]
    coded = known.decoder_reads and not known.clusters
    found = None
    if coded and (labels is not None or not mean.numel()):
        found = log_likelihoods(model, examples, seed=seed, workers=workers)
    if found is not None and not mean.numel():  # q(y|x) is p(y|x), by Bayes' rule
        log_q = calibration.posterior(found, code_prior(model, "stored"))
    else:
        with evaluating(model):
            log_q = over_batches(model, examples, labelled(model).label_posterior)
    if not known.decoder_reads:
        mean = log_q[:, :0]  # z is meant to know y: nothing leaks
    elif mean.numel():
        mean = summary_of(model, mean)
    metrics = label_metrics(log_q, mean, known.names, labels, known.clusters, seed)
    return metrics | code_metrics(model, examples, found, labels, seed) if coded else metrics
