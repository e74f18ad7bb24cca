"""The map: principal components by another way, places and their latents, colours, the crowd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tiny_runs import wait

from isthmus.errors import IsthmusError
from isthmus.explore.walks import losses_under
from isthmus.studio import map as module
from isthmus.studio import projections
from isthmus.studio.map import Map
from isthmus.studio.projections import InBackground, Plane, placed, tsne


@pytest.fixture
def known(text):
    return text[1].map


def done(model, corpus, spread) -> Map:
    known = Map(model, corpus, spread)
    for _ in known.work():
        pass
    return known


def test_a_place_is_the_mean_of_others_by_the_inverse_of_their_distance():
    places = torch.tensor([[[0.0, 0], [4, 8]], [[1, 1], [9, 9]]])
    found = placed(torch.tensor([[1.0, 3], [0, 2]]), places)
    torch.testing.assert_close(found, torch.tensor([[1.0, 2], [1, 1]]))


def test_the_corpus_is_encoded_whatever_the_slices(text, known):
    _, space = text
    posterior = space.model.encode(space.corpus.texts)
    torch.testing.assert_close(known.mean, posterior.mean)
    torch.testing.assert_close(known.posterior.log_variance, posterior.log_variance)
    torch.testing.assert_close(known.kl, posterior.kl(space.model.prior).sum(-1))
    losses = losses_under(space.model, space.corpus.texts, posterior.mean)
    torch.testing.assert_close(known.reconstruction, losses)


def test_the_plane_is_that_of_principal_components():
    points = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    points *= torch.tensor([5, 3, 1, 1, 1, 1.0])
    plane = Plane.of(points)
    other = PCA(2).fit(points.double().numpy())
    assert np.abs(np.abs(np.sum(plane.axes.numpy() * other.components_, axis=1)) - 1).max() < 1e-9
    np.testing.assert_allclose(plane.explained, other.explained_variance_ratio_)
    flat = plane.places(points)
    assert flat.abs().max() == pytest.approx(1)  # fills the square in its longer direction
    exact = (points.double() - plane.centre) @ plane.axes.T / plane.scale
    shift = exact - flat  # one scale in both directions: the aspect is kept
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [1, 2])
def test_the_plane_of_few_dimensions_or_equal_points(size):
    plane = Plane.of(torch.ones(5, size))
    assert torch.isfinite(plane.places(torch.ones(5, size))).all()


def test_a_point_of_the_map_has_its_own_latent(known):
    points = known.points("pca")
    for row in (0, 17, 89):
        z, how = known.place(*points[row].tolist(), "pca")
        torch.testing.assert_close(z, known.mean[row], atol=1e-4, rtol=1e-4)
        assert "nearest" in how


def test_any_place_has_a_latent_that_lies_there(known):
    generator = torch.Generator().manual_seed(0)
    for x, y in (2 * torch.rand(20, 2, generator=generator) - 1).tolist():
        z, _ = known.place(x, y, "pca")
        assert known.plane().places(z.unsqueeze(0))[0].tolist() == pytest.approx([x, y], abs=1e-5)


def test_distance_and_crowd(known):
    mean = known.mean
    where = known.locate(mean[:5])
    assert [each["distance"] for each in where] == [0.0] * 5
    assert {each["crowd"] for each in where} == {1.0}
    far = mean[:1] + 1000
    [lost] = known.locate(far)
    assert lost["crowd"] == 0
    # By hand: the nearest, over the used dimensions, in units of their common spread.
    exact = (far - mean).double().norm(dim=1)
    row = int(exact.argmin())
    assert lost["neighbour"]["index"] == row
    used = mean.var(0, correction=0) >= 0.01
    expected = (far[0] - mean[row])[used].norm() / known.spread[used].norm()
    assert lost["distance"] == pytest.approx(expected.item())


def test_unused_dimensions_do_not_count(text):
    _, space = text
    known = done(space.model, space.corpus, space.spread)
    known.mean[:, 1] = 0.3
    known._exact = known.mean.double()
    known._project(known.mean)
    z = known.mean[:1].clone()
    z[:, 1] += 7
    assert known.locate(z)[0]["distance"] == 0


def test_colours(known):
    assert known.categories("label") == ["up", "down"]
    labels = [["up", "down"][int(place)] for place in known.colour("label")]
    assert labels == known.corpus.labels
    assert known.colour("length").tolist() == [len(t.split()) for t in known.corpus.texts]
    assert set(known.colour("cluster").tolist()) == set(map(float, range(9)))
    colours = {each["name"]: each for each in known.colours()}
    assert {each["state"] for each in colours.values()} == {"ready"}
    assert colours["kl"]["low"] == pytest.approx(known.kl.min().item())
    with pytest.raises(IsthmusError, match="by: got 'age'"):
        known.colour("age")


def test_rare_labels_share_a_colour(text, monkeypatch):
    monkeypatch.setattr(module, "NAMES", 1)
    known = Map(text[1].model, text[1].corpus, text[1].spread)
    assert known.categories("label") == ["up", "(others)"]
    assert known.colour("label").tolist() == [float(i % 3 == 0) for i in range(90)]


def test_the_map_shows_itself_before_it_is_whole(text, monkeypatch):
    monkeypatch.setattr(module, "EARLY", 64)
    monkeypatch.setattr(module, "SLICE", 8)
    _, space = text
    known = Map(space.model, space.corpus, space.spread)
    assert known.status()["projections"]["pca"]["state"] == "queued"
    assert known.locate(torch.zeros(1, 3))[0]["distance"] is None
    with pytest.raises(IsthmusError, match="0 of 90 examples are encoded"):
        known.points("pca")
    work = known.work()
    while known.done < 64:
        next(work)
    pca = known.status()["projections"]["pca"]
    assert (pca["state"], pca["done"]) == ("working", known.done)
    there = np.isfinite(known.points("pca")).all(1)
    assert there.sum() == known.done < 90
    z, _ = known.place(0.1, 0.1, "pca")
    assert torch.isfinite(z).all()
    assert there[known.nearest(z.unsqueeze(0), 3)[1][0]].all()
    with pytest.raises(IsthmusError, match=f"{known.done} of 90"):
        known.start_tsne()


def test_one_example_alone(text):
    _, space = text
    from isthmus.data.corpus import TextCorpus

    known = done(space.model, TextCorpus(["a b"], None, "one"), space.spread)
    assert np.isfinite(known.points("pca")).all()
    assert known.locate(known.mean)[0]["distance"] == 0
    assert "label" not in {each["name"] for each in known.colours()}


def test_tsne_places_the_others_by_their_nearest_landmarks(monkeypatch):
    monkeypatch.setattr(projections, "LANDMARKS", 40)
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(120) % 2
    mean = torch.randn(120, 4, generator=generator) + 30 * group.unsqueeze(1)
    background = InBackground()
    background.start(mean)
    wait(lambda: background.state == "ready")
    right = {"state": "ready", "done": 120, "total": 120, "landmarks": 40}
    assert background.status(120) == right
    points = torch.from_numpy(background.points)
    assert points.abs().max() <= 1 + 1e-6
    # Two groups far apart stay apart, landmarks or not.
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)
    assert (group[nearest] == group).all()


@pytest.mark.parametrize("mean", [torch.arange(20.0).unsqueeze(1), torch.ones(20, 3)])
def test_tsne_of_one_dimension_or_of_equal_points(mean):
    points = tsne(mean)
    assert points.shape == (20, 2)
    assert np.isfinite(points).all()


def test_work_that_fails_is_reported(text, monkeypatch):
    _, space = text
    known = Map(space.model, space.corpus, space.spread)
    work = known.work()
    next(work)
    monkeypatch.setattr(module, "in_batches", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(work)
    assert known.status()["projections"]["pca"]["state"] == "failed"


def test_slices_grow_to_what_there_is_time_for(text, monkeypatch):
    _, space = text
    for pause, most in ((1e-9, 1), (1e9, 256)):
        monkeypatch.setattr(module, "PAUSE", pause)
        known, before, sizes = Map(space.model, space.corpus, space.spread), 0, []
        for _ in known.work():
            sizes.append(known.done - before)
            before = known.done
        assert sum(sizes) == 90
        assert max(sizes) <= most
        if most > 1:
            assert sizes[:7] == [1, 2, 4, 8, 16, 32, 27]
