"""p(y|z) of pictures: the Bayesian SVM's bound and optimum, masks, averages over draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC
from torch import Tensor

from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.pictures.label_heads import (
    DRAWS,
    LEAST,
    PRECISION,
    BayesianSVMHead,
    SoftmaxHead,
    augmented,
    label_head,
    rates,
    signs,
)
from isthmus.models.pictures.model import PictureConfig, PictureModel

NAMES = ["a", "b", "c"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loud_head(kind: str, latent_size: int = 4, classes: int = 3) -> torch.nn.Module:
    head = label_head(kind, latent_size, classes)
    with torch.no_grad():
        for place, weight in enumerate(head.parameters()):
            weight.copy_(noise(*weight.shape, seed=place))
    return head


# The augmentation of Polson & Scott.


def mixture(u: float, scale: float) -> float:
    """(2πλ)^−½ exp(−(1 + λ − u)² / 2λ) at λ = scale."""
    return math.exp(-((1 + scale - u) ** 2) / (2 * scale)) / math.sqrt(2 * math.pi * scale)


@pytest.mark.parametrize("u", [-2.0, 0.3, 0.9, 1.6, 3.0])
def test_the_pseudo_likelihood_is_a_mixture_of_normals_with_this_rate(u):
    """∫ over λ is exp(−2 max(1 − u, 0)), and under what is integrated E[1/λ] = 1/|1 − u|."""
    total = quad(lambda scale: mixture(u, scale), 0, math.inf)[0]
    assert total == pytest.approx(math.exp(-2 * max(1 - u, 0)), rel=1e-6)
    rate = quad(lambda scale: mixture(u, scale) / scale, 0, math.inf)[0] / total
    assert rate == pytest.approx(rates(torch.tensor(1 - u)).item(), rel=1e-4)


@given(
    st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 5), st.integers(2, 4), st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_the_bound_never_rises_and_stays_one(seed, count, latent_size, classes, repeated):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, latent_size, generator=generator)
    if repeated:
        z = z.round()  # equal latents under different labels, and margins of exactly 1
    labels = torch.randint(classes, (count,), generator=generator)
    head = BayesianSVMHead(latent_size, classes)
    values = np.array(head.fit(z, labels, steps=30))
    assert (np.diff(values) <= 1e-9 * values[:-1]).all()
    exact = objective(head.weight.detach().double().numpy(), z.numpy(), labels.numpy())
    assert -1e-5 * exact <= values[-1] - exact <= LEAST / 2 * count * classes + 1e-5 * exact


def objective(weight: np.ndarray, z: np.ndarray, labels: np.ndarray) -> float:
    """2 Σ hinge + ρ/2 |w|²."""
    margins = np.c_[z, np.ones(len(z))] @ weight.T
    sign = 2 * np.eye(len(weight))[labels] - 1
    return 2 * np.maximum(1 - sign * margins, 0).sum() + PRECISION / 2 * (weight**2).sum()


def test_any_rate_gives_a_bound_and_the_best_one_is_tight():
    distance = torch.linspace(-3, 3, 61, dtype=torch.double)
    hinge = 2 * distance.clamp_min(0)
    for rate in (0.2, 1.0, 7.0):
        assert (augmented(distance, torch.tensor(rate)) >= hinge - 1e-12).all()
    assert (augmented(distance, rates(distance)) - hinge).abs().max() <= LEAST / 2 + 1e-12


def test_the_optimum_is_that_of_a_linear_svm():
    """scikit-learn's liblinear minimises the same function: same value, same decisions."""
    stored = load_digits()
    z, labels = stored.data[:300] / 16, stored.target[:300]
    head = BayesianSVMHead(64, 10)
    values = head.fit(torch.from_numpy(z), torch.from_numpy(labels), steps=1000)
    assert len(values) < 1000  # it has come to rest
    other = LinearSVC(loss="hinge", C=2 / PRECISION, tol=1e-6, max_iter=1_000_000)
    other.fit(z, labels)
    theirs = objective(np.c_[other.coef_, other.intercept_], z, labels)
    assert values[-1] == pytest.approx(theirs, rel=1e-3)
    unseen = stored.data[300:] / 16
    ours = head.scores(torch.from_numpy(unseen).float()).argmax(-1).numpy()
    assert (ours == other.predict(unseen)).mean() > 0.998


