"""K latents of P dimensions: walks of each, and the same answers as for K·P numbers in a row."""

from __future__ import annotations

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.explore import (
    analogy,
    between,
    cluster,
    components,
    exchange,
    exchanges,
    interpolate,
    mixture_of,
    neighbours,
    refit,
    sample,
    traverse,
    without_details,
)
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import summarised, summary_of
from tiny import TEXTS, make, system


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def corpus():
    return normal(60, 4, 3)


def test_straight_walks_are_those_of_the_flattened_twin(corpus):
    a, b, c = corpus[:3]
    flat = corpus.flatten(1)
    assert torch.equal(
        interpolate(a, b, 3, "lerp").flatten(1), interpolate(flat[0], flat[1], 3, "lerp")
    )
    assert torch.equal(analogy(a, b, c, 0.5).flatten(), analogy(*flat[:3], 0.5))
    spread = normal(12, seed=1).exp()
    walk = traverse(a, 7, spread, steps=3, reach=2.0)  # dimension 1 of latent 2
    assert torch.equal(walk.flatten(1), traverse(flat[0], 7, spread, steps=3, reach=2.0))
    assert (walk != a).nonzero().tolist() == [[0, 2, 1], [2, 2, 1]]


def test_distances_and_clusters_are_those_of_the_flattened_twin(corpus):
    flat = corpus.flatten(1)
    spread = normal(12, seed=1).exp()
    for unit in (None, spread):
        found, expected = (neighbours(z[:5], z, 4, unit) for z in (corpus, flat))
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    for method in ("kmeans", "ward"):
        assert cluster(corpus, 5, method, principal=3) == cluster(flat, 5, method, principal=3)


def test_a_mixture_is_that_of_the_flattened_twin():
    mean, log_variance = normal(80, 2, 3), normal(80, 2, 3, seed=1)
    whole = mixture_of(DiagonalGaussian(mean, log_variance), components=3)
    flat = mixture_of(DiagonalGaussian(mean.flatten(1), log_variance.flatten(1)), components=3)
    z = normal(7, 2, 3, seed=2)
    torch.testing.assert_close(whole.log_prob(z), flat.log_prob(z.flatten(1)))
    joint = flat.log_joint(z.flatten(1))
    assert whole.log_joint(z.unsqueeze(0)).shape == (1, *joint.shape)
    torch.testing.assert_close(whole.log_joint(z), joint)
    drawn = whole.sample(5, torch.Generator().manual_seed(3))
    assert torch.equal(drawn.flatten(1), flat.sample(5, torch.Generator().manual_seed(3)))
    model = system("grid")
    texts = sample(model, 4, seed=1, prior=whole)
    assert texts == model.decode(whole.sample(4, torch.Generator().manual_seed(1)))
    with pytest.raises(IsthmusError, match="components"):
        components(model, z)


def test_each_latent_turns_by_itself(corpus):
    a, b = corpus[:2]
    places = torch.linspace(0, 1, 5)
    walk = between(a, b, places)
    for latent in range(4):
        assert torch.equal(walk[:, latent], between(a[latent], b[latent], places))
        lengths = torch.lerp(a[latent].norm(), b[latent].norm(), places)
        torch.testing.assert_close(walk[:, latent].norm(dim=1), lengths)
    assert torch.equal(walk[0], a)
    assert torch.equal(walk[-1], b)


def test_a_latent_that_both_ends_share_stays(corpus):
    a, b = corpus[:2]
    b = exchange(b, a, 2)
    walk = interpolate(a, b, 3)
    assert torch.equal(walk[:, 2], a[2].expand(5, -1))
    whole = interpolate(a.flatten(), b.flatten(), 3).view_as(walk)  # one rotation would move it
    assert (whole[2, 2] - a[2]).norm() > 0.1 * a[2].norm()


def test_an_exchange_touches_one_latent(corpus):
    a, b = corpus[:20], corpus[20:40]
    for latent in range(4):
        mixed = exchange(a, b, latent)
        others = [place for place in range(4) if place != latent]
        assert torch.equal(mixed[:, latent], b[:, latent])
        assert torch.equal(mixed[:, others], a[:, others])
    every = a
    for latent in range(4):
        every = exchange(every, b, latent)
    assert torch.equal(every, b)
    assert not torch.equal(a, b)  # the originals are as they were
    with pytest.raises(IsthmusError, match="between 0 and 3, got 4"):
        exchange(a, b, 4)


def test_arithmetic_of_summaries_hides_details(corpus):
    a, b, c = corpus[:3]
    found = analogy(a, b, c, 0.5, summary=2)
    assert torch.equal(found[:2], analogy(a[:2], b[:2], c[:2], 0.5))
    assert not found[2:].any()
    assert torch.equal(without_details(corpus, 2)[:, :2], corpus[:, :2])
    assert not without_details(corpus, 2)[:, 2:].any()
    assert without_details(corpus, 0) is corpus


def test_a_summary_is_exchanged_as_a_whole_and_details_in_use_by_themselves(corpus):
    a, b = corpus[:2].clone()
    a[3], b[2:] = 0, 0  # a has one detail, b has none
    places, rows = exchanges(a, b, summary=2)
    assert places == [(), (0, 1), (2,), (0, 1, 2, 3)]
    expected = torch.stack([a, a, a, b])
    expected[1, :2], expected[1, 2:], expected[2, 2] = b[:2], 0, b[2]
    assert torch.equal(rows, expected)


def test_a_mixture_of_summaries_clusters_them():
    model = make("llama", "aligned", pooling="blocks", latents=5, summary=2)
    refit(model, TEXTS, "mixture", components=3, steps=20)
    z = model.encode(TEXTS).mean
    with summarised(model):
        about = model.encode(TEXTS).mean
        expected = model.prior.log_joint(about).argmax(-1).tolist()
    assert torch.equal(summary_of(model, z), about)
    assert components(model, about) == expected
    assert summary_of(system("grid"), z) is z
