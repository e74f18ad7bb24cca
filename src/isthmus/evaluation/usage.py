"""Does the model use its latent? Mutual information, active units, the aggregate posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from isthmus.latent.distribution import Posterior

ACTIVE_THRESHOLD = 0.01
SATURATED = 0.95
PAIRS = 2**28
"""Of draws and posteriors, at most, that are compared for the mutual information..."""
FEWEST = 256
"""... but not fewer draws than this."""
_RESAMPLES = 200
GROUPS = 2**12
"""Up to that many examples are resampled one by one, more in as many groups."""


@final
@dataclass(frozen=True)
class Estimate:
    """A number, its standard error and the number of examples behind it."""

    value: float
    standard_error: float | None
    count: int

    @classmethod
    def mean_of(cls, values: Tensor) -> Estimate:
        """Mean and standard error of N values; no error from a single one."""
        exact = values.double()
        error = exact.std().item() / math.sqrt(len(exact)) if len(exact) > 1 else None
        return cls(exact.mean().item(), error, len(exact))

    @classmethod
    def ratio_of(cls, numerators: Tensor, denominators: Tensor) -> Estimate:
        """Σ a / Σ b of N pairs with the standard error of a ratio of means (delta method)."""
        value = (numerators.sum() / denominators.sum()).item()
        residual = (numerators - value * denominators) / denominators.mean()
        error = residual.std().item() / math.sqrt(len(residual)) if len(residual) > 1 else None
        return cls(value, error, len(residual))

    @property
    def exponential(self) -> Estimate:
        """exp of it; its error by the derivative. Beyond float64 it is infinity."""
        value = torch.tensor(self.value, dtype=torch.double).exp().item()
        error = None if self.standard_error is None else value * self.standard_error
        return Estimate(value, error, self.count)

    @property
    def half_width(self) -> float | None:
        """Of the 95 % confidence interval of a mean of N values: t(0.975; N − 1) · error."""
        if self.standard_error is None:
            return None
        from scipy.stats import t

        return float(t.ppf(0.975, self.count - 1)) * self.standard_error


def put(metrics: dict[str, Any], name: str, estimate: Estimate) -> None:
    """Add a figure under its name, with its standard error."""
    metrics[name] = estimate.value
    metrics[f"{name}_se"] = estimate.standard_error


def mutual_information(posterior: Posterior, z: Tensor) -> Estimate:
    """I(x; z) under q over N examples, nats: mean of log q(z_i|x_i) − log q(z_i), z_i ~ q(z|x_i).

    Both terms are sampled at the same z_i, so that the estimate never exceeds ln N: the mixture
    q(z) contains the example's own posterior with weight 1/N. Taking the first term
    analytically, as is common, breaks that and lets estimates exceed their own ceiling.

    The mixture is always that of all N examples. The mean is over all of them up to N = 16,384,
    and beyond that over a random sample of :data:`PAIRS` / N: the time does not grow with N².

    References:
        Hoffman & Johnson (2016), ELBO surgery; He et al. (2019), arXiv 1901.05534, section 4.

    Args:
        posterior: N distributions.
        z: one draw from each, [N P].
    """
    rows = _drawn(len(z)).to(z.device)
    own = posterior[rows].double().log_prob(z[rows].double())
    return Estimate.mean_of(own - posterior.log_aggregate(z[rows]))


def _drawn(count: int) -> Tensor:
    """The places of all N examples, or of a random sample that all N can be compared with."""
    most = max(FEWEST, PAIRS // max(1, count))
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]


def legacy_mutual_information(posterior: Posterior, z: Tensor) -> float:
    """The estimate of Optimus' and He's code: analytic −H(q(z|x)) − sampled log q(z), nats.

    It may exceed ln N or fall below zero; here only so that old tables can be compared.
    """
    negative_entropy = -posterior.double().entropy().mean()
    rows = _drawn(len(z)).to(z.device)
    return (negative_entropy - posterior.log_aggregate(z[rows]).mean()).item()


def active_units(posterior: Posterior, threshold: float = ACTIVE_THRESHOLD) -> Estimate:
    """Dimensions whose posterior mean varies over the data: Var_x(mean_j) ≥ threshold.

    References:
        Burda et al. (2016), Importance Weighted Autoencoders, section 2; N − 1 in the variance.

    Returns:
        The count; its standard error is that of the count over resampled examples.
    """
    mean = posterior.mean.flatten(1).double()
    count = len(mean)
    if count < 2 or not mean.numel():
        return Estimate(0.0, None, count)
    active = int((mean.var(0) >= threshold).sum())
    centred = mean - mean.mean(0)
    groups = min(count, GROUPS)
    group = torch.arange(count, device=mean.device) * groups // count
    sums = [
        mean.new_zeros(groups, mean.shape[1]).index_add_(0, group, part)
        for part in (centred, centred.square())
    ]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(groups, (_RESAMPLES, groups), generator=generator)
    weights = torch.zeros(_RESAMPLES, groups, dtype=torch.double)
    weights.scatter_add_(1, rows, torch.ones_like(rows, dtype=torch.double))
    first, second = (weights @ part / count for part in sums)
    variance = (second - first.square()) * count / (count - 1)
    counts = (variance >= threshold).sum(1).double()
    return Estimate(float(active), counts.std().item(), count)
