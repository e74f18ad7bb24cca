"""Walks in a latent space, on latents whose answers are known."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import IsthmusError
from isthmus.evaluation.clustering import clustering_metrics
from isthmus.explore.walks import (
    analogy,
    between,
    cluster,
    components,
    interpolate,
    losses_under,
    mixture_of,
    neighbours,
    sample,
    traverse,
)
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import Mixture
from tiny import TEXTS, system

vectors = st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3).map(torch.tensor)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(
    start=vectors,
    end=vectors,
    steps=st.integers(0, 9),
    path=st.sampled_from(["lerp", "slerp"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_way_has_its_ends_exactly_and_no_holes(start, end, steps, path, dtype):
    start, end = start.to(dtype) / 3, end.to(dtype) / 3
    walk = interpolate(start, end, steps, path)
    assert len(walk) == steps + 2
    assert torch.equal(walk[0], start)
    assert torch.equal(walk[-1], end)
    assert walk.isfinite().all()


def test_samples_are_decoded_draws_of_the_prior():
    model = system("mixture")
    texts = sample(model, 6, seed=1)
    z = model.prior.sample(6, torch.Generator().manual_seed(1))
    assert texts == model.decode(z)
    assert len(set(texts) | set(sample(model, 6, seed=2))) > len(set(texts))


def test_lerp_by_hand():
    walk = interpolate(torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), 3, "lerp")
    assert walk.tolist() == [[0, 2], [1, 1.5], [2, 1], [3, 0.5], [4, 0]]


def test_slerp_by_hand():
    walk = interpolate(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 2)
    third = [[math.cos(a), math.sin(a)] for a in (math.pi / 6, math.pi / 3)]
    torch.testing.assert_close(walk, torch.tensor([[1.0, 0.0], *third, [0.0, 1.0]]))
    # Lengths that differ go over evenly: 1 and 3, half-way 2 at 45°.
    middle = interpolate(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]), 1)[1]
    torch.testing.assert_close(middle, torch.tensor([2.0, 2.0]) / 2**0.5)


@pytest.mark.parametrize("seed", range(5))
def test_slerp_turns_evenly_at_evenly_changing_length(seed):
    start, end = normal(2, 16, seed=seed).double()
    walk = interpolate(start, 2 * end, 6)
    lengths = walk.norm(dim=1)
    torch.testing.assert_close(
        lengths, torch.linspace(start.norm(), 2 * end.norm(), 8, dtype=torch.float64)
    )
    units = walk / lengths.unsqueeze(1)
    angles = (units[1:] * units[:-1]).sum(1).arccos()
    torch.testing.assert_close(angles, angles[:1].expand(7))
    assert angles.sum() < math.pi  # the short way round
    straight = interpolate(start, 2 * end, 6, "lerp")
    assert (straight.norm(dim=1)[1:-1] < lengths[1:-1]).all()  # it cuts through the middle


@pytest.mark.parametrize("factor", [-1.0, -2.5, 0.0, 1.0, 3.0])
def test_slerp_without_a_circle_is_the_straight_line(factor):
    one = normal(5)
    other = factor * one
    for start, end in ((one, other), (other, one)):
        assert torch.equal(interpolate(start, end, 4), interpolate(start, end, 4, "lerp"))


def test_a_way_has_no_fewer_than_no_steps():
    with pytest.raises(IsthmusError, match="steps must be ≥ 0, got -1"):
        interpolate(normal(3), normal(3), -1)


def test_analogy():
    a, b, c = normal(3, 4, 6)
    assert torch.equal(analogy(a, a, c), c)
    torch.testing.assert_close(analogy(a, b, a), b)
    torch.testing.assert_close(analogy(a, b, c), c + b - a)
    torch.testing.assert_close(analogy(a, b, c, weight=-0.5), c - 0.5 * b + 0.5 * a)


def test_traverse_moves_one_dimension_by_reach_times_spread():
    z, spread = normal(5), torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    walk = traverse(z, 2, spread, steps=5, reach=2.0)
    moved = walk - z
    torch.testing.assert_close(moved[:, 2], torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))
    assert (moved[:, [0, 1, 3, 4]] == 0).all()
    assert torch.equal(walk[2], z)


@pytest.mark.parametrize(
    ("dimension", "steps", "message"),
    [(5, 3, "between 0 and 4, got 5"), (-1, 3, "got -1"), (0, 1, "steps must be ≥ 2, got 1")],
)
def test_impossible_traverses_are_refused(dimension, steps, message):
    with pytest.raises(IsthmusError, match=message):
        traverse(normal(5), dimension, torch.ones(5), steps)


@pytest.mark.parametrize("count", [10, 200])  # for more than 25 points torch has another formula
def test_the_nearest_to_a_point_is_itself(count):
    corpus = 100 + normal(count, 64)
    distances, indices = neighbours(corpus, corpus, 3)
    assert indices[:, 0].tolist() == list(range(count))
    assert (distances[:, 0] == 0).all()
    every = (corpus.double().unsqueeze(1) - corpus.double()).norm(dim=-1)
    torch.testing.assert_close(distances, every.sort(1).values[:, :3])


def test_neighbours_in_units_of_the_spread():
    corpus = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    query = torch.zeros(1, 2)
    assert neighbours(query, corpus)[1].tolist() == [[1, 0]]  # no more than there are
    distances, indices = neighbours(query, corpus, 2, spread=torch.tensor([6.0, 1.0]))
    assert indices.tolist() == [[0, 1]]
    assert distances.tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize("method", ["kmeans", "gmm", "gmm-full", "ward"])
def test_planted_blobs_are_found(method):
    labels = [index % 3 for index in range(90)]
    centres = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    z = centres[labels] + normal(90, 2)
    found = cluster(z, 3, method, seed=1)
    assert clustering_metrics([str(label) for label in labels], found)["accuracy"] == 1
    assert cluster(z, 3, method, seed=1) == found
    assert set(cluster(z, 1, method)) == {0}


@pytest.mark.parametrize("method", ["kmeans", "gmm", "gmm-full", "ward"])
def test_one_latent_is_one_cluster(method):
    assert cluster(normal(1, 2), 1, method) == [0]


@pytest.mark.parametrize("clusters", [0, 4])
def test_impossible_numbers_of_clusters_are_refused(clusters):
    with pytest.raises(IsthmusError, match=f"between 1 and 3 examples, got {clusters}"):
        cluster(normal(3, 2), clusters)


def test_components_of_a_mixture_prior_weigh_distance_and_frequency():
    model = copy.deepcopy(system("mixture"))
    module = model.prior_module
    with torch.no_grad():
        module.mean.copy_(torch.tensor([[0.0], [4.0], [50.0], [60.0]]).expand(4, 3))
        module.log_variance.zero_()
        module.logits.copy_(torch.tensor([3.0, 0.0, 0.0, 0.0]))
    z = torch.tensor([[0.0], [4.0], [2.2], [2.3], [56.0]]).expand(5, 3)
    # On the line between the first two, d² / 2 is 3/2 (x² − (x − 4)²) = 12 x − 24: at x = 2.25
    # it outweighs the 3 nats of the frequent component.
    assert components(model, z) == [0, 1, 0, 1, 3]


def test_a_prior_that_is_no_mixture_has_no_clusters():
    with pytest.raises(IsthmusError, match="kind standard; fit a mixture with isthmus prior"):
        components(system("gpt2-memory"), normal(2, 3))


@pytest.mark.parametrize("path", ["lerp", "slerp"])
def test_a_walk_at_any_place_is_that_walk(path):
    start, end = torch.randn(2, 5, generator=torch.Generator().manual_seed(3))
    walk = interpolate(start, end, 7, path)
    order = torch.tensor([8, 0, 3, 5])
    assert (between(start, end, order / 8, path) == walk[order]).all()


@pytest.mark.parametrize("name", ["gpt2-memory+embedding", "labels", "t5"])
def test_losses_are_each_example_s_own_under_its_own_latent(name):
    model = system(name)
    z = torch.randn(len(TEXTS), 3, generator=torch.Generator().manual_seed(0))
    found = losses_under(model, TEXTS, z)
    for text, latent, loss in zip(TEXTS, z, found.tolist(), strict=True):
        batch = model.codec.prepare([text]).collate([0])
        own = model.reconstruction(latent.view(1, 1, -1), batch).item()
        assert loss == pytest.approx(own, rel=1e-5)


def test_a_mixture_is_that_of_the_aggregate_posterior():
    # Two far groups, 300 and 100; the posteriors' own deviation is part of the spread.
    mean = 0.3 * normal(400, 2, seed=9)
    mean[:100] += torch.tensor([20.0, 0])
    posterior = DiagonalGaussian(mean, torch.full_like(mean, math.log(0.4**2)))
    mixture = mixture_of(posterior, components=2)
    order = mixture.components.mean[:, 0].argsort()
    weights = mixture.log_weights.exp()[order]
    torch.testing.assert_close(weights, torch.tensor([0.75, 0.25]), atol=1e-3, rtol=0)
    places = mixture.components.mean[order]
    torch.testing.assert_close(places, torch.tensor([[0.0, 0], [20, 0]]), atol=0.3, rtol=0)
    spread = mixture.components.standard_deviation
    torch.testing.assert_close(spread, torch.full((2, 2), 0.5), atol=0.1, rtol=0)  # √(0.3² + 0.4²)
    assert len(mixture_of(posterior[:30], components=9).log_weights) == 1


def test_samples_from_another_prior():
    model = system("gpt2-memory+embedding")
    far = Mixture(
        DiagonalGaussian(torch.full((1, 3), 2.0), torch.full((1, 3), -40.0)), torch.zeros(1)
    )
    texts = sample(model, 3, prior=far)
    assert texts == model.decode(torch.full((3, 3), 2.0))
