"""LatentTrainer on pictures: resumed bit for bit, epochs of fresh draws, a bound that falls."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.data import pictures
from isthmus.evaluation.labels import accuracy
from isthmus.models.build import build
from isthmus.settings import Settings, from_dict
from isthmus.training import LatentTrainer
from trainers import Do, PowerCut, cut_power, distance, trained, weights

SETTINGS = {
    "model": {
        "kind": "picture-vae",
        "latent_size": 4,
        "picture": {"network": "mlp", "hidden_size": 16, "layers": 1},
    },
    "objective": {"schedule": "linear", "ramp": 0.5},
    "train": {
        "steps": 12,
        "sentences_per_batch": 64,
        "learning_rate": 1e-2,
        "evaluations": 3,
        "log_every": 4,
        "keep": "last",
    },
}


def fit(out: Path, callbacks=(), resume=False, steps=12, **picture) -> LatentTrainer:
    values = SETTINGS | {
        "model": SETTINGS["model"] | {"picture": SETTINGS["model"]["picture"] | picture},
        "train": SETTINGS["train"] | {"steps": steps},
    }
    settings = from_dict(Settings, values, "test")
    splits = pictures.read_splits("digits", limit=300)
    model = build(settings, splits.train.examples)
    return trained(
        out,
        settings,
        model,
        model.codec.prepare_training(splits.train.examples, None),
        model.codec.prepare(splits.valid.examples),
        resume=resume,
        callbacks=callbacks,
    )


@pytest.mark.parametrize(
    "picture",
    [
        {"likelihood": "bernoulli"},
        {"likelihood": "logistic"},
        {"network": "deconv", "hidden_size": 4},  # draws places while it is trained
    ],
)
def test_a_resumed_run_is_bit_identical(tmp_path, picture):
    whole = fit(tmp_path / "whole", **picture)
    with pytest.raises(PowerCut):
        fit(tmp_path / "cut", [Do(6, cut_power)], **picture)
    resumed = fit(tmp_path / "cut", resume=True, **picture)
    assert distance(weights(whole), weights(resumed)) == 0


@pytest.mark.parametrize(
    ("network", "steps"), [("conv", 60), ("residual", 60), ("strided", 60), ("deconv", 150)]
)
def test_convolutions_learn(tmp_path, network, steps):
    trainer = fit(
        tmp_path / "run", steps=steps, network=network, hidden_size=8, likelihood="gaussian"
    )
    rows = [row for row in trainer.state.log_history if "eval_elbo" in row]
    assert rows[-1]["eval_elbo"] > rows[0]["eval_elbo"] + 5
    assert rows[-1]["eval_swap_gap"] > 5  # what is decoded depends on the picture


def test_every_epoch_has_draws_of_its_own(tmp_path):
    trainer = fit(tmp_path / "run")
    seen: dict[int, list[torch.Tensor]] = {}
    for epoch in (0, 1):
        loader = trainer.get_train_dataloader()
        loader.set_epoch(epoch)
        keys = sorted(key for batch in loader.batch_sampler for key in batch)
        seen[epoch] = trainer._collate(None, keys)
    assert (seen[0]["targets"] != seen[1]["targets"]).any()
    assert (seen[0]["noise"] != seen[1]["noise"]).all()


def planted(count: int) -> tuple[np.ndarray, list[str]]:
    """Noise with a bright left or right half."""
    generator = np.random.default_rng(0)
    pictures_ = generator.integers(0, 120, (count, 1, 6, 6))
    right = generator.integers(0, 2, count)
    pictures_[right == 0, :, :, :3] += 120
    pictures_[right == 1, :, :, 3:] += 120
    return pictures_.astype(np.uint8), ["right" if side else "left" for side in right]


@pytest.mark.parametrize("head", ["softmax", "svm"])
def test_six_labels_tell_planted_classes(tmp_path, head):
    seen, labels = planted(300)
    given = [label if place < 6 else None for place, label in enumerate(labels)]
    assert len(set(given)) == 3
    values = SETTINGS | {
        "model": {
            "kind": "picture-vae",
            "latent_size": 4,
            "labels": "given",
            "picture": SETTINGS["model"]["picture"]
            | {"likelihood": "gaussian", "label_head": head},
        },
        "objective": SETTINGS["objective"] | {"classification": 50.0, "uncertainty": 1.0},
        "train": SETTINGS["train"] | {"steps": 60, "evaluations": 1},
    }
    settings = from_dict(Settings, values, "test")
    model = build(settings, seen, given)
    torch.testing.assert_close(
        model.labels.log_prior.exp(),
        torch.tensor([given.count(name) / 6 for name in ("left", "right")]),
    )
    trained(
        tmp_path,
        settings,
        model,
        model.codec.prepare_training(seen[:200], given[:200]),
        model.codec.prepare(seen[:20]),
    )
    found = accuracy(model.classify(seen[200:]), model.config.label_names, labels[200:])
    assert found.value == 1
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert {"classification", "uncertainty", "balance"} <= set(row)
