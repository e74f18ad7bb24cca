"""What must hold for every model of pictures, and one whose log p(x) is known."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import bounds
from isthmus.explore.refit import refit
from isthmus.models import base
from isthmus.models.generation import Generation
from isthmus.models.pictures.codec import PictureCodec
from isthmus.models.pictures.model import PictureConfig, PictureModel
from isthmus.runs.bundle import load, save
from tiny import columns

SHAPES = {
    "mlp": (1, 3, 2),
    "conv": (3, 9, 11),
    "residual": (1, 13, 6),
    "deconv": (3, 9, 6),
    "strided": (3, 9, 11),
}
SYSTEMS = list(itertools.product(SHAPES, ["bernoulli", "logistic", "gaussian"]))


def loud(model: PictureModel) -> PictureModel:
    """Random weights everywhere, also where they start at zero, that keep the scale of things."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in (model.encoder, model.decoder):
            for weight in network.parameters():
                scale = 1.5 / math.sqrt(weight[0].numel())
                weight.normal_(std=scale if weight.ndim > 1 else 0.1, generator=generator)
    return model


@cache
def system(network: str, likelihood: str, prior: str = "standard") -> PictureModel:
    channels, height, width = SHAPES[network]
    config = PictureConfig(
        channels=channels,
        height=height,
        width=width,
        latent_size=3,
        network=network,
        hidden_size=6,
        layers=2,
        likelihood=likelihood,
        prior=prior,
        prior_components=4,
    )
    return loud(PictureModel(config)).eval()


@pytest.fixture(params=SYSTEMS, ids="-".join)
def model(request: pytest.FixtureRequest) -> PictureModel:
    return system(*request.param)


def pictures_for(model: PictureModel, count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *model.shape)).astype(np.uint8)


def same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_order_and_size_of_batches_change_nothing(model, monkeypatch):
    examples = model.codec.prepare(pictures_for(model))
    whole = columns(model(**examples.collate(range(6), noise_shape=(3,))))
    order = [3, 0, 5, 1, 4, 2]
    permuted = columns(model(**examples.collate(order, noise_shape=(3,))))
    for name in whole:
        same(permuted[name], whole[name][order])
        for index in order:
            single = columns(model(**examples.collate([index], noise_shape=(3,))))[name]
            same(single[0], whole[name][index])
    monkeypatch.setattr(base, "TOKENS_AT_ONCE", 1)
    same(model.terms(pictures_for(model)).reconstruction, whole["reconstruction"])


def test_a_picture_alone_is_encoded_as_in_a_corpus(model):
    """Its binarisation too: outside of training it is the picture's own."""
    pictures = pictures_for(model)
    together = model.encode(pictures).mean
    same(torch.cat([model.encode([picture]).mean for picture in pictures[::-1]]).flip(0), together)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_latents_of_a_batch_never_mix(model):
    batch = model.codec.prepare(pictures_for(model)).collate(range(6))
    z = torch.randn(1, 6, 3).requires_grad_()
    losses = model.reconstruction(z, batch)[0]
    for i in range(6):
        [gradient] = torch.autograd.grad(losses[i], z, retain_graph=True)
        others = [j for j in range(6) if j != i]
        assert gradient[0, others].abs().max() == 0
        assert gradient[0, i].abs().min() > 1e-6  # every dimension is used


@torch.no_grad()
def test_several_draws_are_those_of_each_alone(model):
    batch = model.codec.prepare(pictures_for(model)).collate(range(6))
    z = torch.randn(3, 6, 3)
    together = model.reconstruction(z, batch)
    for draw, expected in zip(z, together, strict=True):
        same(model.reconstruction(draw.unsqueeze(0), batch)[0], expected)


def test_decoded_pictures_have_the_shape_and_are_read_again(model):
    z = torch.randn(2, 3)
    for sample in (False, True):
        drawn = model.decode(z, Generation(sample=sample))
        assert [picture.shape for picture in drawn] == [model.shape] * 2
        assert model.encode(drawn).mean.shape == (2, 3)
    again = model.decode(z, Generation(sample=True))
    assert all((one == two).all() for one, two in zip(drawn, again, strict=True))
    assert (np.stack(model.decode(z)) != np.stack(drawn)).any()
    with pytest.raises(IsthmusError, match="choose among tokens"):
        model.decode(z, Generation(temperature=0.5))


