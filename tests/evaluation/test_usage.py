"""Mutual information and active units where the answer is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from isthmus.evaluation import usage
from isthmus.evaluation.usage import (
    ACTIVE_THRESHOLD,
    Estimate,
    active_units,
    legacy_mutual_information,
    mutual_information,
)
from isthmus.latent.posterior import DiagonalGaussian
from linear_gaussian import correlated_model, draw_from


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def measured(posterior, seed=7):
    noise = normal(1, *posterior.mean.shape, seed=seed)
    z = posterior.rsample(noise=noise)[0]
    return mutual_information(posterior, z), legacy_mutual_information(posterior, z), z


def gaussian_channel(count, size, deviation):
    """x ~ N(0, I), q(z|x) = N(x, deviation²): I = P/2 · ln(1 + 1/deviation²)."""
    mean = normal(count, size)
    return DiagonalGaussian(mean, torch.full_like(mean, 2 * math.log(deviation)))


def test_log_aggregate_is_the_naive_mixture():
    posterior = DiagonalGaussian(3 * normal(13, 3), normal(13, 3, seed=1))
    z = 4 * normal(600, 3, seed=2)  # more than one block of rows
    naive = torch.stack([posterior[[j]].log_prob(z) for j in range(13)]).exp().mean(0).log()
    torch.testing.assert_close(posterior.log_aggregate(z), naive)


def test_log_aggregate_of_a_grid_is_that_of_its_dimensions():
    posterior = DiagonalGaussian(normal(5, 2, 3), normal(5, 2, 3, seed=1))
    flat = DiagonalGaussian(posterior.mean.flatten(1), posterior.log_variance.flatten(1))
    z = normal(4, 2, 3, seed=2)
    torch.testing.assert_close(posterior.log_aggregate(z), flat.log_aggregate(z.flatten(1)))


def test_identical_posteriors_carry_nothing():
    posterior = DiagonalGaussian(torch.ones(300, 4), torch.full((300, 4), -2.0))
    estimate, legacy, _ = measured(posterior)
    assert abs(estimate.value) <= 3 * estimate.standard_error + 1e-9
    assert abs(estimate.value) < 1e-9  # both terms see the same z: not even noise remains
    assert abs(legacy) > 1e-3  # the analytic term leaves noise behind


def test_nearly_collapsed_posteriors_are_within_their_error_of_zero():
    posterior = DiagonalGaussian(0.01 * normal(2000, 4), 0.01 * normal(2000, 4, seed=1))
    estimate, _, _ = measured(posterior)
    exact = 4 * 0.5 * math.log(1 + 0.01**2)
    assert abs(estimate.value - exact) < 3 * estimate.standard_error + 1e-4


@pytest.mark.parametrize("count", [2, 10, 500])
def test_separated_posteriors_saturate_at_ln_n(count):
    mean = 100 * torch.arange(count).double().unsqueeze(1)
    estimate, _, _ = measured(DiagonalGaussian(mean, torch.zeros_like(mean)))
    assert estimate.value == pytest.approx(math.log(count), abs=1e-3)
    assert estimate.value <= math.log(count) + 1e-9


@settings(deadline=None)
@given(
    count=st.integers(1, 40),
    size=st.integers(1, 5),
    scale=st.floats(0, 20),
    log_variance=st.floats(-12, 3),
    seed=st.integers(0, 2**20),
)
def test_the_estimate_is_never_above_ln_n(count, size, scale, log_variance, seed):
    mean = scale * normal(count, size, seed=seed)
    posterior = DiagonalGaussian(mean, log_variance + normal(count, size, seed=seed + 1))
    estimate, _, _ = measured(posterior, seed + 2)
    assert estimate.value <= math.log(count) + 1e-6


def test_the_legacy_estimate_exceeds_the_ceiling():
    posterior = gaussian_channel(100, 32, 0.01)
    values = [measured(posterior, seed)[:2] for seed in range(10)]
    assert max(legacy for _, legacy in values) > math.log(100) + 0.1
    assert max(estimate.value for estimate, _ in values) <= math.log(100) + 1e-9


@pytest.mark.parametrize(("size", "deviation"), [(1, 0.3), (2, 0.5), (3, 1.0)])
def test_gaussian_channel(size, deviation):
    posterior = gaussian_channel(4000, size, deviation)
    estimate, legacy, _ = measured(posterior)
    exact = size / 2 * math.log(1 + deviation**-2)
    assert abs(estimate.value - exact) < 4 * estimate.standard_error
    assert legacy == pytest.approx(exact, abs=8 * estimate.standard_error)
    kl = 0.5 * (posterior.mean.square() + deviation**2 - 2 * math.log(deviation) - 1)
    assert estimate.value < kl.sum(1).mean()  # KL = I + KL(q(z) ‖ p(z))


def test_a_correlated_channel_is_measured_with_its_whole_covariance():
    """z = x + noise of any covariance: from marginal variances alone it would carry less."""
    model = correlated_model()
    x = draw_from(model, 2000)
    posterior = model.posterior({"targets": x})
    estimate, legacy, z = measured(posterior)
    exact = MultivariateNormal(posterior.mean, model.covariance)
    each = torch.stack([exact.log_prob(one) for one in z])  # [M N]
    direct = (each.diagonal() - each.exp().mean(1).log()).mean().item()
    assert estimate.value == pytest.approx(direct, abs=1e-9)
    truth = -0.5 * torch.logdet(model.covariance).item()  # of the prior's covariance to S
    assert abs(estimate.value - truth) < 4 * estimate.standard_error
    assert legacy == pytest.approx(truth, abs=8 * estimate.standard_error)
    marginal = DiagonalGaussian(posterior.mean, posterior.log_variance)
    assert mutual_information(marginal, z).value < truth - 0.5


def test_information_estimates_grow_to_the_truth_and_not_beyond():
    """The sampled form is biased down by a small N: an over-estimate never flatters a model."""
    exact = 0.5 * 8 * math.log(1 + 0.2**-2)
    values = [measured(gaussian_channel(n, 8, 0.2))[0].value for n in (50, 500, 4000)]
    assert values == sorted(values)
    assert values[-1] < exact


def test_of_many_examples_a_sample_of_draws_meets_the_whole_mixture(monkeypatch):
    """The estimate is that of all pairs up to its standard error, and its ceiling stays ln N."""
    posterior = gaussian_channel(3000, 2, 0.3)
    whole, whole_legacy, _ = measured(posterior)
    monkeypatch.setattr(usage, "PAIRS", 3000 * 500)
    part, legacy, _ = measured(posterior)
    assert (whole.count, part.count) == (3000, 500)
    assert part.value != whole.value
    assert abs(part.value - whole.value) < 4 * part.standard_error
    assert part.standard_error == pytest.approx(whole.standard_error * math.sqrt(6), rel=0.15)
    assert abs(legacy - whole_legacy) < 8 * part.standard_error
    apart = DiagonalGaussian(1e4 * normal(3000, 2), torch.zeros(3000, 2).double())
    assert measured(apart)[0].value == pytest.approx(math.log(3000))
    monkeypatch.setattr(usage, "PAIRS", 1)
    assert measured(posterior)[0].count == usage.FEWEST


def test_active_units_of_many_examples_are_resampled_in_groups(monkeypatch):
    """The count is exact, and its error is close to that of resampling one by one."""
    mean = normal(3000, 60) * torch.linspace(0.09, 0.11, 60).double()
    posterior = DiagonalGaussian(mean, torch.zeros_like(mean))
    whole = active_units(posterior)
    monkeypatch.setattr(usage, "GROUPS", 300)
    groups = active_units(posterior)
    assert groups.value == whole.value
    assert groups.standard_error == pytest.approx(whole.standard_error, rel=0.3)
    assert whole.standard_error > 1


def test_no_latent_carries_nothing():
    empty = DiagonalGaussian(torch.zeros(7, 0), torch.zeros(7, 0))
    assert mutual_information(empty, empty.mean).value == pytest.approx(0, abs=1e-12)
    assert legacy_mutual_information(empty, empty.mean) == pytest.approx(0, abs=1e-12)
    assert active_units(empty).value == 0


def units(mean, threshold=ACTIVE_THRESHOLD):
    mean = torch.as_tensor(mean, dtype=torch.float64)
    return active_units(DiagonalGaussian(mean, torch.zeros_like(mean)), threshold)


def test_a_constant_mean_is_no_active_unit():
    estimate = units(torch.full((50, 6), 3.7))
    assert (estimate.value, estimate.standard_error, estimate.count) == (0, 0, 50)


def test_the_threshold_itself_counts_and_the_variance_is_unbiased():
    # ±0.5: the variance with N − 1 is exactly 0.5, with N it would be 0.25
    mean = [[0.5, 0.0], [-0.5, 0.0]]
    assert units(mean, threshold=0.5).value == 1
    assert units(mean, threshold=math.nextafter(0.5, 1)).value == 0


def test_active_units_of_a_grid():
    scale = torch.tensor([[1.0, 0.0, 0.2], [0.0, 0.05, 3.0]], dtype=torch.float64)
    estimate = units(normal(2000, 2, 3) * scale)
    assert estimate.value == 3  # standard deviations 1, 0.2 and 3; 0.05² < 0.01
    assert estimate.standard_error == 0  # all of them far from the threshold


def test_the_error_of_active_units_is_that_of_fresh_data():
    """Eight dimensions at the threshold: the count varies from one data set to the next."""
    counts, errors = [], []
    for seed in range(60):
        estimate = units(0.1 * normal(100, 8, seed=seed))
        counts.append(estimate.value)
        errors.append(estimate.standard_error)
    spread = torch.tensor(counts).std().item()
    assert 0.6 * spread < sum(errors) / len(errors) < 1.5 * spread


def test_one_example_has_no_active_units_and_no_error():
    assert units([[1.0, 2.0]]) == Estimate(0.0, None, 1)


def test_mean_and_standard_error():
    estimate = Estimate.mean_of(torch.tensor([1.0, 2.0, 4.0]))
    assert estimate.value == pytest.approx(7 / 3)
    assert estimate.standard_error == pytest.approx(math.sqrt(7 / 3 / 3))
    assert Estimate.mean_of(torch.tensor([2.0])) == Estimate(2.0, None, 1)
    # float32 would lose the small part
    assert Estimate.mean_of(torch.tensor([1e8, 1, 1, 1])).value == 25_000_000.75
