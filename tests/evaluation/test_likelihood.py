"""The bounds of a linear-Gaussian model, whose log p(x) is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, kl_divergence

from isthmus.evaluation import likelihood
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.metrics import latent_metrics
from isthmus.latent.noise import example_noise
from isthmus.models import base
from linear_gaussian import (
    LinearGaussianConfig,
    Vectors,
    correlated_model,
    draw_from,
    example_model,
    unit_model,
)

GOLDEN = -1.5155121234846454  # log N(1; 0, 2)


def copies(count):
    return Vectors(torch.ones(count, 1).double())


def mean_and_error(values):
    return values.mean().item(), values.double().std().item() / len(values) ** 0.5


def wrong_posterior(model):
    """A q that is neither the prior nor the posterior."""
    model.set_posterior(0.7 * model.slope, model.shift + 0.2, model.log_variance + 0.5)
    return model


def columns(measured):
    values = (measured.reconstruction, measured.kl, measured.nll_iw, measured.own, measured.z)
    return (*values, measured.swapped, measured.posterior.mean, measured.posterior.log_variance)


def assert_same(first, second, rows=slice(None)):
    for one, other in zip(columns(first), columns(second), strict=True):
        torch.testing.assert_close(one, other[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 7, 50])
def test_at_the_true_posterior_the_bound_is_log_p_without_variance(samples):
    model = example_model()
    x = draw_from(model, 20)
    measured = bounds(model, Vectors(x), samples=samples)
    torch.testing.assert_close(measured.nll_iw, -model.log_evidence(x))
    golden = bounds(unit_model(), copies(5), samples=samples)
    assert golden.nll_iw.tolist() == pytest.approx([-GOLDEN] * 5, abs=1e-9)
    assert golden.posterior.mean[0].item() == golden.posterior.log_variance[0].exp().item() == 0.5
    assert golden.kl.sum().item() == pytest.approx(5 * 0.5 * (0.25 + 0.5 + math.log(2) - 1))


@pytest.mark.parametrize("samples", [1, 7])
def test_a_true_posterior_with_correlations_gives_log_p_without_variance(samples):
    model = correlated_model()
    x = draw_from(model, 300)
    measured = bounds(model, Vectors(x), samples=samples)
    torch.testing.assert_close(measured.nll_iw, -model.log_evidence(x))
    exact = MultivariateNormal(measured.posterior.mean, model.covariance)
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    torch.testing.assert_close(measured.kl[:, 0], kl_divergence(exact, prior))
    value, error = mean_and_error(measured.negative_elbo + model.log_evidence(x))
    assert abs(value) < 4 * error
    metrics = latent_metrics(model, measured)
    each = torch.stack([exact.log_prob(z) for z in measured.z])  # [M N]
    direct = (each.diagonal() - each.exp().mean(1).log()).mean().item()
    assert metrics["mutual_information"] == pytest.approx(direct, abs=1e-9)
    deviation = model.covariance.diagonal().sqrt()
    assert metrics["standard_deviation_per_dimension"] == pytest.approx(deviation.tolist())
    spread = measured.posterior.mean.var(0, correction=0) + deviation.square()
    assert metrics["aggregate_standard_deviation"] == pytest.approx(spread.sqrt().tolist())


def test_golden_bound_of_the_prior_as_posterior():
    model = unit_model()
    model.set_posterior(
        torch.zeros(1, 1).double(), torch.zeros(1).double(), torch.zeros(1).double()
    )
    measured = bounds(model, copies(20_000), samples=1)
    assert measured.kl.abs().max() == 0
    value, error = mean_and_error(measured.reconstruction)
    assert abs(value - 1.918939) < 4 * error < 0.05


def test_bounds_are_ordered_and_rise_with_samples():
    model = unit_model()
    model.set_posterior(
        torch.zeros(1, 1).double(), torch.zeros(1).double(), torch.zeros(1).double()
    )
    previous = None
    for samples in (1, 2, 5, 20, 100):
        measured = bounds(model, copies(4000), samples=samples)
        value, error = mean_and_error(-measured.nll_iw)
        assert value < GOLDEN + 3 * error
        if previous is not None:
            assert value > previous
        previous = value
    assert value == pytest.approx(GOLDEN, abs=0.01)


def test_terms_are_those_of_the_closed_form_at_any_posterior():
    model = wrong_posterior(example_model())
    x = draw_from(model, 2)
    measured = bounds(model, Vectors(x.repeat_interleave(5000, 0)), samples=4)
    reconstruction, kl = model.exact_terms(x)
    torch.testing.assert_close(measured.kl.sum(1)[::5000], kl)
    for row, part in enumerate(measured.reconstruction.split(5000)):
        value, error = mean_and_error(part)
        assert abs(value - reconstruction[row].item()) < 4 * error
    negative_elbo = measured.reconstruction + measured.kl.sum(1)
    for row, (elbo, tighter) in enumerate(
        zip((-negative_elbo).split(5000), (-measured.nll_iw).split(5000), strict=True)
    ):
        gain, error = mean_and_error(tighter - elbo)
        assert gain > 4 * error
        value, error = mean_and_error(tighter)
        assert value < model.log_evidence(x)[row].item() + 3 * error


def test_each_sample_counts_once_and_with_its_own_ratio():
    """The bound again by a loop over the same noise."""
    model = wrong_posterior(example_model())
    x = draw_from(model, 6)
    measured = bounds(model, Vectors(x), samples=5, seed=3)
    noise = example_noise(3, likelihood.EVALUATION_STREAM, range(6), (5, 2)).double()
    for row in range(6):
        batch = {"targets": x[row : row + 1]}
        posterior = model.posterior(batch)
        losses, weights = [], []
        for eps in noise[row]:
            z = posterior.rsample(noise=eps.view(1, 1, 2))
            losses.append(model.reconstruction(z, batch).item())
            ratio = (model.prior.log_prob(z) - posterior.log_prob(z)).item()
            weights.append(math.exp(-losses[-1] + ratio))
        assert measured.nll_iw[row].item() == pytest.approx(-math.log(np.mean(weights)))
        assert measured.reconstruction[row].item() == pytest.approx(np.mean(losses))
        assert measured.own[row].item() == pytest.approx(losses[0])
        first = posterior.rsample(noise=noise[row, :1].unsqueeze(1))[0, 0]
        torch.testing.assert_close(measured.z[row], first.detach())


def mixture_model():
    torch.manual_seed(0)
    config = LinearGaussianConfig(latent_size=2, prior="mixture", prior_components=3)
    return wrong_posterior(example_model(config))


@pytest.mark.parametrize("samples", [1, 6])
def test_other_priors_take_the_sampled_kl_of_the_same_draws(samples):
    model = mixture_model()
    x = draw_from(model, 8)
    measured = bounds(model, Vectors(x), samples=samples)
    assert measured.kl.shape == (8, 1)
    noise = example_noise(0, likelihood.EVALUATION_STREAM, range(8), (samples, 2)).transpose(0, 1)
    posterior = model.posterior({"targets": x})
    z = posterior.rsample(noise=noise)
    with torch.no_grad():
        expected = (posterior.log_prob(z) - model.prior.log_prob(z)).mean(0)
    torch.testing.assert_close(measured.kl[:, 0], expected)
    negative_elbo = measured.reconstruction + measured.kl[:, 0]
    if samples == 1:
        torch.testing.assert_close(measured.nll_iw, negative_elbo)
    else:  # Jensen, draw by draw
        assert (measured.nll_iw < negative_elbo).all()


def test_a_mixture_that_is_the_standard_normal_changes_the_estimate_of_the_kl_only():
    config = LinearGaussianConfig(latent_size=2, prior="mixture", prior_components=3)
    mixture, standard = example_model(config), example_model()
    torch.nn.init.zeros_(mixture.prior_module.mean)
    x = draw_from(standard, 5)
    one, other = (bounds(m, Vectors(x), samples=400) for m in (mixture, standard))
    torch.testing.assert_close(one.nll_iw, other.nll_iw, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.reconstruction, other.reconstruction)
    # The true posterior's log ratio has a standard deviation of about one.
    torch.testing.assert_close(one.kl[:, 0], other.kl.sum(1), rtol=0, atol=4 * 1.5 / 20)


@pytest.mark.parametrize("build", [lambda: wrong_posterior(example_model()), mixture_model])
@pytest.mark.parametrize("budget", [1, 9, 40, 200])
def test_no_number_depends_on_chunks_or_batches(monkeypatch, build, budget):
    model = build()
    x = draw_from(model, 23)
    costs = np.random.default_rng(0).integers(1, 9, 23)
    expected = bounds(model, Vectors(x, costs), samples=11)
    monkeypatch.setattr(base, "TOKENS_AT_ONCE", budget)
    assert_same(bounds(model, Vectors(x, costs), samples=11), expected)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=20), st.integers(0, 2**40))
def test_no_number_depends_on_the_order_of_batches(costs, seed):
    model = wrong_posterior(example_model())
    x = draw_from(model, len(costs))
    one = bounds(model, Vectors(x, costs), samples=3, seed=seed)
    assert_same(one, bounds(model, Vectors(x), samples=3, seed=seed))


def test_an_example_keeps_its_numbers_when_others_follow():
    model = wrong_posterior(example_model())
    x = draw_from(model, 12)
    many, few = bounds(model, Vectors(x), samples=4), bounds(model, Vectors(x[:5]), samples=4)
    for name in ("reconstruction", "kl", "nll_iw", "own", "z"):
        torch.testing.assert_close(getattr(many, name)[:5], getattr(few, name))


def test_seeds_reproduce_and_differ():
    model = wrong_posterior(example_model())
    examples = Vectors(draw_from(model, 6))
    first = bounds(model, examples, samples=2, seed=1)
    torch.manual_seed(99)
    assert all(
        map(torch.equal, columns(first), columns(bounds(model, examples, samples=2, seed=1)))
    )
    assert (first.nll_iw != bounds(model, examples, samples=2, seed=2).nll_iw).all()


def test_one_example_is_enough():
    model = wrong_posterior(example_model())
    x = draw_from(model, 3)
    one = bounds(model, Vectors(x[:1]), samples=3)
    assert one.swapped is None
    assert one.nll_iw.item() == pytest.approx(
        bounds(model, Vectors(x), samples=3).nll_iw[0].item()
    )


def test_memory_is_bounded_whatever_the_samples(monkeypatch):
    monkeypatch.setattr(base, "TOKENS_AT_ONCE", 64)
    model = example_model()
    done = []
    examples = Vectors(draw_from(model, 50))
    bounds(model, examples, samples=100, progress=done.append)
    assert max(model.seen) == 64
    assert sum(model.seen) == 50 * 4 * (100 + 1)  # every sample once, and once swapped
    assert sum(done) == 50


def test_swapped_latents_are_another_examples_first_samples():
    model = example_model()
    x = draw_from(model, 40)
    measured = bounds(model, Vectors(x), samples=2)
    every = model.reconstruction(measured.z.unsqueeze(1), {"targets": x}).detach()  # [S=j N=i]
    match = torch.isclose(every, measured.swapped) & ~torch.eye(40, dtype=torch.bool)
    assert (match.sum(0) == 1).all()  # for every i one j ≠ i
    assert (match.sum(1) == 1).all()  # every j used once


def test_swap_gap_tells_a_used_latent_from_an_ignored_one():
    model = example_model()
    x = draw_from(model, 500)
    used = bounds(model, Vectors(x), samples=1)
    gap, error = mean_and_error(used.swapped - used.own)
    assert gap > 10 * error
    torch.nn.init.zeros_(model.weight)  # the decoder ignores z, the encoder still tells x apart
    ignored = bounds(model, Vectors(x), samples=1)
    assert torch.equal(ignored.swapped, ignored.own)
    # A latent that the decoder uses but that says nothing of x does not help either.
    blind = example_model()
    blind.set_posterior(0 * blind.slope, 0 * blind.shift, 0 * blind.log_variance)
    measured = bounds(blind, Vectors(x), samples=1)
    gap, error = mean_and_error(measured.swapped - measured.own)
    assert abs(gap) < 3 * error


def test_the_model_returns_to_its_mode():
    model = example_model().train()
    bounds(model, Vectors(draw_from(model, 2)), samples=1)
    assert model.training
