"""Posteriors refined for each example, held against a model whose best posterior is known."""

import copy
import math

import pytest
import torch
from test_report import some_texts
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from isthmus.evaluation import refine as module
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.metrics import evaluate, refined_metrics
from isthmus.evaluation.refine import fixed, refine
from isthmus.evaluation.usage import Estimate
from isthmus.latent.noise import example_noise
from isthmus.latent.posterior import DiagonalGaussian, FullGaussian
from isthmus.models import base
from linear_gaussian import (
    LinearGaussianConfig,
    Vectors,
    correlated_model,
    draw_from,
    example_model,
)
from tiny import SYSTEMS, TEXTS, examples_of, system
from word_model import WordModel


def blind(model):
    """An encoder that says the same of every x."""
    model.set_posterior(0 * model.slope, 0 * model.shift + 1, 0 * model.log_variance - 1)
    return model


def slightly_wrong(model):
    model.set_posterior(0.7 * model.slope, model.shift + 0.2, model.log_variance + 0.5)
    return model


def true_posterior(model, x):
    exact = example_model(model.config)
    return exact.posterior({"targets": x})


def elbo(model, x, posterior=None):
    """The ELBO in closed form, [N]."""
    reconstruction, kl = model.exact_terms(x, posterior)
    return -reconstruction - kl


def normal(posterior):
    return Normal(posterior.mean, posterior.standard_deviation)


def chosen_on(model, examples, posterior, seed=0):
    """−ELBO on the noise that start and end are compared on, [N]."""
    rows = range(len(examples))
    shape = (module.CHOICE_PAIRS, *model.latent_shape)
    noise = example_noise(seed, module.CHOICE_STREAM, rows, shape).transpose(0, 1)
    z = posterior.mean + posterior.standard_deviation * torch.cat([noise, -noise])
    with torch.no_grad():
        losses = model.reconstruction(z.to(posterior.mean), examples.collate(rows)).mean(0)
        return losses + posterior.kl(model.prior, z).flatten(1).sum(1)


@pytest.mark.parametrize("wrong", [blind, slightly_wrong])
def test_a_wrong_encoder_is_refined_to_the_exact_posterior(wrong):
    model = wrong(example_model())
    x = draw_from(model, 100)
    refined = refine(model, Vectors(x), steps=150, learning_rate=0.3)
    start, truth = model.posterior({"targets": x}), true_posterior(model, x)
    moved = (refined.mean != start.mean).all(1)
    assert moved.double().mean() > 0.95
    # An antithetic pair tells the mean without noise; the variance it tells with noise.
    torch.testing.assert_close(refined.mean[moved], truth.mean[moved], atol=5e-3, rtol=0)
    error = refined.log_variance - truth.log_variance
    assert error.mean().abs() < 0.05
    assert error.abs().mean() < 0.2
    # A bound below log p(x) for every x, and nearly there: what is left is of second order.
    left = model.log_evidence(x) - elbo(model, x, refined)
    assert left.min() > 0
    assert left.mean() < 0.03
    lost = model.log_evidence(x) - elbo(model, x)
    assert left.mean() < 0.03 * lost.mean()


def test_a_full_covariance_is_refined_to_a_correlated_posterior():
    """A diagonal Gaussian keeps the gap of the best one: ½ Σ_j log (S⁻¹)_jj + ½ log |S|."""
    model = correlated_model()
    x = draw_from(model, 50)
    truth = model.posterior({"targets": x})
    exact = MultivariateNormal(truth.mean, model.covariance)
    best = 0.5 * (model.covariance.inverse().diagonal().log().sum() + model.covariance.logdet())
    assert best > 0.5
    left = {}
    for family in (DiagonalGaussian, FullGaussian):
        model.posterior = lambda batch, family=family: family.from_numbers(
            torch.zeros(len(batch["targets"]), family.numbers(2)).double(), (2,)
        )
        refined = refine(model, Vectors(x), steps=300, learning_rate=0.2)
        noise = torch.randn(400, 50, 2, generator=torch.Generator().manual_seed(0)).double()
        z = refined.rsample(noise=noise)
        left[family] = (refined.log_prob(z) - exact.log_prob(z)).mean().item()
    assert abs(left[FullGaussian]) < 0.1
    assert left[DiagonalGaussian] == pytest.approx(best.item(), abs=0.1)