def test_a_training_step_follows_the_hinge():
    scores = torch.linspace(-2.05, 2.05, 42).unsqueeze(1).repeat(1, 3).requires_grad_()
    labels = torch.arange(42) % 3
    [ours] = torch.autograd.grad(
        BayesianSVMHead(1, 3).loss(scores, labels).sum(), scores, retain_graph=True
    )
    sign = signs(labels, 3)
    slope = -2 * sign * (1 - sign * scores > 0)
    torch.testing.assert_close(ours, slope.to(ours))


def test_probabilities_of_the_svm_are_its_pseudo_likelihood_normalised():
    head, z = loud_head("svm"), noise(7, 4)
    every = torch.stack([-head.loss(head.scores(z), torch.full((7,), y)) for y in range(3)], 1)
    expected = every.log_softmax(-1)
    ours = head.log_probabilities(head.scores(z))
    torch.testing.assert_close(ours, expected, atol=3 * LEAST, rtol=1e-4)
    assert torch.equal(ours.argmax(-1), head.scores(z).argmax(-1))


# Both heads.


@pytest.mark.parametrize("kind", ["softmax", "svm"])
def test_losses_of_several_draws_are_those_of_each(kind):
    head, z, labels = loud_head(kind), noise(2, 5, 4), torch.tensor([0, 2, -1, 1, -1])
    losses = head.losses(z, labels)
    assert losses.shape == (2, 5)
    assert (losses[:, [2, 4]] == 0).all()
    for draw, row in enumerate(losses):
        for place in (0, 1, 3):
            own = z[draw, place]
            if kind == "softmax":
                expected = -head.linear(own).log_softmax(-1)[labels[place]]
            else:
                margin = head.weight[:, :-1] @ own + head.weight[:, -1]
                sign = torch.where(torch.arange(3) == labels[place], 1.0, -1.0)
                expected = 2 * (1 - sign * margin).clamp_min(0).sum()
            torch.testing.assert_close(row[place], expected, atol=3 * LEAST, rtol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "svm"])
def test_a_missing_label_moves_nothing(kind):
    head, z = loud_head(kind), noise(1, 4, 4).requires_grad_()
    head.losses(z, torch.tensor([1, -1, 0, -1])).sum().backward()
    assert (z.grad[0, [1, 3]] == 0).all()
    assert z.grad[0, [0, 2]].abs().sum() > 0
    told = {name: weight.grad.clone() for name, weight in head.named_parameters()}
    head.zero_grad()
    head.losses(z[:, [0, 2]], torch.tensor([1, 0])).sum().backward()
    for name, weight in head.named_parameters():
        torch.testing.assert_close(weight.grad, told[name])


@pytest.mark.parametrize("kind", ["softmax", "svm"])
def test_predictions_are_means_of_probabilities_over_draws(kind):
    head, z = loud_head(kind), noise(6, 5, 4)
    each = torch.stack([head.log_probabilities(head.scores(draw)).exp() for draw in z])
    ours = head.predict(z).exp()
    torch.testing.assert_close(ours, each.mean(0))
    torch.testing.assert_close(ours.sum(-1), torch.ones(5))
    torch.testing.assert_close(head.predict(z[:, [3, 1]]).exp(), ours[[3, 1]])


def test_before_training_every_label_is_alike():
    for head in (SoftmaxHead(4, 3), BayesianSVMHead(4, 3)):
        torch.testing.assert_close(head.predict(noise(2, 5, 4)).exp(), torch.full((5, 3), 1 / 3))


# In a model of pictures.


def picture_model(kind: str) -> PictureModel:
    torch.manual_seed(0)
    config = PictureConfig(
        height=6,
        width=5,
        latent_size=4,
        network="deconv",
        hidden_size=6,
        layers=1,
        likelihood="gaussian",
        labels=NAMES,
        label_head=kind,
    )
    model = PictureModel(config).eval()
    model.labels = loud_head(kind)
    with torch.no_grad():
        model.encoder.layers[-1].weight.mul_(3)
    return model


