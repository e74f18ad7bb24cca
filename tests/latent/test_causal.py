"""The language model of latents: a density, its draws, where texts end, and the stack's bound."""

import copy
import math

import pytest
import torch

from isthmus.latent.causal import CausalFlowPrior
from isthmus.latent.fit import fit_prior
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior_module import PriorSizes, StandardNormal
from isthmus.models.optimus import OptimusModel
from tiny import loud, system


def no_encoder(_):
    raise AssertionError("it has no pseudo-inputs")


def fresh(shape=(2, 1), seed=0, ends=False):
    torch.manual_seed(seed)
    return awake(CausalFlowPrior(PriorSizes(shape, hidden_size=32)), ends)


def awake(module, ends):
    """Everything has a say: what is zero at the start is drawn."""
    with torch.no_grad():
        module.velocity.outer.weight.normal_(std=0.03)
        module.velocity.condition.weight.normal_(std=0.2)
        module.velocity.time[2].weight.normal_(std=0.03)
        module.whitening.shift.fill_(0.3)
        module.steps.fill_(4)
        if ends:  # a text ends in a latent whose first number is above 0.4
            first, _, last = module.end
            first.weight.zero_()[:2, 0] = torch.tensor([1.0, -1.0])
            first.bias.zero_()[:2] = torch.tensor([-0.4, 0.4])
            last.weight.zero_()[0, :2] = torch.tensor([1.0, -1.0])
            last.bias.zero_()
    return module


STEP = 0.15
AXIS = torch.arange(-45, 46) * STEP
POINTS = torch.cartesian_prod(AXIS, AXIS).view(-1, 2, 1)


@torch.no_grad()
@pytest.mark.parametrize("ends", [False, True])
def test_it_integrates_to_one_and_each_latent_depends_on_those_before_it_alone(ends):
    module = fresh(ends=ends)
    log_p = module(no_encoder).log_prob(POINTS).double()
    density = log_p.exp().view(91, 91)
    assert density.sum().item() * STEP**2 == pytest.approx(1, abs=2e-3)
    conditional = density / (density.sum(1, keepdim=True) * STEP)
    apart = (conditional[35] - conditional[50]).abs().max()
    assert apart > 0.02  # the second reads the first
    first = module.flow(
        module.states(POINTS, torch.ones(len(POINTS), 2) > 0).view(-1, 2, 32)[:, 0]
    )
    alone = first.log_prob(POINTS[:, 0]).exp().view(91, 91)[:, 0].double()
    torch.testing.assert_close(density.sum(1) * STEP, alone, atol=1e-4, rtol=1e-3)
    if ends:  # after the end, N(0, 1)
        normal = StandardNormal(1).log_prob(AXIS.unsqueeze(1)).exp().double()
        torch.testing.assert_close(conditional[AXIS > 0.45][0], normal, atol=1e-4, rtol=1e-3)
        assert (conditional[35] - normal).abs().max() > 0.01


@torch.no_grad()
def test_draws_have_its_entropy_and_a_seed_repeats_them():
    prior = fresh(ends=True)(no_encoder)
    log_p = prior.log_prob(POINTS).double()
    entropy = -(log_p.exp() * log_p).sum().item() * STEP**2
    z = prior.sample(4_000, torch.Generator().manual_seed(1))
    drawn = -prior.log_prob(z).double()
    assert drawn.mean().item() == pytest.approx(entropy, abs=4 * drawn.std().item() / 63)
    assert torch.equal(z, prior.sample(4_000, torch.Generator().manual_seed(1)))


@torch.no_grad()
def test_following_latents_are_those_of_draws_one_after_the_other():
    prior = fresh((4, 2), ends=True)(no_encoder)
    noise = torch.randn(50, 4, 2, generator=torch.Generator().manual_seed(2))
    z = prior.sample(50, torch.Generator().manual_seed(2))
    torch.testing.assert_close(prior.following(z, noise), z, atol=1e-5, rtol=1e-5)