def test_the_gap_is_the_difference_of_the_divergences_from_the_truth():
    model = slightly_wrong(example_model())
    x = draw_from(model, 200)
    examples = Vectors(x)
    refined = refine(model, examples, steps=60, learning_rate=0.2)
    start, truth = model.posterior({"targets": x}), true_posterior(model, x)
    divergences = [kl_divergence(normal(q), normal(truth)).sum(1) for q in (start, refined)]
    expected = divergences[0] - divergences[1]
    torch.testing.assert_close(expected, elbo(model, x, refined) - elbo(model, x))
    measured = bounds(model, examples, samples=50)
    again = bounds(model, examples, samples=50, posterior=refined)
    metrics = refined_metrics(measured, again)
    gap, error = metrics["amortisation_gap"], metrics["amortisation_gap_se"]
    noise = (measured.negative_elbo - again.negative_elbo - expected).std().item()
    assert abs(gap - expected.mean().item()) < 4 * noise / math.sqrt(200)
    assert gap > 10 * error
    assert metrics["elbo_refined"] == pytest.approx(-measured.negative_elbo.mean().item() + gap)
    # The family holds the truth: what is left is what the ascent left, and the bound is log p(x).
    assert 0 < divergences[1].mean() < 0.05
    rest = divergences[1].mean().item()
    assert abs(metrics["approximation_gap"] - rest) < 4 * metrics["approximation_gap_se"]
    assert again.nll_iw.mean().item() == pytest.approx(
        -model.log_evidence(x).mean().item(), abs=0.01
    )
    unpaired = Estimate.mean_of(measured.negative_elbo).standard_error
    assert error < unpaired / 2, "differences are paired"


def test_at_the_best_encoder_there_is_nothing_to_gain():
    model = example_model()
    x = draw_from(model, 50)
    refined = refine(model, Vectors(x), steps=30)
    gain = elbo(model, x, refined) - elbo(model, x)
    assert gain.max() <= 1e-9  # the start is log p(x)
    assert gain.mean() > -0.02


@pytest.mark.parametrize("rate", [0.1, 2.0, 50.0])
def test_no_example_ends_worse_than_it_began_on_the_noise_it_is_chosen_by(rate, monkeypatch):
    monkeypatch.setattr(base, "TOKENS_AT_ONCE", 88)  # eleven draws at a time, then five
    model = slightly_wrong(example_model())
    examples = Vectors(draw_from(model, 60))
    refined = refine(model, examples, steps=3, learning_rate=rate, seed=5)
    start = model.posterior(examples.collate(range(60)))
    before, after = (chosen_on(model, examples, q, seed=5) for q in (start, refined))
    assert (after <= before + 1e-9).all()
    kept = (refined.mean == start.mean).all(1)
    assert torch.equal(kept, after >= before - 1e-9)
    assert kept.all() == (rate == 50)  # steps that long lead nowhere


def test_an_ascent_into_infinity_is_not_taken():
    model = slightly_wrong(example_model())
    examples = Vectors(draw_from(model, 5))
    refined = refine(model, examples, steps=2, learning_rate=1e200)
    assert torch.equal(refined.mean, model.posterior(examples.collate(range(5))).mean)


def test_a_learned_prior_is_part_of_the_bound():
    torch.manual_seed(0)
    config = LinearGaussianConfig(latent_size=2, prior="mixture", prior_components=3)
    model = slightly_wrong(example_model(config))
    torch.nn.init.constant_(model.prior_module.log_variance, -2)
    x = draw_from(model, 100)
    before = bounds(model, Vectors(x), samples=50)
    refined = refine(model, Vectors(x), steps=60)
    after = bounds(model, Vectors(x), samples=50, posterior=refined)
    gain = Estimate.mean_of(before.negative_elbo - after.negative_elbo)
    assert gain.value > 6 * gain.standard_error
    # the best posterior under N(0, I) is not the best one here
    other = bounds(model, Vectors(x), samples=50, posterior=true_posterior(model, x))
    gain = Estimate.mean_of(other.negative_elbo - after.negative_elbo)
    assert gain.value > 6 * gain.standard_error


@pytest.fixture(params=[name for name in SYSTEMS if not name.startswith(("codebook", "bits"))])
def name(request):
    return request.param


def test_every_system_is_refined_each_example_by_itself(name, monkeypatch):
    model, done = system(name), []
    given = examples_of(model)
    refined = refine(model, given, steps=2, progress=done.append)
    assert sum(done) == len(given)
    start = model.encode(given)
    examples = model.codec.prepare(given)
    if not model.config.latent_size:
        assert refined.mean.shape == (len(given), 0)
        return
    before, after = (chosen_on(model, examples, q) for q in (start, refined))
    assert (after <= before + 1e-4).all()
    assert (after < before - 1e-2).any()
    # neither padding nor company matters, nor the order of batches
    monkeypatch.setattr(base, "TOKENS_AT_ONCE", 160)
    fewer = refine(model, given[:5], steps=2)
    for one, other in ((fewer.mean, refined.mean), (fewer.log_variance, refined.log_variance)):
        torch.testing.assert_close(one, other[:5], atol=1e-5, rtol=1e-5)


