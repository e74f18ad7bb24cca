"""Posteriors over codes, and how well they are calibrated.

References:
    Keskar et al. (2019), CTRL, section 5 (attribution); Guo et al. (2017), On Calibration of
    Modern Neural Networks, section 2; Brier (1950).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from isthmus.evaluation.usage import Estimate

_RESAMPLES = 200


def posterior(log_likelihood: Tensor, log_prior: Tensor) -> Tensor:
    """log p(c|x) = log p(x|c) + log p(c) − log p(x), [N C], nats, in float64.

    Args:
        log_likelihood: log p(x|c), summed over tokens, not averaged, [N C], nats.
        log_prior: log p(c), [C], nats; need not be normalised.
    """
    return (log_likelihood.double() + log_prior.double()).log_softmax(-1)


def marginal(log_likelihood: Tensor, log_prior: Tensor) -> Tensor:
    """log p(x) = log Σ_c p(c) p(x|c), exact, [N], nats, in float64.

    Args:
        log_likelihood: log p(x|c), [N C], nats.
        log_prior: log p(c), normalised, [C], nats.
    """
    return (log_likelihood.double() + log_prior.double()).logsumexp(-1)


@final
@dataclass(frozen=True)
class Reliability:
    """B bins of the confidence, of equal width.

    Attributes:
        confidence: Mean probability of the most probable code, [B]; NaN where empty.
        accuracy: Fraction of texts where that code is the true one, [B]; NaN where empty.
        count: Texts, [B].
    """

    confidence: Tensor
    accuracy: Tensor
    count: Tensor


def reliability(log_posterior: Tensor, truth: Tensor, bins: int = 10) -> Reliability:
    """Confidence and accuracy in each bin.

    Args:
        log_posterior: log p(c|x), [N C], nats.
        truth: Indices of the true codes, [N].
        bins: B, of equal width between 0 and 1.
    """
    confidence, right = _judged(log_posterior, truth)
    place = _place(confidence, bins)

    def total(values: Tensor) -> Tensor:
        return torch.zeros(bins, dtype=torch.double).index_add_(0, place, values)

    count = total(torch.ones_like(confidence))
    return Reliability(total(confidence) / count, total(right) / count, count.long())


def expected_calibration_error(log_posterior: Tensor, truth: Tensor, bins: int = 10) -> Estimate:
    """ECE = Σ_b n_b/N · |accuracy_b − confidence_b|, over bins of equal width.

    Only the most probable code counts, and within a bin overconfident and underconfident texts
    cancel. So it can miss a wrong prior, which :func:`brier_score` shows.

    From N texts it is above 0 even for a perfect posterior; :func:`calibrated_error` measures by
    how much. Standard error: over resampled texts, from a fixed seed. Arguments are those of
    :func:`reliability`.
    """
    confidence, right = _judged(log_posterior, truth)
    count = len(confidence)
    place = _place(confidence, bins)
    gap = right - confidence
    value = _error(gap, place, bins).item()
    if count < 2:
        return Estimate(value, None, count)
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randint(count, (count,), generator=generator) for _ in range(_RESAMPLES))
    errors = torch.stack([_error(gap[rows], place[rows], bins) for rows in draws])
    return Estimate(value, errors.std().item(), count)


def calibrated_error(log_posterior: Tensor, bins: int = 10) -> Estimate:
    """The ECE that these posteriors would have if they were perfect: true codes drawn from them.

    References:
        Bröcker & Smith (2007), Increasing the Reliability of Reliability Diagrams.

    Returns:
        Mean over draws from a fixed seed. Its standard error is the deviation of a single draw,
        because it is compared with one data set.
    """
    confidence = log_posterior.double().amax(-1).exp()
    place = _place(confidence, bins)
    generator = torch.Generator().manual_seed(0)
    errors = torch.stack(
        [
            _error(confidence.bernoulli(generator=generator) - confidence, place, bins)
            for _ in range(_RESAMPLES)
        ]
    )
    return Estimate(errors.mean().item(), errors.std().item(), len(confidence))


def brier_score(log_posterior: Tensor, truth: Tensor) -> Estimate:
    """Mean of Σ_c (p(c|x) − [c is true])², between 0 and 2; arguments as :func:`reliability`."""
    wanted = torch.nn.functional.one_hot(truth, log_posterior.shape[-1])
    return Estimate.mean_of((log_posterior.double().exp() - wanted).square().sum(-1))


def _judged(log_posterior: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the most probable code, and 1 where that is the true one; both [N]."""
    best = log_posterior.double().max(-1)
    return best.values.exp(), (best.indices == truth).double()


def _place(confidence: Tensor, bins: int) -> Tensor:
    """The bin of each confidence; the last bin includes 1."""
    return (confidence * bins).long().clamp(max=bins - 1)


def _error(gap: Tensor, place: Tensor, bins: int) -> Tensor:
    """Σ_b |Σ_{i in b} gap_i| / N of gaps between accuracy and confidence [N]; counts cancel."""
    sums = torch.zeros(bins, dtype=torch.double).index_add_(0, place, gap)
    return sums.abs().sum() / len(gap)
