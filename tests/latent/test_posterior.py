"""The diagonal Gaussian against closed forms, torch.distributions and Monte Carlo."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import Mixture
from isthmus.latent.prior_module import StandardNormal

numbers = st.floats(-4, 4)


def random_posterior(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, *shape, generator=generator, dtype=dtype)
    return DiagonalGaussian(mean, log_variance)


def reference(posterior, dimensions=1):
    return Independent(Normal(posterior.mean, posterior.standard_deviation), dimensions)


def mixture_that_is_standard_normal(size):
    """Three equal components: no closed form is taken, though one is known."""
    zeros = torch.zeros(3, size, dtype=torch.float64)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    return Mixture(DiagonalGaussian(zeros, zeros), weights)


@pytest.mark.parametrize(
    ("mean", "log_variance", "golden"),
    [(1.0, 0.0, 0.5), (0.0, math.log(2), 0.1534264097), (0.0, 0.0, 0.0), (2.0, -1.0, 2.1839397)],
)
def test_kl_golden_values(mean, log_variance, golden):
    posterior = DiagonalGaussian(torch.tensor([[mean]]), torch.tensor([[log_variance]]))
    assert posterior.kl(StandardNormal(1)).item() == pytest.approx(golden, rel=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
def test_kl_is_that_of_torch_per_dimension_and_zero_only_at_the_prior(pairs):
    mean, log_variance = torch.tensor([pairs], dtype=torch.float64).unbind(-1)
    posterior = DiagonalGaussian(mean, log_variance)
    kl = posterior.kl(StandardNormal(len(pairs)))
    normal = Normal(posterior.mean, posterior.standard_deviation)
    torch.testing.assert_close(kl, kl_divergence(normal, Normal(0.0, 1.0)))
    same = (mean.abs() < 1e-4) & (log_variance.abs() < 1e-4)
    assert (kl[~same] > 0).all()
    assert (kl[same] < 1e-7).all()


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4)])
def test_kl_is_its_monte_carlo_average(shape):
    posterior, prior = random_posterior(*shape), StandardNormal(*shape[1:])
    noise = torch.randn(20_000, *shape, generator=torch.Generator().manual_seed(1)).double()
    z = posterior.rsample(noise=noise)
    ratio = posterior.log_prob(z) - prior.log_prob(z)
    assert ratio.shape == (20_000, 3)
    error = ratio.std(0) / len(ratio) ** 0.5
    exact = posterior.kl(prior).flatten(1).sum(1)
    assert ((ratio.mean(0) - exact).abs() < 4 * error).all()


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3)])
def test_log_prob_is_that_of_torch(shape):
    posterior = random_posterior(*shape)
    z = torch.randn(7, *shape, generator=torch.Generator().manual_seed(1)).double()
    expected = reference(posterior, len(shape) - 1)
    torch.testing.assert_close(posterior.log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(posterior.log_prob(z[0]), expected.log_prob(z[0]))


def test_kl_to_other_priors_is_the_average_over_the_given_draws():
    posterior, prior = random_posterior(4, 3), mixture_that_is_standard_normal(3)
    noise = torch.randn(20_000, 4, 3, generator=torch.Generator().manual_seed(2)).double()
    z = posterior.rsample(noise=noise)
    sampled = posterior.kl(prior, z)
    assert sampled.shape == (4, 1)
    each = torch.stack([posterior.kl(prior, one[None])[:, 0] for one in z[:50]])
    torch.testing.assert_close(posterior.kl(prior, z[:50])[:, 0], each.mean(0))
    error = (posterior.log_prob(z) - prior.log_prob(z)).std(0) / len(z) ** 0.5
    exact = posterior.kl(StandardNormal(3)).sum(1)
    assert ((sampled[:, 0] - exact).abs() < 4 * error).all()
    torch.manual_seed(3)
    own_draw = posterior.kl(prior)
    torch.manual_seed(3)
    torch.testing.assert_close(own_draw, posterior.kl(prior, posterior.rsample()))


def test_bf16_is_raised_to_float32_before_any_sum():
    mean = torch.full((1, 64), 0.1, dtype=torch.bfloat16)
    posterior = DiagonalGaussian(mean, torch.zeros_like(mean))
    assert posterior.mean.dtype == posterior.log_variance.dtype == torch.float32
    value = mean[0, 0].item()  # what bf16 makes of 0.1
    kl = posterior.kl(StandardNormal(64)).sum().item()
    assert kl == pytest.approx(32 * value**2, rel=1e-6)
    double = DiagonalGaussian(mean.double(), mean.double())
    assert double.rsample().dtype == torch.float64


def test_rsample_is_mean_plus_deviation_times_noise_with_its_gradients():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    mean.requires_grad_()
    log_variance.requires_grad_()
    noise = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    z = DiagonalGaussian(mean, log_variance).rsample(noise=noise)
    assert torch.equal(z, mean + torch.exp(0.5 * log_variance) * noise)
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.full_like(mean, 5.0))
    torch.testing.assert_close(
        log_variance.grad, (0.5 * torch.exp(0.5 * log_variance) * noise).sum(0)
    )


def test_unseeded_draws_follow_the_distribution():
    torch.manual_seed(0)
    posterior = random_posterior(2, 3)
    z = posterior.rsample(40_000)
    assert z.shape == (40_000, 2, 3)
    standard = (z - posterior.mean) / posterior.standard_deviation
    assert (standard.mean(0).abs() < 4 / 200).all()
    covariance = standard.flatten(1).T.cov()  # no two examples or dimensions share their noise
    assert ((covariance - torch.eye(6)).abs() < 4 * 2**0.5 / 200).all()


def test_rows_concatenation_and_detachment_keep_the_distribution():
    posterior = random_posterior(5, 3)
    again = DiagonalGaussian.concatenate([posterior[:2], posterior[[2, 3]], posterior[4:]])
    assert len(again) == 5
    assert torch.equal(again.mean, posterior.mean)
    assert torch.equal(again.log_variance, posterior.log_variance)
    assert torch.equal(posterior[torch.tensor([4, 0])].log_variance[0], posterior.log_variance[4])
    learnt = DiagonalGaussian(again.mean.requires_grad_(), again.log_variance.requires_grad_())
    assert learnt.rsample().requires_grad
    assert not learnt.detach().rsample().requires_grad


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(2, 1\)"):
        DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 1))
    posterior = random_posterior(2, 3)
    for shape in [(2, 3), (5, 1, 3), (5, 2, 1), (5, 3, 2)]:
        with pytest.raises(ValueError, match=r"\[S, 2, 3\], got"):
            posterior.rsample(noise=torch.zeros(shape))