def test_it_learns_an_order_and_where_texts_end():
    """Codes in a cycle, of which the last one ends the text: their entropy is known."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.tensor([[3.0, 0], [0, 3], [-3, 0], [0, -3]])
    first = torch.randint(4, (900, 1), generator=generator)
    places = first + torch.arange(4)
    used = places <= 3  # the fourth code is the end
    mean = torch.where(used.unsqueeze(-1), codes[places % 4], 0.0)
    log_variance = torch.where(used.unsqueeze(-1), -3.0, 0.0).expand_as(mean)
    posterior = DiagonalGaussian(mean, log_variance.contiguous())
    torch.manual_seed(0)
    module = CausalFlowPrior(PriorSizes((4, 2), hidden_size=32))
    fit_prior(module, posterior[100:], no_encoder, held_out=posterior[:100], steps=300)
    z = posterior[:100].rsample(10)
    behind = ~used[:100].expand(10, -1, -1)
    assert torch.equal(module.ended(z.flatten(0, 1)).view(behind.shape), behind)
    exact = posterior[:100].entropy().mean().item() + math.log(4)
    with torch.no_grad():
        found = -module(no_encoder).log_prob(z).mean().item()
    assert found == pytest.approx(exact, abs=0.3)
    assert found > exact - 0.1


@pytest.fixture(scope="module")
def stack():
    """Two latents under a language model of latents, and all texts of two tokens."""
    torch.manual_seed(0)
    config = copy.deepcopy(system("chunks").config)
    config.latents, config.bridge_length = 2, 1
    config.prior, config.prior_hidden_size = "calm", 32
    model = loud(OptimusModel(config, codec=system("chunks").codec)).eval()
    awake(model.prior_module, ends=True)
    with torch.no_grad():  # near the prior, so that few draws of q show what importance does
        model.prior_module.velocity.outer.weight.mul_(0.3)
        model.prior_module.whitening.shift.fill_(0.1)
        model.encoder.head.weight.mul_(0.1)
    size = len(model.codec.decoder_tokenizer)
    texts = torch.cartesian_prod(*[torch.arange(size)] * 2)
    start = torch.full((len(texts), 1), model.decoder.special.start)
    ids = torch.cat([start, texts], 1)
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "decoder_input_ids": ids[:, :-1],
        "targets": texts,
    }
    return model, batch


@torch.no_grad()
def exact_probabilities(model, batch, draws=5_000):
    """p(x) = E_p(z) p(x|z) of all texts, by draws of z alone, and its standard errors."""
    z = model.prior.sample(draws, torch.Generator().manual_seed(5))
    ids = batch["decoder_input_ids"][:1].repeat(draws, 1)
    hidden = model.decoder.hidden(model.conditioning(z), ids)  # it reads no token
    tokens = model.decoder.logits(hidden).double().softmax(-1)
    p = torch.einsum("sa,sb->ab", *tokens.unbind(1)).flatten() / draws
    square = torch.einsum("sa,sb->ab", *tokens.square().unbind(1)).flatten() / draws
    return p, ((square - p**2) / draws).sqrt()


@torch.no_grad()
def test_the_bound_of_the_stack_is_one(stack):
    """All texts together stay below probability 1, and each below its own."""
    model, batch = stack
    p, error = exact_probabilities(model, batch)
    assert p.sum().item() == pytest.approx(1)
    elbo = log_weights(model, batch, 100).mean(0)
    assert elbo.exp().sum() < 1
    assert (elbo.exp() < p + 4 * error).all()
    assert (elbo - p.log()).mean() < -0.01  # it is a bound and no estimate


@torch.no_grad()
def test_the_importance_weighted_bound_of_the_stack_approaches_log_p(stack):
    model, batch = stack
    p, error = (one[::15] for one in exact_probabilities(model, batch))
    weights = log_weights(model, {name: one[::15] for name, one in batch.items()}, 6_000)
    assert len(p) > 3
    parts = weights.view(-1, 20, len(p)).logsumexp(1) - math.log(20)
    assert (weights.mean(0) < parts.mean(0)).all()
    assert (parts.mean(0) < p.log() + 4 * error / p).all()
    spread = weights.exp().std(0) / len(weights) ** 0.5
    assert (spread < 0.1 * p).all()
    assert ((weights.exp().mean(0) - p).abs() < 4 * (spread**2 + error**2).sqrt()).all()


def log_weights(model, batch, samples):
    """log p(x|z) p(z) / q(z|x) of draws of q, [S N]; their mean is the ELBO."""
    posterior, prior = model.posterior(batch), model.prior
    generator = torch.Generator().manual_seed(3)
    z = posterior.rsample(noise=torch.randn(samples, *posterior.mean.shape, generator=generator))
    ratio = posterior.log_prob(z) - prior.log_prob(z)
    return (-model.reconstruction(z, batch) - ratio).double()