def test_what_is_loaded_is_what_was_saved(model, tmp_path):
    save(model, tmp_path / "run", {"metrics": {}})
    again = load(tmp_path / "run")
    assert again.codec == model.codec
    pictures = pictures_for(model)
    ours, theirs = model.terms(pictures), again.terms(pictures)
    assert torch.equal(ours.reconstruction, theirs.reconstruction)
    assert torch.equal(ours.kl, theirs.kl)
    assert not list((tmp_path / "run").rglob("*.bin")) + list((tmp_path / "run").rglob("*.pkl"))


@pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
def test_other_priors(prior):
    """A refitted prior tightens the mean bound; one that is trained with the model has a KL."""
    if prior == "flow":
        pytest.importorskip("zuko")
    model = PictureModel(system("mlp", "bernoulli").config).eval()
    with torch.no_grad():
        model.encoder[-1].weight.mul_(4)
    pictures = pictures_for(model, 64)
    before = bounds(model, model.codec.prepare(pictures), samples=20).negative_elbo.mean()
    refit(model, pictures, prior, components=8, steps=200)
    after = bounds(model, model.codec.prepare(pictures), samples=20).negative_elbo.mean()
    assert after < before
    fresh = system("mlp", "bernoulli", prior)
    batch = fresh.codec.prepare(pictures).collate(range(8), noise_shape=(3,))
    out = fresh(**batch)
    z = out.z
    expected = fresh.posterior(batch).log_prob(z) - fresh.prior.log_prob(z)
    same(out.kl.squeeze(-1), expected)


# Binarisation.


def codec(binarisation: str | None) -> PictureCodec:
    return PictureCodec((1, 4, 16), binarisation)


GREYS = np.arange(256, dtype=np.uint8).reshape(4, 1, 4, 16)


def targets(examples, **options) -> np.ndarray:
    return examples.collate(range(len(examples)), **options)["targets"].numpy()


def test_sampled_binarisation_has_the_probability_of_the_grey_value():
    examples, epochs = codec("sampled").prepare_training(GREYS, None), 4000
    ones = sum(targets(examples, epoch=epoch).astype(float) for epoch in range(epochs)).ravel()
    grey = np.arange(256) / 255
    error = np.sqrt(grey * (1 - grey) / epochs)
    assert (np.abs(ones / epochs - grey) <= 4.5 * error).all()
    assert ones[0] == 0
    assert ones[255] == epochs


def test_training_draws_are_functions_of_seed_epoch_and_place():
    examples = codec("sampled").prepare_training(GREYS, None)
    first = targets(examples, seed=1, epoch=5)
    other = targets(examples, seed=1, epoch=6)
    assert (first != other).any()
    assert (first != targets(examples, seed=2, epoch=5)).any()
    fresh = codec("sampled").prepare_training(GREYS, None)
    two = fresh.collate([2, 0], seed=1, epoch=5, noise_shape=(3,))
    assert (two["targets"].numpy() == first[[2, 0]]).all()
    noise = fresh.collate(range(4), seed=1, epoch=5, noise_shape=(3,))["noise"]
    assert torch.equal(two["noise"], noise[[2, 0]])


def test_outside_of_training_a_picture_is_binary_in_one_way():
    examples = codec("sampled").prepare(GREYS)
    whole = targets(examples, seed=0, epoch=0)
    assert (targets(examples, seed=7, epoch=9) == whole).all()
    turned = targets(codec("sampled").prepare(GREYS[::-1]))
    assert (turned[::-1] == whole).all()
    assert set(np.unique(whole)) == {0, 1}


def test_a_threshold_and_no_binarisation():
    grey = np.arange(256).reshape(4, 64)
    assert (targets(codec("threshold").prepare_training(GREYS, None)) == (grey > 127.5)).all()
    assert (targets(codec(None).prepare(GREYS)) == grey).all()


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((2, 1, 4, 15), np.uint8), r"got the shape \[1, 4, 15\], expected \[1, 4, 16\]"),
        (np.zeros((2, 3, 4, 16), np.uint8), r"got the shape \[3, 4, 16\]"),
        ([np.zeros((1, 4, 16), np.uint8), np.zeros((4, 4), np.uint8)], r"picture 1: got"),
        (np.zeros((2, 1, 4, 16)), "got float64, expected uint8"),
    ],
)
def test_pictures_of_another_kind_are_refused(pictures, message):
    with pytest.raises(IsthmusError, match=message):
        codec(None).prepare(pictures)


