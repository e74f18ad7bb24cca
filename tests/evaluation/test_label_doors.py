"""p(y|z) behind doors with exact posteriors: log p(x, y) and p(y|x) by quadrature."""

import math

import numpy as np
import pytest
import torch
from test_modalities import COUNT, SETS, P, data, door, exact, examples  # noqa: F401 - data: a fixture

from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.joint.model import JointConfig, JointModel

NAMES = ["a", "b", "c"]
LABELS = torch.arange(COUNT) % 3


@pytest.fixture(scope="module")
def model() -> JointModel:
    parts = {"picture": door(4, 0.3, 0), "caption": door(3, 0.5, 1)}
    built = JointModel(JointConfig(latent_size=P, labels=NAMES), parts).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in built.labels.parameters():
            weight.normal_(std=1.5, generator=generator)
    return built


def quadrature(posterior: DiagonalGaussian) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [S N P] and weights [S] of Gauss–Hermite over q, 40 an axis."""
    points, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(40))
    grid = torch.cartesian_prod(points, points).unsqueeze(1)
    share = torch.cartesian_prod(weights, weights).prod(-1)
    return posterior.mean + grid * posterior.standard_deviation, share / share.sum()


def told(model, posterior) -> torch.Tensor:
    """Log p(y|z) of each example's label over the points, [S N]."""
    z, _ = quadrature(posterior)
    log_p = model.labels.linear(z).log_softmax(-1)
    return log_p.gather(-1, LABELS.expand(len(z), -1).unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("names", SETS, ids="+".join)
@torch.no_grad()
def test_with_the_label_the_bound_is_above_by_what_the_label_says_of_z(model, data, names):  # noqa: F811
    """−log p(x, y) = −ELBO + ξ-term at ξ = 1 − KL(p(z|x) ‖ p(z|x, y)), since q(z|x) is p(z|x)."""
    batch = examples(data, *names).collate(list(range(COUNT)))
    posterior = model.posterior(batch)
    log_p, (_, share) = told(model, posterior), quadrature(posterior)
    log_marginal = (share.log().unsqueeze(1) + log_p).logsumexp(0)  # log p(y|x)
    true = exact(model, data, *names) - log_marginal
    divergence = (share.unsqueeze(1) * (log_marginal - log_p)).sum(0)
    assert (divergence > 0).all()

    draws = 20_000
    noise = torch.randn(draws, COUNT, P, generator=torch.Generator().manual_seed(2)).double()
    terms = model.terms_under(posterior, model.prior, batch | {"labels": LABELS}, noise)
    nats = terms.extra["classification"]
    bound = terms.reconstruction + terms.kl.sum(-1) + nats
    per_example = (share.unsqueeze(1) * log_p.square()).sum(0).sqrt() + 3
    assert ((bound - true - divergence).abs() < 5 * per_example / math.sqrt(draws)).all()
    torch.testing.assert_close(nats, divergence - log_marginal, atol=0.05, rtol=0)


@torch.no_grad()
def test_a_door_tells_the_label_by_the_conditional(model, data):  # noqa: F811
    """p(y|x_a) of each door and of both, 64 draws against quadrature."""
    for names in SETS:
        batch = examples(data, *names).collate(list(range(COUNT)))
        log_p, (_, share) = told(model, model.posterior(batch)), quadrature(model.posterior(batch))
        mean = (share.unsqueeze(1) * log_p.exp()).sum(0)
        spread = (share.unsqueeze(1) * (log_p.exp() - mean).square()).sum(0).sqrt()
        found = model.label_posterior(batch).exp()[range(COUNT), LABELS]
        assert ((found - mean).abs() <= 4.5 * spread / 8 + 1e-9).all()
