"""A code of surroundings never depends on its own picture, on padding, or on other sequences."""

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.signs.context import make_context
from isthmus.signs.networks import SignNetwork
from isthmus.signs.settings import NetworkSettings

KINDS = ("neighbor", "lstm", "transformer")
P, T = 8, 6


@pytest.fixture(params=KINDS)
def context(request):
    torch.manual_seed(0)
    found = make_context(request.param, P).double().eval()
    for parameter in found.parameters():  # none at zero, or what it multiplies would be hidden
        torch.nn.init.normal_(parameter, std=0.5)
    return found


def full(count):
    return torch.ones(1, count, dtype=torch.bool)


def influence(context, z, mask):
    """[T T] whether the code at t changes with the picture at s."""
    before = context(z, mask)
    rows = []
    for place in range(z.shape[1]):
        other = z.clone()
        other[0, place] += 1.0
        rows.append((context(other, mask) - before).abs().amax(-1)[0] > 1e-12)
    return torch.stack(rows, 1)


def test_a_code_depends_on_the_places_it_may_and_never_on_its_own(context):
    z = torch.randn(1, T, P, dtype=torch.float64)
    places = torch.arange(T)
    offset = places - places[:, None]
    expected = {
        "Neighbours": offset.abs() == 1,
        "Recurrent": offset < 0,
        "SelfBlind": offset != 0,
    }[type(context).__name__]
    assert torch.equal(influence(context, z, full(T)), expected)


def test_padding_changes_nothing(context):
    z = torch.randn(1, T, P, dtype=torch.float64)
    alone = context(z[:, :4], full(4))
    mask = torch.tensor([[True] * 4 + [False] * 2])
    for rest in (0.0, 7.0):
        longer = torch.cat([z[:, :4], torch.full((1, 2, P), rest, dtype=torch.float64)], 1)
        assert torch.allclose(context(longer, mask)[:, :4], alone, atol=1e-12)


def test_other_sequences_of_a_batch_change_nothing(context):
    z = torch.randn(3, T, P, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3, [True] * 1 + [False] * 5])
    together = context(z, mask)
    for row in range(3):
        alone = context(z[row : row + 1], mask[row : row + 1])[0]
        assert torch.allclose(together[row][mask[row]], alone[mask[row]], atol=1e-12)


def test_what_is_known_has_something_around_it(context):
    mask = torch.tensor([[True] * 3, [True, False, False]])
    first = type(context).__name__ != "Recurrent"
    assert context.known(mask).tolist() == [[first, True, True], [False] * 3]
    assert context(torch.randn(2, 3, P, dtype=torch.float64), mask).isfinite().all()


def test_an_unknown_context_is_refused():
    with pytest.raises(IsthmusError, match="got 'gru', expected none, neighbor"):
        make_context("gru", P)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_does_not_show_a_picture_to_its_own_context(kind):
    torch.manual_seed(0)
    network = SignNetwork(NetworkSettings(kind, side=8, latent_size=P, hidden_size=2)).double()
    pictures = torch.rand(1, T, 8, 8, dtype=torch.float64)
    noise = torch.randn(2, 1, T, P, dtype=torch.float64)

    def around(seen):
        return network(seen, pictures, full(T), noise)[1].posterior.mean

    other = pictures.clone()
    other[0, 3] = 1 - other[0, 3]
    moved = (around(other) - around(pictures)).abs().amax(-1) > 1e-12
    known = network.context.known(full(T))[0].nonzero().flatten().tolist()
    expected = {"neighbor": {2, 4}, "lstm": {4, 5}, "transformer": {0, 1, 2, 4, 5}}[kind]
    assert {place for place, it in zip(known, moved, strict=True) if it} == expected


def test_losses_of_a_padded_batch_are_those_of_its_sequences():
    torch.manual_seed(0)
    network = SignNetwork(NetworkSettings("transformer", 8, P, 2)).double()
    pictures = torch.rand(2, T, 8, 8, dtype=torch.float64)
    noise = torch.randn(2, 2, T, P, dtype=torch.float64)
    mask = torch.tensor([[True] * T, [True] * 3 + [False] * 3])
    paths = network(pictures, pictures, mask, noise)
    first = network(pictures[:1], pictures[:1], full(T), noise[:, :1])
    second = network(pictures[1:, :3], pictures[1:, :3], full(3), noise[:, 1:, :3])
    for together, *apart in zip(paths, first, second, strict=True):
        for loss in ("reconstruction", "kl"):
            expected = torch.cat([getattr(path, loss) for path in apart])
            assert torch.allclose(getattr(together, loss), expected, atol=1e-9)


def test_the_losses_are_cross_entropy_and_kl():
    torch.manual_seed(0)
    network = SignNetwork(NetworkSettings("none", 8, P, 2)).double()
    pictures = torch.rand(1, 2, 8, 8, dtype=torch.float64)
    noise = torch.randn(2, 1, 2, P, dtype=torch.float64)
    path, around = network(pictures, pictures, full(2), noise)
    assert around is None
    chance = network.decoder(path.z).sigmoid()
    x = pictures[0].flatten(1)
    assert torch.allclose(
        path.reconstruction, -(x * chance.log() + (1 - x) * (1 - chance).log()).sum(-1)
    )
    q = torch.distributions.Normal(path.posterior.mean, path.posterior.standard_deviation)
    prior = torch.distributions.Normal(torch.zeros(P).double(), torch.ones(P).double())
    assert torch.allclose(path.kl, torch.distributions.kl_divergence(q, prior).sum(-1))