def test_the_seed_decides():
    model = system("gpt2-memory")
    first, again, other = (refine(model, TEXTS, steps=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.mean, again.mean)
    assert not torch.equal(first.mean, other.mean)


def test_the_model_is_left_as_it_was():
    model = copy.deepcopy(system("vamp"))
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    parameters = list(model.parameters())
    for place, parameter in enumerate(parameters):
        parameter.requires_grad_(place % 3 > 0)
        parameter.grad = torch.full_like(parameter, 7.0) if place % 2 else None
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    trained = refine(model.train(), TEXTS, steps=2)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    for place, parameter in enumerate(parameters):
        assert parameter.requires_grad == (place % 3 > 0)
        assert (parameter.grad is None) == (place % 2 == 0)
        assert parameter.grad is None or (parameter.grad == 7).all()
    assert not trained.mean.requires_grad
    assert torch.equal(trained.mean, refine(model.eval(), TEXTS, steps=2).mean)
    assert not model.training
    with torch.no_grad():  # a caller's mode does not matter
        assert torch.equal(trained.mean, refine(model, TEXTS, steps=2).mean)


def test_parameters_need_gradients_again_after_an_error():
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    with pytest.raises(RuntimeError, match="does not require grad"), fixed(model):
        model(torch.ones(2)).sum().backward()
    assert model.weight.requires_grad
    assert not model.bias.requires_grad


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(base, "TOKENS_AT_ONCE", 64)
    model = slightly_wrong(example_model())
    refine(model, Vectors(draw_from(model, 50)), steps=3)
    assert max(model.seen) == 64  # two examples, eight of sixteen draws
    assert model.seen[0] == 64 / module.HELD
    passes = 2 * 3 + 2 * 2 * module.CHOICE_PAIRS
    assert sum(model.seen) == 50 * 4 * passes


@pytest.fixture(scope="module")
def texts():
    return some_texts(150)


def report(model, corpus, **options):
    return evaluate(model, model.codec.prepare(corpus), samples=10, texts=0, **options)


def test_the_report_tells_an_encoder_that_ignores_the_text(texts):
    model = WordModel(texts)
    with torch.no_grad():
        model.reading.zero_()
    model.log_variance = 0.0
    plain = report(model, texts)
    done = []
    metrics = report(model, texts, refine_steps=30, progress=done.append)
    assert {key: metrics[key] for key in plain} == plain, "refining changes no other number"
    assert sum(done) == 3 * len(texts)
    assert metrics["refine_steps"] == 30
    assert metrics["amortisation_gap"] > 10 * metrics["amortisation_gap_se"]
    assert metrics["amortisation_gap"] == pytest.approx(metrics["elbo_refined"] - metrics["elbo"])
    assert metrics["inference_gap"] == pytest.approx(-metrics["elbo"] - metrics["nll_iw"])
    rest = -metrics["elbo_refined"] - metrics["nll_iw_refined"]
    assert metrics["approximation_gap"] == pytest.approx(rest)
    # what the encoder lost is found again, and a better proposal tightens the other bound too
    assert metrics["nll_iw_refined"] < metrics["nll_iw"] - 3 * metrics["nll_iw_se"] / 10
    assert metrics["approximation_gap"] < 0.3 * metrics["inference_gap"]


def test_a_model_without_a_latent_has_no_gaps(texts):
    metrics = report(WordModel(texts, latent_size=0), texts[:20], refine_steps=3)
    for gap in ("inference_gap", "amortisation_gap", "approximation_gap"):
        assert metrics[gap] == pytest.approx(0, abs=1e-6)


def test_given_posteriors_are_measured_as_the_encoders_are(texts):
    model = WordModel(texts)
    examples = model.codec.prepare(texts)
    own, given = bounds(model, examples, samples=4), model.encode(texts)
    same = bounds(model, examples, samples=4, posterior=given)
    torch.testing.assert_close(own.nll_iw, same.nll_iw)
    torch.testing.assert_close(own.swapped, same.swapped)
    moved = DiagonalGaussian(given.mean + 1, given.log_variance)
    assert (bounds(model, examples, samples=4, posterior=moved).z - own.z - 1).abs().max() < 1e-5
    terms = model.terms(texts, seed=3, posterior=given)
    torch.testing.assert_close(terms.negative_elbo, model.terms(texts, seed=3).negative_elbo)
    assert (model.terms(texts, seed=3, posterior=moved).kl != terms.kl).all()
