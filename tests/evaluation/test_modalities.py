"""Doors of a joint linear-Gaussian model, where every log p and every q(z|parts) is known."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from isthmus.data.captioned import JOINT
from isthmus.evaluation.likelihood import bounds, round_trip
from isthmus.evaluation.modalities import predictive_nats, standard_normal
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.codec import Examples
from isthmus.models.joint.model import JointConfig, JointModel
from linear_gaussian import LinearGaussian

COUNT, P = 40, 2


class Both(Examples):
    """Vectors for the parts; which examples have them is given."""

    kind = JOINT

    def __init__(self, parts: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> None:
        self.parts, self.given = parts, given

    @property
    def lengths(self):
        return 5 + np.arange(COUNT) % 7  # so that batches change the order

    def collate(self, indices, *, seed=0, epoch=0, noise_shape=None, denoising=None):
        batch = {}
        for name, values in self.parts.items():
            mask = self.given[name][indices]
            batch[f"{name}/given"] = mask
            if mask.any():
                batch[f"{name}/targets"] = values[indices][mask]
        return batch


def orthogonal(size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, P, generator=generator, dtype=torch.double))[0]
    return basis * torch.tensor([1.5, 0.7], dtype=torch.double)


def door(size: int, noise: float, seed: int) -> LinearGaussian:
    """A part whose expert is p(z|x) / p(z): with the prior expert it is the true posterior."""
    part = LinearGaussian(orthogonal(size, seed), torch.zeros(size).double(), noise)
    weight = part.weight.detach()
    precision = weight.square().sum(0) / noise
    part.set_posterior(weight.T / noise / precision.unsqueeze(1), 0.0, -precision.log())
    return part


@pytest.fixture(scope="module")
def model() -> JointModel:
    parts = {"picture": door(4, 0.3, 0), "caption": door(3, 0.5, 1)}
    return JointModel(JointConfig(latent_size=P), parts).eval()


@pytest.fixture(scope="module")
def data(model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(COUNT, P, generator=generator, dtype=torch.double)
    drawn = {}
    for name, part in model.parts.items():
        clean = z @ part.weight.detach().T
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.double)
        drawn[name] = clean + part.noise_variance**0.5 * noise
    return drawn


def examples(data, *names: str) -> Both:
    given = {name: torch.full((COUNT,), name in names) for name in data}
    return Both(data, given)


def joint_density(model, names) -> MultivariateNormal:
    weight = torch.cat([model.parts[name].weight.detach() for name in names])
    noise = torch.cat(
        [
            torch.full((len(model.parts[n].offset),), model.parts[n].noise_variance).double()
            for n in names
        ]
    )
    return MultivariateNormal(torch.zeros(len(weight)).double(), weight @ weight.T + noise.diag())


def exact(model, data, *names: str) -> torch.Tensor:
    return -joint_density(model, names).log_prob(torch.cat([data[name] for name in names], 1))


SETS = [("picture",), ("caption",), ("picture", "caption")]


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_with_the_true_experts_every_set_of_doors_gives_the_exact_likelihood(model, data, names):
    """The product is p(z|x) then, so that each sample's weight is p(x) itself."""
    measured = bounds(model, examples(data, *names), samples=3)
    torch.testing.assert_close(measured.nll_iw, exact(model, data, *names))


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_with_wrong_experts_each_doors_bound_lies_above(model, data, names):
    changed = {name: model.parts[name].shift for name in model.parts}
    try:
        for part in model.parts.values():
            part.shift = 0.4
        measured = bounds(model, examples(data, *names), samples=2000)
    finally:
        for name, shift in changed.items():
            model.parts[name].shift = shift
    true = exact(model, data, *names)
    assert (measured.negative_elbo > true).all()
    assert measured.negative_elbo.mean() > measured.nll_iw.mean()
    assert measured.nll_iw.mean() > true.mean() - 0.02


def test_examples_with_different_parts_stand_in_one_batch(model, data):
    given = {"picture": torch.arange(COUNT) % 3 != 0, "caption": torch.arange(COUNT) % 3 != 1}
    measured = bounds(model, Both(data, given), samples=1)
    for place in range(COUNT):
        names = [name for name in data if given[name][place]]
        own = {name: values[place : place + 1] for name, values in data.items()}
        expected = exact(model, own, *names)[0]
        torch.testing.assert_close(measured.nll_iw[place], expected)


def predictive(model, data) -> torch.Tensor:
    """−log p(caption|picture) = −log p(both) + log p(picture)."""
    return exact(model, data, "picture", "caption") - exact(model, data, "picture")


def test_what_a_door_says_of_the_other_part_is_the_conditional(model, data):
    posterior = model.posterior(examples(data, "picture").collate(list(range(COUNT))))
    target = examples(data, "caption")
    nats = predictive_nats(model, posterior, target, samples=20_000)
    true = predictive(model, data)
    torch.testing.assert_close(nats, true, atol=0.05, rtol=0)
    # one sample is a bound: too high by Jensen's inequality
    assert predictive_nats(model, posterior, target, samples=1).mean() > true.mean()


def test_the_prior_says_the_marginal(model, data):
    target = examples(data, "caption")
    prior = standard_normal(COUNT, P)
    double = DiagonalGaussian(prior.mean.double(), prior.log_variance.double())
    nats = predictive_nats(model, double, target, samples=20_000)
    torch.testing.assert_close(nats, exact(model, data, "caption"), atol=0.1, rtol=0)


def test_a_round_trip_leaves_nobody_where_he_was():
    other = round_trip(7, seed=1)
    assert sorted(other.tolist()) == list(range(7))
    assert (other != torch.arange(7)).all()
