"""Every family of posteriors is a distribution; the full-covariance Gaussian is that of torch."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from isthmus.latent.ascent import ascend
from isthmus.latent.distribution import Posterior
from isthmus.latent.posterior import POSTERIORS, FullGaussian
from isthmus.latent.prior import Mixture
from isthmus.latent.prior_module import StandardNormal

DRAWS = 40_000


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def some(family, count, size, seed=0):
    """N posteriors with random parameters."""
    return family.from_numbers(0.7 * normal(count, family.numbers(size), seed=seed), (size,))


def draws(posterior, seed=1):
    return posterior.rsample(noise=normal(DRAWS, *posterior.mean.shape, seed=seed))


GAUSSIAN = {name: kind for name, kind in POSTERIORS.items() if not kind.is_discrete}


@pytest.fixture(params=GAUSSIAN)
def family(request):
    return POSTERIORS[request.param]


def test_numbers_of_zero_are_the_standard_normal(family):
    posterior = family.from_numbers(torch.zeros(3, family.numbers(4)), (4,))
    noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(posterior.rsample(noise=noise), noise)
    assert posterior.kl(StandardNormal(4)).abs().max() < 1e-6


def test_the_first_numbers_are_the_mean(family):
    numbers = normal(3, family.numbers(4))
    assert torch.equal(family.from_numbers(numbers, (4,)).mean, numbers[:, :4])


@pytest.mark.parametrize("size", [1, 2])
def test_every_density_integrates_to_one(family, size):
    posterior = some(family, 3, size)
    axis = torch.linspace(-16, 16, 641, dtype=torch.double)
    points = torch.cartesian_prod(*[axis] * size).view(-1, 1, size)
    mass = posterior.log_prob(points).exp().sum(0) * (axis[1] - axis[0]) ** size
    torch.testing.assert_close(mass, torch.ones_like(mass), atol=1e-3, rtol=0)


def test_mean_and_marginal_variance_are_those_of_the_draws(family):
    posterior = some(family, 3, 4)
    z = draws(posterior)
    standard = (z - posterior.mean) / posterior.standard_deviation
    assert (standard.mean(0).abs() < 4 / DRAWS**0.5).all()
    assert ((standard.var(0) - 1).abs() < 4 * (2 / DRAWS) ** 0.5).all()
    torch.testing.assert_close(posterior.standard_deviation.square(), posterior.log_variance.exp())


def test_entropy_and_divergence_are_averages_over_draws(family):
    posterior, prior = some(family, 3, 4), StandardNormal(4)
    z = draws(posterior)
    log_q = posterior.log_prob(z)
    for exact, each in (
        (posterior.entropy(), -log_q),
        (posterior.kl(prior).sum(1), log_q - prior.log_prob(z)),
    ):
        assert ((each.mean(0) - exact).abs() < 4 * each.std(0) / DRAWS**0.5).all()


def test_the_aggregate_is_the_naive_mixture(family):
    posterior = some(family, 13, 3)
    z = 4 * normal(600, 3, seed=2)  # more than one block of rows
    each = torch.stack([posterior[[row]].log_prob(z) for row in range(13)], dim=1)
    torch.testing.assert_close(posterior.log_prob_of_each(z), each)
    torch.testing.assert_close(posterior.log_aggregate(z), each.exp().mean(1).log())
    weights = torch.full((13,), -math.log(13), dtype=torch.double)
    torch.testing.assert_close(Mixture(posterior, weights).log_prob(z), posterior.log_aggregate(z))


def test_samples_of_a_mixture_of_any_family_follow_its_density(family):
    """−E log p over samples is the entropy −∫ p log p."""
    prior = Mixture(some(family, 3, 2), torch.tensor([0.2, 0.5, 0.3]).double().log())
    axis = torch.linspace(-16, 16, 641, dtype=torch.double)
    log_density = prior.log_prob(torch.cartesian_prod(axis, axis))
    entropy = -(log_density.exp() * log_density).sum() * (axis[1] - axis[0]) ** 2
    sampled = -prior.log_prob(prior.sample(8000, torch.Generator().manual_seed(6)))
    assert abs(sampled.mean() - entropy) < 4 * sampled.std() / 8000**0.5 + 2e-3


def test_tensors_rows_and_precision_keep_the_distribution(family):
    posterior, z = some(family, 5, 3), normal(5, 3, seed=4)
    density = posterior.log_prob(z)
    again = Posterior.concatenate([posterior[:2], posterior[[2, 3]], posterior[4:]])
    for same in (again, family(*posterior.tensors), posterior.cpu().double().detach()):
        assert type(same) is family
        assert len(same) == 5
        assert torch.equal(same.log_prob(z), density)
    turned = posterior[torch.tensor([4, 0])].log_prob(z[[4, 0]])
    torch.testing.assert_close(turned, density[[4, 0]])
    half = family(*(tensor.bfloat16() for tensor in posterior.tensors))
    assert half.rsample().dtype == torch.float32


def test_noise_of_another_shape_is_refused(family):
    for shape in [(2, 3), (5, 1, 3), (5, 2, 1)]:
        with pytest.raises(ValueError, match=r"\[S, 2, 3\], got"):
            some(family, 2, 3).rsample(noise=torch.zeros(shape))


def test_a_draw_is_differentiable_in_every_tensor(family):
    tensors = [tensor.requires_grad_() for tensor in some(family, 2, 3).tensors]
    loss = family(*tensors).rsample(noise=normal(1, 2, 3)).square().sum()
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss, tensors))


def covariance_of(posterior):
    factor = posterior.distribution.scale_tril
    return factor @ factor.mT


def test_the_full_gaussian_is_that_of_torch():
    posterior = some(FullGaussian, 4, 5)
    covariance = covariance_of(posterior)
    reference = MultivariateNormal(posterior.mean, covariance)
    z = normal(7, 4, 5, seed=1)
    torch.testing.assert_close(posterior.log_prob(z), reference.log_prob(z))
    standard = MultivariateNormal(torch.zeros(5).double(), torch.eye(5).double())
    kl = posterior.kl(StandardNormal(5))
    assert kl.shape == (4, 1)
    torch.testing.assert_close(kl[:, 0], kl_divergence(reference, standard))
    correlation = covariance[:, 0, 1] / covariance[:, [0, 1], [0, 1]].prod(1).sqrt()
    assert correlation.abs().max() > 0.3, "the test shows nothing"
    spread = torch.cov(draws(posterior)[:, 0].T)
    torch.testing.assert_close(spread, covariance[0], atol=0.05, rtol=0.05)


def multivariate(posterior):
    if isinstance(posterior, FullGaussian):
        return posterior.distribution
    return MultivariateNormal(posterior.mean, scale_tril=posterior.standard_deviation.diag_embed())


def test_ascent_finds_a_correlated_target_with_a_full_covariance_alone():
    target = some(FullGaussian, 3, 2, seed=5)

    def divergence(posterior, step):
        return kl_divergence(multivariate(posterior), multivariate(target))

    left = {}
    for name, kind in GAUSSIAN.items():
        start = kind.from_numbers(torch.zeros(3, kind.numbers(2)).double(), (2,))
        end, slopes = ascend(start, divergence, 300, 0.1)
        assert [slope.shape for slope in slopes] == [tensor.shape for tensor in start.tensors]
        left[name] = divergence(end, 0)
    assert (left["full"].abs() < 1e-3).all()
    precision = covariance_of(target).inverse()
    exact = 0.5 * (precision[:, [0, 1], [0, 1]].prod(1) / precision.det()).log()
    torch.testing.assert_close(left["diagonal"], exact, atol=1e-3, rtol=0)  # the best diagonal
    assert exact.max() > 0.05
