"""Training of sign networks: the loss of pseudo-labels, stopping and resuming, runs on disk."""

import numpy as np
import pytest
import torch
from planted import script
from rich.console import Console

from isthmus.errors import IsthmusError
from isthmus.signs.augment import Augmentation, augment
from isthmus.signs.coder import Coder
from isthmus.signs.pseudo import PseudoLabels, cluster_labels, pseudo_label_loss
from isthmus.signs.runs import checkpoint, codes_of, is_run, load_coder, read_signs, restore, train
from isthmus.signs.settings import NetworkSettings, TrainingSettings
from isthmus.signs.training import Training

QUIET = Console(quiet=True)


def signs(seed=0):
    """Four shapes, four drawings each, in lines of different lengths."""
    generator = np.random.default_rng(seed)
    shape_of = [shape for shape in range(4) for _ in range(4)]
    order = [generator.integers(0, 16, count) for count in (40, 1, 7, 30)]
    return script([f"sign{shape}" for shape in shape_of], shape_of, order)


def settings(pseudo="reading", context="transformer", steps=12, **changed):
    network = NetworkSettings(context, side=8, latent_size=4, hidden_size=2)
    return TrainingSettings(
        network, steps=steps, sequences=3, length=6, pseudo=pseudo, clusters=4, states=6, **changed
    )


def advance(training, steps):
    for _ in range(steps):
        training.advance()


def labels_of(centroids, cluster):
    targets = torch.eye(len(centroids))[[cluster]]
    return PseudoLabels(centroids[None], targets[None], centroids[None, :, :0])


@pytest.mark.parametrize("kind", ["published", "corrected", "reading"])
def test_the_pseudo_label_loss_is_a_cross_entropy_of_distances(kind):
    centroids = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    z = torch.tensor([[1.0, 0.0]])
    distance = np.sqrt([1.0, 4.0, 17.0])
    scores = {"published": distance, "corrected": -distance, "reading": -(distance**2) / 2}[kind]
    expected = np.log(np.exp(scores).sum()) - scores[0]
    found = pseudo_label_loss(z, torch.tensor([0]), labels_of(centroids, 0), kind)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("kind", "nearer"), [("published", False), ("corrected", True)])
def test_the_published_sign_pushes_codes_away_from_their_centroid(kind, nearer):
    centroids = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    z = torch.tensor([[1.0, 0.5]], requires_grad=True)
    pseudo_label_loss(z, torch.tensor([0]), labels_of(centroids, 0), kind).sum().backward()
    step = (z - 0.01 * z.grad).detach()
    assert (step.norm() < z.detach().norm()) == nearer


def test_clusters_of_codes_weigh_pictures_by_their_tokens():
    codes = np.asarray([[0.0], [1.0], [10.0]])
    found = cluster_labels(codes, np.asarray([3, 1, 1]), 2, 2, seed=0)
    assert found.centroids.shape == (2, 2, 1)
    assert sorted(found.centroids[0, :, 0].tolist()) == pytest.approx([0.25, 10.0])


def test_augmentation_is_a_function_of_its_generator_and_none_at_zero():
    pictures = torch.from_numpy(signs().pictures)
    twice = [augment(pictures, Augmentation(), torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*twice)
    assert not torch.allclose(twice[0], pictures, atol=0.1)
    nothing = Augmentation(rotation=0, smallest=1, shear=0, shift=0, bend=0)
    same = augment(pictures, nothing, torch.Generator().manual_seed(3))
    assert torch.allclose(same, pictures, atol=1e-4)


@pytest.mark.parametrize("pseudo", ["off", "published", "reading"])
def test_a_resumed_run_equals_one_that_never_stopped(pseudo, tmp_path):
    whole = Training(signs(), settings(pseudo))
    advance(whole, 12)
    first = Training(signs(), settings(pseudo))
    advance(first, 7)
    checkpoint(first, tmp_path / "checkpoint.safetensors")
    second = Training(signs(), settings(pseudo))
    restore(second, tmp_path / "checkpoint.safetensors")
    advance(second, 5)
    pairs = zip(whole.network.parameters(), second.network.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert (whole.labels is None) == (pseudo == "off")
    if whole.labels is not None:
        assert torch.equal(whole.labels.targets, second.labels.targets)
    content = bytearray((tmp_path / "checkpoint.safetensors").read_bytes())
    content[-9] ^= 1  # loads without an error
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(IsthmusError, match=r"damaged .* restore it, or delete it"):
        restore(second, tmp_path / "checkpoint.safetensors")


@pytest.mark.parametrize(("pseudo", "context"), [("reading", "none"), ("off", "lstm")])
def test_a_run_on_disk_gives_the_codes_of_the_trained_network(pseudo, context, tmp_path):
    out = tmp_path / "run"
    training = train(signs(), settings(pseudo, context), out, False, QUIET)
    coder, given = Coder.of(training), signs()
    assert is_run(out)
    assert np.allclose(codes_of(out, read_signs(out)), coder.encode_trained(given))
    other = signs(seed=1)
    assert np.allclose(load_coder(out).encode(other), coder.encode(other))
    assert np.allclose(codes_of(out, other), coder.encode(other))
    assert read_signs(out).names == given.names
    assert all(
        np.array_equal(a, b) for a, b in zip(read_signs(out).order, given.order, strict=True)
    )
    content = bytearray((out / "network.safetensors").read_bytes())
    content[-9] ^= 1
    (out / "network.safetensors").write_bytes(content)
    with pytest.raises(IsthmusError, match=r"network\.safetensors changed since"):
        load_coder(out)


def test_what_cannot_be_resumed_gets_one_line(tmp_path):
    out = tmp_path / "run"
    train(signs(), settings("off", steps=2), out, False, QUIET)
    for resume, message in ((False, "exists already"), (True, "is finished")):
        with pytest.raises(IsthmusError, match=message):
            train(signs(), settings("off", steps=2), out, resume, QUIET)
    (out / "signs.json").unlink()
    with pytest.raises(IsthmusError, match="its settings differ"):
        train(signs(), settings("off", steps=3), out, True, QUIET)
    with pytest.raises(IsthmusError, match="its data differ"):
        train(signs(seed=2), settings("off", steps=2), out, True, QUIET)
    with pytest.raises(IsthmusError, match="the run was not finished"):
        codes_of(out, signs())
    with pytest.raises(IsthmusError, match="nothing to resume"):
        train(signs(), settings("off"), tmp_path / "other", True, QUIET)


def test_a_truncated_run_is_refused(tmp_path):
    out = tmp_path / "run"
    train(signs(), settings("off", steps=2), out, False, QUIET)
    path = out / "network.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IsthmusError, match="truncated or changed"):
        load_coder(out)


@pytest.mark.parametrize("change", [{"steps": 0}, {"states": 1}, {"refreshes": -1}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(IsthmusError, match="must be ≥"):
        Training(signs(), TrainingSettings(**change))
