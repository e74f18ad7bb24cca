"""The prior that reads latents in their order: a density, its draws, and what it learns."""

import math

import pytest
import torch

from isthmus.latent.autoregressive import AutoregressivePrior
from isthmus.latent.fit import fit_prior
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior_module import PriorSizes
from isthmus.models.base import encode_examples
from tiny import TEXTS, make


def fresh(shape, components=4, hidden_size=16, seed=0):
    torch.manual_seed(seed)
    module = AutoregressivePrior(PriorSizes(shape, components, hidden_size=hidden_size))
    with torch.no_grad():
        module.logits.weight.normal_()
        module.log_variance.normal_(std=0.3)
    return module


def no_encoder(_):
    raise AssertionError("it has no pseudo-inputs")


@torch.no_grad()
@pytest.mark.parametrize("shape", [(2, 1), (1,)])
def test_it_integrates_to_one(shape):
    axis = torch.linspace(-7, 7, 281)
    numbers = math.prod(shape)
    points = torch.cartesian_prod(*[axis] * numbers).view(-1, *shape)
    density = fresh(shape)(no_encoder).log_prob(points).double().exp()
    assert density.sum().item() * 0.05**numbers == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_draws_have_its_entropy_and_a_seed_repeats_them():
    prior = fresh((2, 1))(no_encoder)
    axis = torch.linspace(-7, 7, 281)
    log_p = prior.log_prob(torch.cartesian_prod(axis, axis).view(-1, 2, 1)).double()
    entropy = -(log_p.exp() * log_p).sum().item() * 0.05**2
    drawn = -prior.log_prob(prior.sample(20_000, torch.Generator().manual_seed(1))).double()
    assert drawn.mean().item() == pytest.approx(entropy, abs=4 * drawn.std().item() / 141)
    again = prior.sample(20_000, torch.Generator().manual_seed(1))
    assert torch.equal(again, prior.sample(20_000, torch.Generator().manual_seed(1)))


@torch.no_grad()
def test_a_latent_is_predicted_from_those_before_it_alone():
    """Summed over the second latent, the density of both is that of the first; not so reversed."""
    module = fresh((2, 1))
    axis = torch.linspace(-7, 7, 281)
    points = torch.cartesian_prod(axis, axis).view(-1, 2, 1)
    density = module(no_encoder).log_prob(points).exp().view(281, 281)
    start = module.log_weights(module.network(torch.zeros(1, 1, 1))[0])[0, 0]
    alone = (start + module.log_components(axis.unsqueeze(1))).logsumexp(-1).exp()
    torch.testing.assert_close(density.sum(1) * 0.05, alone, atol=1e-4, rtol=1e-3)
    assert (density.sum(0) * 0.05 - alone).abs().max() > 1e-2


def test_it_learns_an_order_that_a_gaussian_cannot():
    """Four codes in a cycle: after the first latent each follows from the one before."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.tensor([[3.0, 0], [0, 3], [-3, 0], [0, -3]])
    first = torch.randint(4, (600, 1), generator=generator)
    mean = codes[(first + torch.arange(5)) % 4]
    posterior = DiagonalGaussian(mean, torch.full_like(mean, -4.0))
    torch.manual_seed(0)
    module = AutoregressivePrior(PriorSizes((5, 2), components=8, hidden_size=16))
    fit_prior(module, posterior[100:], no_encoder, held_out=posterior[:100], learning_rate=1e-2)
    # H(q) of each latent, and one choice of four for the whole sequence.
    exact = posterior.entropy().mean().item() + math.log(4)
    z = posterior[:100].rsample(50)
    assert -module(no_encoder).log_prob(z).mean().item() == pytest.approx(exact, abs=0.15)
    drawn = module(no_encoder).sample(200, torch.Generator().manual_seed(3))
    found = torch.cdist(drawn, codes).argmin(-1)
    assert ((found - found[:, :1]) % 4 == torch.arange(5) % 4).all(1).double().mean() > 0.95


@torch.no_grad()
def test_a_model_trains_and_samples_under_it():
    model = make("llama", "aligned", pooling="blocks", latents=5, prior="recurrent")
    posterior = encode_examples(model, model.read(TEXTS))
    z = posterior.rsample(3)
    expected = (posterior.log_prob(z) - model.prior.log_prob(z)).mean(0)
    torch.testing.assert_close(posterior.kl(model.prior, z)[:, 0], expected)
    assert len(model.decode(model.prior.sample(4))) == 4
