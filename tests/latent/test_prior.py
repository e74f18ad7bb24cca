"""Priors: densities that integrate to one and samples that follow them."""

from functools import partial

import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from isthmus.errors import IsthmusError
from isthmus.latent.flow_matching import FlowMatchingPrior
from isthmus.latent.flows import FlowPrior, GaussianPrior
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import Mixture, VampPrior
from isthmus.latent.prior_module import PriorSizes, StandardNormal, StandardNormalPrior


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


def loud(kind, *shape, width=8):
    """Far from the base, and not so sharp that a quadrature misses it."""
    torch.manual_seed(0)
    module = kind(PriorSizes(shape, transforms=2, hidden_size=width, whitened=True))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(0, 0.2 if "time" in name else 0.4)
    if isinstance(module, FlowMatchingPrior):
        module.steps.fill_(16)
    return module(never)


def vamp(size):
    torch.manual_seed(1)
    return vamp_from(torch.randn(4, 3, 2 * size))(encode)


FLOWS = {"gaussian": GaussianPrior, "flow": FlowPrior, "flow-matching": FlowMatchingPrior}
DISTRIBUTIONS = {"standard": StandardNormal, "mixture": mixture, "vamp": vamp} | {
    kind: partial(loud, module) for kind, module in FLOWS.items()
}


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("size", [1, 2])
def test_every_prior_integrates_to_one(kind, size):
    axis = torch.linspace(-12, 12, 4001 if size == 1 else 241)
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
    axis = torch.linspace(-12, 12, 241)
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


@pytest.mark.parametrize("kind", FLOWS)
def test_the_density_is_that_of_the_map_to_the_base(kind):
    """log N(base) + log |det ∂base/∂z|, with the Jacobian by automatic differentiation."""
    prior = loud(FLOWS[kind], 2, 2)
    z = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    base = prior.to_base(z)
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(prior.to_base, one).reshape(4, 4) for one in z]
    )
    expected = StandardNormal(2, 2).log_prob(base) + jacobian.det().abs().log()
    torch.testing.assert_close(prior.log_prob(z), expected, atol=1e-3, rtol=0)
    assert (base - z).abs().mean() > 0.3
    torch.testing.assert_close(prior.from_base(base), z, atol=1e-3, rtol=0)
    same = prior.log_prob(z.unsqueeze(1).expand(5, 3, 2, 2))
    torch.testing.assert_close(same, prior.log_prob(z).unsqueeze(1).expand(5, 3))


@pytest.mark.parametrize("shape", [(3, 2), (6,)])
def test_a_spline_flow_over_a_grid_is_autoregressive_in_its_latents(shape):
    prior = loud(FlowPrior, *shape, width=64)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.functional.jacobian(prior.to_base, z).reshape(3, 2, 3, 2)
    depends = found.abs().amax((1, 3)) > 0  # latent by latent
    whole = torch.ones(3, 3).bool()
    assert torch.equal(depends, whole.tril() if len(shape) == 2 else whole)
    assert (found[1, :, 1] != 0).all()  # within a latent, every number on every other


def test_a_mixture_over_a_grid_is_that_over_its_numbers_in_a_row():
    flat = mixture(6)
    gaussians = DiagonalGaussian(*(one.unflatten(1, (3, 2)) for one in flat.components.tensors))
    grid = Mixture(gaussians, flat.log_weights)
    z = torch.randn(4, 5, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(grid.log_prob(z), flat.log_prob(z.flatten(2)))
    drawn = [one.sample(7, torch.Generator().manual_seed(1)) for one in (grid, flat)]
    assert torch.equal(drawn[0].flatten(1), drawn[1])


def test_the_solver_takes_the_steps_that_its_velocity_needs():
    torch.manual_seed(0)
    module, steps = FlowMatchingPrior(PriorSizes((3,), hidden_size=16)), []
    z = torch.randn(200, 3)
    for scale in (0.1, 0.25):
        with torch.no_grad():
            for parameter in module.velocity.parameters():
                parameter.normal_(0, scale, generator=torch.Generator().manual_seed(0))
        module.finish(z)
        steps.append(int(module.steps))
        found = module(never).log_prob(z)
        module.steps.fill_(512)
        torch.testing.assert_close(found, module(never).log_prob(z), atol=2e-3, rtol=0)
    assert steps[0] < steps[1] < 128
    with torch.no_grad():
        for parameter in module.velocity.parameters():
            parameter.mul_(20)
    with pytest.raises(IsthmusError, match="would be no density"):
        module.finish(z)
