"""Fits of priors to an aggregate posterior reach the truth, and keep what held-out data favour."""

import math

import pytest
import torch

from isthmus.latent.fit import fit_prior
from isthmus.latent.flow_matching import FlowMatchingPrior
from isthmus.latent.flows import FlowPrior, GaussianPrior
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import Mixture, MixturePrior, VampPrior
from isthmus.latent.prior_module import PriorSizes, StandardNormalPrior


def never(pseudo_inputs):
    raise AssertionError("this prior asks for no posterior")


def encode(pseudo_inputs):
    """An encoder with a closed form: pseudo-inputs [C L 2P] → q(z|u)."""
    return DiagonalGaussian(*pseudo_inputs.mean(1).chunk(2, -1))


def vamp_from(pseudo_inputs):
    """A VampPrior that starts from pseudo-inputs [C L 2P]."""
    return VampPrior(PriorSizes((), len(pseudo_inputs), pseudo_inputs=lambda count: pseudo_inputs))


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
    "whitened flow": lambda: FlowPrior(PriorSizes((2,), 2, 2, 16, whitened=True)),
    "flow-matching": lambda: FlowMatchingPrior(PriorSizes((2,), hidden_size=64)),
}


def fit(module, count=4000, held_out=1000, rate=0.05, **options):
    """A fit to examples whose aggregate is TRUTH."""
    examples = aggregate_of_truth(count + held_out)
    return fit_prior(
        module,
        examples[:count],
        encode,
        held_out=examples[count:],
        learning_rate=rate,
        **options,
    )


def kl_from_truth(module):
    """KL(TRUTH ‖ prior) and its standard error."""
    z = TRUTH.sample(10_000, torch.Generator().manual_seed(9))
    with torch.no_grad():
        gap = TRUTH.log_prob(z) - module(encode).log_prob(z)
    return gap.mean().item(), gap.std().item() / len(z) ** 0.5


@pytest.mark.parametrize(
    ("kind", "steps", "rate", "nats"),
    [
        ("mixture", 150, 0.05, 0.03),
        ("vamp", 300, 0.05, 0.05),
        ("flow", 200, 0.05, 0.1),
        ("whitened flow", 100, 0.02, 0.1),
        ("flow-matching", 600, 0.01, 0.1),
    ],
)
def test_a_fit_reaches_the_entropy_of_the_truth(kind, steps, rate, nats):
    torch.manual_seed(0)
    module = MODULES[kind]()
    before, _ = kl_from_truth(module)
    found = fit(module, steps=steps, rate=rate)
    kl, error = kl_from_truth(module)
    assert found.steps == steps
    assert len(found.losses) == 11
    assert before > 0.5
    assert -4 * error < kl < nats
    z = TRUTH.sample(100_000, torch.Generator().manual_seed(2))
    entropy = -TRUTH.log_prob(z).mean().item()
    assert abs(min(found.losses) - entropy - kl) < 4 * TRUTH.log_prob(z).std() / 512**0.5


def test_the_start_of_a_gaussian_is_the_fit():
    """The KL of a Gaussian from anything is lowest at the moments, and 0 for a Gaussian."""
    module = GaussianPrior(PriorSizes((3,)))
    draws = torch.Generator().manual_seed(5)  # a fit draws with 0
    mix = torch.tensor([[1.0, 0, 0], [2, 0.1, 0], [-1, 3, 2]])
    mean = torch.randn(20_000, 3, generator=draws) @ mix.T + torch.tensor([5.0, 0, -5])
    spread = torch.tensor([0.5, 1, 2])
    aggregate = DiagonalGaussian(mean, spread.log().expand_as(mean))
    fit_prior(module, aggregate, never, held_out=aggregate[:100], steps=0)
    whitening = module.whitening
    lower = whitening.from_base(torch.eye(3)) - whitening.shift  # columns of L as rows
    torch.testing.assert_close(lower.T @ lower, mix @ mix.T + spread.diag(), atol=0.2, rtol=0)
    torch.testing.assert_close(whitening.shift.data, mean.mean(0), atol=0.05, rtol=0)


def test_more_numbers_than_examples_still_make_a_gaussian():
    module = GaussianPrior(PriorSizes((2, 20)))
    mean = torch.randn(5, 2, 20, generator=torch.Generator().manual_seed(0))
    few = DiagonalGaussian(mean, torch.full_like(mean, -20))
    fit_prior(module, few, never, held_out=few, steps=0)
    other = torch.randn(50, 2, 20, generator=torch.Generator().manual_seed(1))
    assert -module(never).log_prob(other).mean() < 4 * 40  # N(0, I) has 1.42 a number


@pytest.mark.parametrize("kind", ["mixture", "vamp", "flow-matching"])
def test_a_fit_is_set_by_its_seed_whatever_was_drawn_before(kind):
    losses = []
    for drawn_before, seed in ((0, 1), (10, 1), (0, 2)):
        torch.manual_seed(0)
        module = MODULES[kind]()
        torch.randn(drawn_before)
        losses.append(fit(module, 500, 100, steps=3, seed=seed).losses)
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_fit_to_the_clock_is_that_of_its_steps():
    options, modules = {"seconds": 0.3}, []
    for _ in range(2):
        torch.manual_seed(0)
        modules.append(MODULES["mixture"]())
        found = fit(modules[-1], 500, 100, **options)
        options = {"steps": found.steps}
    assert found.steps > 20
    for one, other in zip(*(module.parameters() for module in modules), strict=True):
        assert torch.equal(one, other)


def test_a_prior_that_learns_its_examples_by_heart_is_stopped():
    torch.manual_seed(0)
    sizes = PriorSizes((2,), components=20)
    modules, losses = [], []
    examples = aggregate_of_truth(1020)
    narrow = DiagonalGaussian(examples.mean[:20], torch.full((20, 2), -12.0))
    for held_out in (examples[20:], narrow):
        modules.append(MixturePrior(sizes))
        found = fit_prior(modules[-1], narrow, never, held_out=held_out, steps=400)
        losses.append(found.losses)
    stopped, by_heart = (kl_from_truth(module)[0] for module in modules)
    assert losses[0][-1] > min(losses[0]) + 1
    assert losses[1][-1] == min(losses[1])
    assert stopped < by_heart - 1


def test_a_fit_leaves_the_encoder_as_it_is():
    layer = torch.nn.Linear(2, 4)
    torch.nn.init.normal_(layer.weight)
    before = layer.weight.clone()
    module = vamp_from(torch.zeros(2, 3, 2))

    def encoder(pseudo_inputs):
        return DiagonalGaussian(*layer(pseudo_inputs.mean(1)).chunk(2, -1))

    examples = aggregate_of_truth(100)
    fit_prior(module, examples, encoder, held_out=examples, steps=2)
    assert torch.equal(layer.weight, before)
    assert layer.weight.grad is None
    assert module.pseudo_inputs.abs().sum() > 0


def test_a_fit_to_one_example_and_to_fewer_than_the_components_stays_finite():
    one = DiagonalGaussian(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    module = MixturePrior(PriorSizes((2,), components=3))
    assert all(map(math.isfinite, fit_prior(module, one, never, held_out=one, steps=3).losses))


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
        fit(StandardNormalPrior(PriorSizes((2,))), 10, 10)
