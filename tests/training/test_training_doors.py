"""LatentTrainer on pictures with captions: resumed bit for bit, whatever parts are missing."""

from pathlib import Path

import pytest

from isthmus.data import captioned
from isthmus.data.captioned import Example
from isthmus.models.build import build
from isthmus.settings import Settings, from_dict
from isthmus.training import LatentTrainer
from trainers import Do, PowerCut, cut_power, distance, trained, weights

SIZES = {"architecture": "lstm", "layers": 1, "hidden_size": 16}
SETTINGS = {
    "model": {
        "kind": "pictures-with-captions",
        "latent_size": 8,
        "bridge": "state+input",
        "picture": {"network": "mlp", "hidden_size": 32, "layers": 1, "likelihood": "logistic"},
        "encoder": SIZES | {"pooling": "mean", "head_scale": 0.5},
        "decoder": SIZES,
    },
    "data": {"tokenizer": "word", "maximum_length": 32},
    "objective": {"schedule": "linear", "ramp": 0.5, "caption": 3.0},
    "train": {
        "sentences_per_batch": 32,
        "learning_rate": 1e-2,
        "clip": 1000.0,
        "evaluations": 3,
        "log_every": 4,
        "keep": "last",
    },
}


def holed() -> list[Example]:
    """Scenes of which a third has no caption and another third no picture."""
    whole = captioned.read("scenes", split="train", limit=96).examples
    return [
        Example(e.picture if n % 3 else None, e.caption if n % 3 != 1 else None)
        for n, e in enumerate(whole)
    ]


def fit(out: Path, callbacks=(), resume=False, steps=12) -> LatentTrainer:
    values = SETTINGS | {"train": SETTINGS["train"] | {"steps": steps}}
    settings = from_dict(Settings, values, "test")
    examples = holed()
    model = build(settings, examples)
    return trained(
        out,
        settings,
        model,
        model.codec.prepare_training(examples, None),
        model.codec.prepare(captioned.read("scenes", split="valid", limit=40).examples),
        resume=resume,
        callbacks=callbacks,
    )


def test_a_resumed_run_is_bit_identical(tmp_path):
    whole = fit(tmp_path / "whole")
    with pytest.raises(PowerCut):
        fit(tmp_path / "cut", [Do(6, cut_power)])
    resumed = fit(tmp_path / "cut", resume=True)
    assert distance(weights(whole), weights(resumed)) == 0


def test_the_bound_rises_and_the_log_tells_the_captions_apart(tmp_path):
    trainer = fit(tmp_path / "run", steps=60)
    history = trainer.state.log_history
    bound = [row["eval_elbo"] for row in history if "eval_elbo" in row]
    assert bound[-1] > bound[0] + 100
    caption = [row["caption"] for row in history if "caption" in row]
    assert caption[-1] < caption[0] - 5
    assert all(row["caption"] < row["reconstruction"] for row in history if "caption" in row)
