"""LatentTrainer on pictures: resumed bit for bit, epochs of fresh draws, a bound that falls."""

from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from isthmus.data import pictures
from isthmus.models.build import build
from isthmus.progress import JsonLinesLog
from isthmus.settings import Settings, from_dict
from isthmus.train import LatentTrainer, last_checkpoint, step_of

SETTINGS = {
    "model": {"latent_size": 4, "picture": {"network": "mlp", "hidden_size": 16, "layers": 1}},
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


class PowerCut(Exception):
    pass


class Cut(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 6:
            raise PowerCut


def fit(out: Path, callbacks=(), resume=False, steps=12, **picture) -> LatentTrainer:
    values = SETTINGS | {
        "model": SETTINGS["model"] | {"picture": SETTINGS["model"]["picture"] | picture},
        "train": SETTINGS["train"] | {"steps": steps},
    }
    settings = from_dict(Settings, values, "test")
    splits = pictures.read_splits("digits", limit=300)
    model = build(settings, splits.train.examples)
    checkpoint = last_checkpoint(out) if resume else None
    out.mkdir(exist_ok=True)
    trainer = LatentTrainer(
        model,
        settings,
        model.codec.prepare_training(splits.train.examples, None),
        model.codec.prepare(splits.valid.examples),
        out,
        log=JsonLinesLog(out / "log.jsonl", step_of(checkpoint) if checkpoint else 0),
        warn=lambda finding: None,
        callbacks=list(callbacks),
    )
    trainer.fit(checkpoint)
    return trainer


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
        fit(tmp_path / "cut", [Cut()], **picture)
    resumed = fit(tmp_path / "cut", resume=True, **picture)
    ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("network", ["conv", "residual", "deconv"])
def test_convolutions_learn(tmp_path, network):
    trainer = fit(
        tmp_path / "run", steps=60, network=network, hidden_size=8, likelihood="gaussian"
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
        seen[epoch] = trainer._collate(keys)
    assert (seen[0]["targets"] != seen[1]["targets"]).any()
    assert (seen[0]["noise"] != seen[1]["noise"]).all()
