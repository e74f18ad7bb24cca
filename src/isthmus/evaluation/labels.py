"""What a label y beside z is good for: accuracy, use, and what z still tells of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.evaluation.clustering import clustering_metrics
from isthmus.evaluation.usage import Estimate

_FOLDS = 5


def label_information(log_q: Tensor) -> Estimate:
    """I(x; y) under q(y|x) over N texts, nats: mean KL(q(y|x) ‖ mean q(y|x)), ≤ ln C.

    Arguments:
        log_q: log q(y|x), [N C].
    """
    exact = log_q.double()
    average = exact.exp().mean(0).log()
    return Estimate.mean_of((exact.exp() * (exact - average)).nan_to_num().sum(-1))


def accuracy(log_q: Tensor, names: Sequence[str], labels: Sequence[str]) -> Estimate:
    """Fraction of N texts whose most probable label is the true one."""
    found = [names[place] for place in log_q.argmax(-1).tolist()]
    right = [ours == theirs for ours, theirs in zip(found, labels, strict=True)]
    return Estimate.mean_of(torch.tensor(right).double())


def leakage(mean: Tensor, labels: Sequence[str], seed: int = 0) -> Estimate | None:
    """How much better a linear probe tells the label from z than the commonest label does.

    A logistic regression on the posterior mean, its coordinates standardised, judged on texts
    that it has not seen (five folds): 0 where z says nothing of the label.

    Arguments:
        mean: posterior means, [N P].
        labels: of the N texts.
        seed: of the folds.

    Returns:
        Accuracy of the probe minus accuracy of the commonest label; None where a label occurs
        once or all are the same, because no probe can be judged there.
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
    """All of it, for N texts.

    Arguments:
        log_q: log q(y|x), [N C].
        mean: posterior means, [N P].
        names: of the C labels.
        labels: the true ones, if they are known.
        clusters: the names are numbers of clusters, to be matched with the labels.
        seed: of the probe's folds.

    Returns:
        ``label_information``, ``labels_used`` (labels that are the most probable one of some
        text), and with true labels ``label_accuracy`` or ``label_agreement``, and
        ``label_leakage``; each but the counts with its standard error as ``…_se``.
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
        metrics |= {name: estimate.value, f"{name}_se": estimate.standard_error}
    return metrics
