"""Priors: densities that integrate to one, samples that follow them, fits that reach the truth."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from isthmus.errors import IsthmusError
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import (
    FlowPrior,
    Mixture,
    MixturePrior,
    PriorSizes,
    StandardNormal,
    StandardNormalPrior,
    VampPrior,
    fit_prior,
)


def never(pseudo_inputs):
    raise AssertionError("this prior asks for no posterior")


def encode(pseudo_inputs):
    """An encoder with a closed form: pseudo-inputs [K L 2P] → q(z|u)."""
    return DiagonalGaussian(*pseudo_inputs.mean(1).chunk(2, -1))


def mixture(size, components=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, components, size, generator=generator).double()
    weights = torch.randn(components, generator=generator).double().log_softmax(0)
    return Mixture(DiagonalGaussian(2 * mean, log_variance), weights)


def vamp_from(pseudo_inputs):
    """A VampPrior that starts from pseudo-inputs [K L 2P]."""
    return VampPrior(PriorSizes((), len(pseudo_inputs), pseudo_inputs=lambda count: pseudo_inputs))


def flow(size):
    torch.manual_seed(0)
    module = FlowPrior(PriorSizes((size,), transforms=2, hidden_size=8))
    with torch.no_grad():  # far from the base, and not so sharp that a quadrature misses it
        for parameter in module.parameters():
            parameter.normal_(0, 0.4)
    return module(never)


def vamp(size):
    torch.manual_seed(1)
    return vamp_from(torch.randn(4, 3, 2 * size))(encode)


DISTRIBUTIONS = {"standard": StandardNormal, "mixture": mixture, "vamp": vamp, "flow": flow}


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("size", [1, 2])
def test_every_prior_integrates_to_one(kind, size):
    axis = torch.linspace(-12, 12, 4001 if size == 1 else 401)
    points = torch.cartesian_prod(*[axis] * size).view(-1, size)
    with torch.no_grad():
        mass = DISTRIBUTIONS[kind](size).log_prob(points).double().exp().sum()
    assert mass.item() * (axis[1] - axis[0]).item() ** size == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_samples_follow_the_density(kind):
    """Kolmogorov–Smirnov against the density's own integral."""
    prior = DISTRIBUTIONS[kind](1)
    drawn = prior.sample(4000, torch.Generator().manual_seed(5)).double()[:, 0]
    axis = torch.linspace(-12, 12, 8001)
    with torch.no_grad():
        density = prior.log_prob(axis.unsqueeze(1)).double().exp()
    cumulative = torch.cumulative_trapezoid(density, axis)
    below = torch.searchsorted(axis[1:].double(), drawn).clamp_max(len(cumulative) - 1)
    assert stats.kstest(cumulative[below].numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_sample_entropy_agrees_in_two_dimensions(kind):
    """−E log p over samples is the entropy −∫ p log p; a wrong joint law would show."""
    prior = DISTRIBUTIONS[kind](2)
    axis = torch.linspace(-12, 12, 481)
    with torch.no_grad():
        log_density = prior.log_prob(torch.cartesian_prod(axis, axis)).double()
        sampled = -prior.log_prob(prior.sample(8000, torch.Generator().manual_seed(6))).double()
    entropy = -(log_density.exp() * log_density).sum() * (axis[1] - axis[0]).double() ** 2
    error = sampled.std() / len(sampled) ** 0.5
    assert abs(sampled.mean() - entropy) < 4 * error + 2e-3


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_a_seed_reproduces_and_leaves_the_global_generator_alone(kind):
    prior = DISTRIBUTIONS[kind](2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = prior.sample(5, torch.Generator().manual_seed(7))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, prior.sample(5, torch.Generator().manual_seed(7)))
    assert not torch.equal(first, prior.sample(5, torch.Generator().manual_seed(8)))
    assert not first.requires_grad


def test_mixture_log_prob_is_that_of_torch():
    prior = mixture(3, components=4)
    expected = MixtureSameFamily(
        Categorical(logits=prior.log_weights),
        Independent(Normal(prior.components.mean, prior.components.standard_deviation), 1),
    )
    z = 3 * torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(prior.log_prob(z), expected.log_prob(z))


def test_standard_normal_over_a_grid():
    z = torch.randn(5, 4, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    expected = Normal(0.0, 1.0).log_prob(z).sum((-1, -2))
    torch.testing.assert_close(
        StandardNormalPrior(PriorSizes((2, 3)))(never).log_prob(z), expected
    )
    assert StandardNormal(2, 3).sample(7).shape == (7, 2, 3)
    assert StandardNormal(3).is_standard_normal
    assert not mixture(3).is_standard_normal


def test_vamp_without_an_encoder_is_refused_in_one_line():
    with pytest.raises(IsthmusError, match="vamp needs an encoder"):
        VampPrior(PriorSizes((2,)))


def test_vamp_is_the_mixture_of_its_posteriors_and_teaches_its_pseudo_inputs():
    torch.manual_seed(0)
    module = vamp_from(torch.randn(4, 3, 4))
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    posteriors = encode(module.pseudo_inputs)
    each = torch.stack([posteriors[[k]].log_prob(z) for k in range(4)])
    log_prob = module(encode).log_prob(z)
    torch.testing.assert_close(log_prob, each.exp().mean(0).log())
    log_prob.sum().backward()
    assert (module.pseudo_inputs.grad.abs().sum((1, 2)) > 0).all()


TRUTH = Mixture(
    DiagonalGaussian(
        torch.tensor([[-3.0, 0.0], [2.0, 2.0]]), torch.tensor([[-1.0, 0.0], [0, -2]])
    ),
    torch.tensor([0.3, 0.7]).log(),
)


def aggregate_of_truth(count=4000):
    """Posteriors whose aggregate is TRUTH: each is narrower, and their means make up the rest."""
    generator = torch.Generator().manual_seed(3)
    component = torch.multinomial(TRUTH.log_weights.exp(), count, True, generator=generator)
    variance = TRUTH.components.log_variance[component].exp()
    noise = torch.randn(count, 2, generator=generator)
    mean = TRUTH.components.mean[component] + (0.5 * variance).sqrt() * noise
    return DiagonalGaussian(mean, (0.5 * variance).log())


MODULES = {
    "mixture": lambda: MixturePrior(PriorSizes((2,), components=2)),
    "vamp": lambda: vamp_from(torch.randn(8, 3, 4)),
    "flow": lambda: FlowPrior(PriorSizes((2,), transforms=2, hidden_size=16)),
}


@pytest.mark.parametrize(
    ("kind", "steps", "nats"), [("mixture", 150, 0.01), ("vamp", 300, 0.05), ("flow", 200, 0.1)]
)
def test_fit_reaches_the_entropy_of_the_truth(kind, steps, nats):
    torch.manual_seed(0)
    module = MODULES[kind]()
    z = TRUTH.sample(10_000, torch.Generator().manual_seed(9))
    with torch.no_grad():
        before = (TRUTH.log_prob(z) - module(encode).log_prob(z)).mean()
    losses = fit_prior(module, aggregate_of_truth(), encode, steps=steps, learning_rate=0.05)
    with torch.no_grad():
        gap = TRUTH.log_prob(z) - module(encode).log_prob(z)  # its mean is a KL
    assert len(losses) == steps
    assert before > 0.5
    assert -4 * gap.std() / len(z) ** 0.5 < gap.mean() < nats
    last = torch.tensor(losses[-50:])
    entropy = -TRUTH.log_prob(z).mean()
    assert abs(last.mean() - entropy - gap.mean()) < 4 * last.std() / 50**0.5


@pytest.mark.parametrize("kind", ["mixture", "vamp"])
def test_a_fit_is_set_by_its_seed_whatever_was_drawn_before(kind):
    losses = []
    for drawn_before, seed in ((0, 1), (10, 1), (0, 2)):
        torch.manual_seed(0)
        module = MODULES[kind]()
        torch.randn(drawn_before)
        losses.append(fit_prior(module, aggregate_of_truth(500), encode, steps=3, seed=seed))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_fit_leaves_the_encoder_as_it_is():
    layer = torch.nn.Linear(2, 4)
    torch.nn.init.normal_(layer.weight)
    before = layer.weight.clone()
    module = vamp_from(torch.zeros(2, 3, 2))

    def encoder(pseudo_inputs):
        return DiagonalGaussian(*layer(pseudo_inputs.mean(1)).chunk(2, -1))

    fit_prior(module, aggregate_of_truth(100), encoder, steps=2)
    assert torch.equal(layer.weight, before)
    assert layer.weight.grad is None
    assert module.pseudo_inputs.abs().sum() > 0


def test_a_fit_to_one_example_and_to_fewer_than_the_components_stays_finite():
    one = DiagonalGaussian(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    losses = fit_prior(MixturePrior(PriorSizes((2,), components=3)), one, never, steps=3)
    assert all(math.isfinite(loss) for loss in losses)


def test_components_start_on_the_data_and_share_its_volume():
    module = MixturePrior(PriorSizes((2,), components=4))
    z = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * 3 + 5
    points = DiagonalGaussian(z, torch.full_like(z, -math.inf))
    module.start_from(points, torch.Generator().manual_seed(1))
    assert all((z == mean).all(1).any() for mean in module.mean)
    volume = module.log_variance.exp().prod(1).sqrt()  # of one component's ellipse
    whole = z.var(0, correction=0).prod().sqrt()
    torch.testing.assert_close(4 * volume, whole.expand(4))


def test_the_standard_normal_has_nothing_to_fit():
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_prior(StandardNormalPrior(PriorSizes((2,))), aggregate_of_truth(10), never)