# A linear decoder under a normal likelihood, whose log p(x) is known.

SIGMA = 0.3
BIN = 2 / 255


def linear_gaussian() -> tuple[PictureModel, MultivariateNormal]:
    """p(x|z) = N(Wz + b, σ²) in bins far narrower than σ, with the exact posterior as q(z|x)."""
    config = PictureConfig(
        channels=1, height=3, width=4, latent_size=2, likelihood="gaussian", layers=1
    )
    model = PictureModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(12, 2, generator=generator, dtype=torch.float64))
    weight = q * torch.tensor([0.5, 0.25], dtype=torch.float64)  # orthogonal columns
    offset = 0.1 * torch.randn(12, generator=generator, dtype=torch.float64)
    precision = 1 + weight.square().sum(0) / SIGMA**2
    slope = weight.T / SIGMA**2 / precision.unsqueeze(1)
    model.decoder, model.encoder = torch.nn.Linear(2, 24), torch.nn.Linear(12, 4)
    with torch.no_grad():
        model.decoder.weight.copy_(torch.cat([weight, torch.zeros(12, 2)]))
        model.decoder.bias.copy_(torch.cat([offset, torch.full((12,), math.log(SIGMA))]))
        model.encoder.weight.copy_(torch.cat([slope, torch.zeros(2, 12)]))
        model.encoder.bias.copy_(torch.cat([-slope @ offset, -precision.log()]))
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(12, dtype=torch.float64)
    return model.double(), MultivariateNormal(offset, covariance)


def exact_nats(marginal: MultivariateNormal, pictures: np.ndarray) -> torch.Tensor:
    """−log of the mass of each picture's box of bins; the middle rule is off by (bin/σ)²/24."""
    values = torch.from_numpy(pictures.reshape(-1, 12) * BIN - 1.0)
    return -marginal.log_prob(values) - 12 * math.log(BIN)


def linear_data(marginal: MultivariateNormal, count: int) -> np.ndarray:
    values = marginal.sample((count,)).clamp(-0.98, 0.98)
    return ((values + 1) / BIN).round().to(torch.uint8).view(-1, 1, 3, 4).numpy()


def test_the_bound_of_an_exact_posterior_is_log_p():
    model, marginal = linear_gaussian()
    pictures = linear_data(marginal, 40)
    exact = exact_nats(marginal, pictures)
    measured = bounds(model, model.codec.prepare(pictures), samples=3)
    torch.testing.assert_close(measured.nll_iw, exact, atol=2e-3, rtol=0)
    # The ELBO has the sampling error of its reconstruction; its mean over many draws is exact too.
    many = bounds(model, model.codec.prepare(pictures), samples=4000)
    torch.testing.assert_close(many.negative_elbo.mean(), exact.mean(), atol=1e-2, rtol=0)


def test_importance_weighted_bounds_fall_towards_log_p():
    model, marginal = linear_gaussian()
    with torch.no_grad():
        model.encoder.bias[:2] += 0.5  # a posterior that is off
        model.encoder.bias[2:] += 0.7
    pictures = linear_data(marginal, 300)
    exact = exact_nats(marginal, pictures)
    gaps = []
    for samples in (1, 10, 200):
        measured = bounds(model, model.codec.prepare(pictures), samples=samples)
        gap = measured.nll_iw - exact
        gaps.append((gap.mean().item(), gap.std().item() / math.sqrt(len(gap))))
    (one, error), (ten, _), (many, last) = gaps
    assert one > ten + 3 * error
    assert ten > many
    assert abs(many) < 4 * last + 2e-2


def test_one_scale_for_all_is_that_scale_in_every_value():
    """The likelihood is that of each value's own scale, all of them equal."""
    sizes = {"channels": 1, "height": 3, "width": 2, "latent_size": 3, "hidden_size": 6}
    model = PictureModel(PictureConfig(**sizes, likelihood="logistic", scale="one")).eval()
    batch = model.codec.prepare(pictures_for(model)).collate(range(6))
    z = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    location = model.decoder(z)
    scales = torch.full_like(location, model.log_scale.item())
    own = model.likelihood.losses(torch.cat([location, scales], -1), batch["targets"]).sum(-1)
    same(model.reconstruction(z, batch), own)
    model.reconstruction(z, batch).sum().backward()
    assert model.log_scale.grad.abs() > 0
    assert (model.draw(z[0], Generation())[0] <= 255).all()