PICTURES = np.random.default_rng(0).integers(0, 256, (7, 1, 6, 5)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["softmax", "svm"])
@torch.no_grad()
def test_a_missing_label_leaves_all_other_terms_as_they_are_bit_by_bit(kind):
    model = picture_model(kind)
    terms = {}
    for name, labels in {
        "none": None,
        "missing": [None] * 7,
        "some": ["a", None, "c", None, None, "b", None],
        "all": list("accbaba"),
    }.items():
        examples = model.codec.prepare(PICTURES, labels)
        terms[name] = model(**examples.collate(range(7), noise_shape=(4,)))
    assert not terms["none"].extra
    assert (terms["missing"].extra["classification"] == 0).all()
    told = [0, 2, 5]
    for name in ("missing", "some", "all"):
        for term in ("reconstruction", "kl", "z"):
            assert torch.equal(terms[name][term], terms["none"][term])
        assert all(map(torch.equal, terms[name].posterior, terms["none"].posterior))
    some, every = (terms[name].extra["classification"] for name in ("some", "all"))
    assert torch.equal(some[told], every[told])
    assert (some[[1, 3, 4, 6]] == 0).all()
    assert (every > 0).all()


@pytest.mark.parametrize("kind", ["softmax", "svm"])
def test_the_label_of_a_picture_is_told_whatever_stands_beside_it(kind):
    model = picture_model(kind)
    together = model.classify(PICTURES)
    torch.testing.assert_close(together.sum(-1), torch.ones(7))
    assert together.std(0).min() > 1e-3
    order = [4, 0, 6, 2, 5, 1, 3]
    torch.testing.assert_close(model.classify(PICTURES[order]), together[order])
    for place in range(7):
        torch.testing.assert_close(model.classify(PICTURES[[place]])[0], together[place])
    assert torch.equal(model.classify(PICTURES), together)  # no draw of torch's generator


def test_the_average_over_draws_nears_the_exact_one():
    """A Gaussian score under a softmax of two labels: E[σ(u)] by quadrature."""
    head = loud_head("softmax")
    posterior = DiagonalGaussian(2 * noise(9, 4), 2 + noise(9, 4, seed=1))
    with torch.no_grad():
        weight, bias = head.linear.weight, head.linear.bias
        weight[2], bias[2] = 0.0, -500.0  # only "a" and "b" are left
        direction = weight[0] - weight[1]
        mean = posterior.mean @ direction + bias[0] - bias[1]
        deviation = (posterior.log_variance.exp() @ direction.square()).sqrt()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    score = mean.double().numpy()[:, None] + deviation.double().numpy()[:, None] * nodes
    exact = (1 / (1 + np.exp(-score))) @ weights / weights.sum()
    found = head.averaged(posterior).detach().exp()[:, 0].numpy()
    assert np.abs(found - exact).max() < 3 * 0.5 / math.sqrt(DRAWS)
    at_the_mean = torch.sigmoid(mean).numpy()
    assert np.abs(at_the_mean - exact).max() > 0.3


@pytest.mark.parametrize("kind", ["softmax", "svm"])
def test_uncertainty_and_balance_are_entropy_and_divergence(kind):
    head, z, labels = loud_head(kind), noise(2, 5, 4), torch.tensor([0, 2, -1, 1, -1])
    head.start_prior([3, 1, 1])
    terms = head.terms(z, labels)
    p = torch.stack([head.log_probabilities(head.scores(draw)).exp() for draw in z])
    entropy = torch.distributions.Categorical(probs=p).entropy().mean(0)
    torch.testing.assert_close(terms["uncertainty"][[2, 4]], entropy[[2, 4]])
    assert (terms["uncertainty"][[0, 1, 3]] == 0).all()
    mean, prior = p.mean((0, 1)), torch.tensor([0.6, 0.2, 0.2])
    expected = (mean * (mean / prior).log()).sum()
    torch.testing.assert_close(terms["balance"], expected.expand(5))
    torch.testing.assert_close(terms["classification"], head.losses(z, labels).mean(0))
