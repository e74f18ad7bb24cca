"""Likelihoods of pictures: exact constants by enumeration, independent formulas, draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import expit, log_ndtr
from scipy.stats import chisquare, norm

from isthmus.models.pictures.likelihood import (
    LIKELIHOODS,
    LOG_SCALES,
    bits_per_dimension,
    log_normal_cdf,
)

LEVELS = torch.arange(256)
DENSITIES = {"logistic": expit, "gaussian": norm.cdf}


def losses(kind: str, location: float, log_scale: float, dtype=torch.float64):
    """−log p of all 256 levels of one value."""
    network = torch.tensor([location, log_scale], dtype=dtype)
    return LIKELIHOODS[kind].losses(network.expand(256, 2), LEVELS.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("kind", DENSITIES)
@pytest.mark.parametrize("location", [-30.0, -1.0, -0.997, -0.2, 0.0, 0.5, 0.999, 1.0, 7.0])
@pytest.mark.parametrize("log_scale", [-20.0, -7.0, -5.0, -2.0, 0.0, 2.0, 7.0])
def test_256_levels_have_probability_one(kind, location, log_scale):
    assert losses(kind, location, log_scale).neg().exp().sum().item() == pytest.approx(1, abs=1e-9)
    single = losses(kind, location, log_scale, torch.float32).double().neg().exp().sum().item()
    # With a very wide density float32 loses digits of the differences that make up the middle.
    assert single == pytest.approx(1, abs=1e-4 if log_scale <= 0 else 2e-3)


@pytest.mark.parametrize("kind", DENSITIES)
def test_each_level_has_the_mass_between_its_borders(kind):
    location, log_scale = 0.13, -1.7
    borders = (np.arange(1, 256) - 0.5) / 127.5 - 1
    below = DENSITIES[kind]((borders - location) / math.exp(log_scale))
    expected = np.diff(np.concatenate([[0.0], below, [1.0]]))
    actual = losses(kind, location, log_scale).neg().exp().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", DENSITIES)
def test_losses_and_slopes_are_finite_where_a_level_is_all_but_impossible(kind):
    scales = (LOG_SCALES[0], -3.0, 0.0, LOG_SCALES[1])
    for location, log_scale in itertools.product((-50.0, -1.0, 0.3, 1.0, 50.0), scales):
        network = torch.tensor([location, log_scale]).repeat(256, 1).requires_grad_()
        loss = LIKELIHOODS[kind].losses(network, LEVELS.unsqueeze(-1))
        [slope] = torch.autograd.grad(loss.sum(), network)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(slope).all()
        assert loss.min() >= -1e-6


def test_log_of_the_normal_distribution_and_its_slope():
    x = torch.cat([torch.linspace(-60, 8, 4001), -torch.logspace(1.5, 4.5, 50)]).double()
    x.requires_grad_()
    value = log_normal_cdf(x)
    [slope] = torch.autograd.grad(value.sum(), x)
    np.testing.assert_allclose(value.detach(), log_ndtr(x.detach().numpy()), rtol=1e-8)
    density = norm.logpdf(x.detach().numpy())
    expected = np.exp(density - log_ndtr(x.detach().numpy()))
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_all_pictures_together_have_probability_one(kind):
    """Every picture of two values, so that a constant left out of one value would be squared."""
    likelihood = LIKELIHOODS[kind]
    pictures = torch.tensor(list(itertools.product(range(likelihood.levels), repeat=2)))
    generator = torch.Generator().manual_seed(0)
    network = torch.randn(2 * likelihood.parameters, generator=generator, dtype=torch.float64)
    nats = likelihood.losses(network.expand(len(pictures), -1), pictures).sum(-1)
    assert nats.neg().exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_draws_are_of_the_distribution(kind):
    likelihood, count = LIKELIHOODS[kind], 40_000
    network = torch.tensor([0.7, -1.3][: likelihood.parameters])
    drawn = likelihood.draw(network.expand(count, -1)).squeeze(-1)
    levels = torch.arange(likelihood.levels)
    probabilities = likelihood.losses(
        network.double().expand(len(levels), -1), levels.unsqueeze(-1)
    ).exp().reciprocal().squeeze(-1)  # fmt: skip
    found = torch.bincount((drawn / (255 / levels[-1])).long(), minlength=len(levels))
    common = probabilities * count > 10
    expected = torch.cat([probabilities[common], probabilities[~common].sum().view(1)]).numpy()
    observed = torch.cat([found[common], found[~common].sum().view(1)]).numpy()
    kept = expected > 0
    assert observed[~kept].sum() == 0
    assert chisquare(observed[kept], expected[kept] / expected.sum() * count).pvalue > 1e-4


@pytest.mark.parametrize("kind", DENSITIES)
@pytest.mark.parametrize("location", [-3.0, -0.4, 0.0, 0.91, 1.2])
def test_what_is_shown_of_256_levels_is_the_median(kind, location):
    shown = int(LIKELIHOODS[kind].typical(torch.tensor([location, -1.0])).item())
    probabilities = losses(kind, location, -1.0).neg().exp()
    assert probabilities[: shown + 1].sum() >= 0.5 - 1e-6
    assert probabilities[shown:].sum() >= 0.5 - 1e-6


def test_a_fair_coin_a_value_is_one_bit_a_dimension():
    nats = LIKELIHOODS["bernoulli"].losses(torch.zeros(784), torch.ones(784)).sum().item()
    assert bits_per_dimension(nats, 784) == pytest.approx(1, abs=1e-6)
