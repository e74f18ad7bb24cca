"""The feature term of a picture VAE: outside the bound, in training alone."""

import math
from pathlib import Path

import pytest
import torch

from isthmus.cli import main
from isthmus.data import pictures
from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import bounds
from isthmus.latent.objective import Objective, Terms
from isthmus.latent.schedule import Schedule
from isthmus.models.build import build
from isthmus.models.pictures.training import training_distances, with_features
from isthmus.progress import JsonLinesLog
from isthmus.settings import Settings, from_dict, load_recipe
from isthmus.training import LatentTrainer
from isthmus.training.checkpoints import last_checkpoint, step_of


def settings(feature: float, likelihood: str = "logistic", **train) -> Settings:
    values = {
        "model": {
            "kind": "picture-vae",
            "latent_size": 4,
            "picture": {
                "network": "mlp",
                "hidden_size": 32,
                "layers": 1,
                "likelihood": likelihood,
            },
        },
        "objective": {"schedule": "constant", "feature": feature},
        "train": {
            "steps": 12,
            "sentences_per_batch": 64,
            "learning_rate": 1e-2,
            "evaluations": 3,
            "log_every": 4,
            "keep": "last",
        }
        | train,
    }
    return from_dict(Settings, values, "test")


def trainer(out: Path, given: Settings, checkpoint: Path | None = None) -> LatentTrainer:
    splits = pictures.read_splits("digits", limit=300)
    model = build(given, splits.train.examples)
    out.mkdir(exist_ok=True)
    return LatentTrainer(
        model,
        given,
        model.codec.prepare_training(splits.train.examples, None),
        model.codec.prepare(splits.valid.examples),
        out,
        log=JsonLinesLog(out / "log.jsonl", step_of(checkpoint) if checkpoint else 0),
        warn=lambda finding: None,
        callbacks=[],
    )


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic", "gaussian"])
def test_the_terms_of_the_bound_are_those_of_forward(tmp_path, likelihood):
    own = trainer(tmp_path, settings(1.0, likelihood))
    batch = own._collate(None, [(0, place) for place in range(20)])
    distances = training_distances(own.model, own.examples, 0)
    found, plain = with_features(own.model, batch, distances=distances), own.model(**batch)
    assert torch.equal(found.reconstruction, plain.reconstruction)
    assert torch.equal(found.kl, plain.kl)
    assert not plain.extra
    # It is D · the distance in units of that between two pictures; a fresh model is about as far.
    assert 0.1 < found.extra["feature"].mean() / 64 < 3
    found.extra["feature"].mean().backward()
    for part in (own.model.encoder, own.model.decoder):
        assert sum(weight.grad.abs().sum() for weight in part.parameters()) > 0
    assert all(weight.grad is None for weight in distances.comparator.parameters())


def test_the_objective_adds_the_term_under_its_weight():
    extra = {"feature": torch.tensor([3.0])}
    terms = Terms(torch.tensor([5.0]), torch.tensor([[2.0]]), extra=extra)
    objective = Objective(Schedule.constant(1.0), 10, weights={"feature": 0.5})
    assert objective(terms, 0).item() == 5 + 2 + 1.5
    assert terms.negative_elbo.item() == 7
    assert Objective(Schedule.constant(1.0), 10, weights={"feature": 0.0})(terms, 0).item() == 7


def test_a_weight_of_zero_is_training_without_the_term(tmp_path):
    """Bit for bit; and a weight changes what is learnt, but the bound is measured the same."""
    runs = {}
    for name, feature in (("plain", 0.0), ("again", 0.0), ("feature", 2.0)):
        runs[name] = trainer(tmp_path / name, settings(feature))
        assert (runs[name].inference is None) == (feature == 0)
        runs[name].fit(None)
    plain, again, feature = (runs[name].model.state_dict() for name in runs)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert plain.keys() == feature.keys()  # no comparator is saved
    assert any(not torch.equal(plain[name], feature[name]) for name in plain)
    own = runs["feature"]
    logged = [row["eval_elbo"] for row in own.state.log_history if "eval_elbo" in row][-1]
    true = bounds(own.model, own.valid, samples=1, seed=0).negative_elbo.mean().item()
    assert -logged == pytest.approx(true, rel=1e-6)
    assert all("feature" in row for row in own.state.log_history if "reconstruction" in row)


def test_the_term_lowers_its_own_distance(tmp_path):
    found = {}
    for feature in (0.0, 5.0):
        own = trainer(tmp_path / str(feature), settings(feature, steps=150))
        own.fit(None)
        distances = training_distances(own.model, own.examples, 0)
        batch = own.valid.collate(range(len(own.valid)), noise_shape=(4,))
        with torch.no_grad():
            terms = with_features(own.model, batch, distances=distances).terms
        found[feature] = terms.extra["feature"].mean().item(), terms.negative_elbo.mean().item()
    assert found[5.0][0] < 0.95 * found[0.0][0]
    assert math.isfinite(found[5.0][1])


def test_a_resumed_run_is_bit_identical(tmp_path):
    whole = trainer(tmp_path / "whole", settings(1.0))
    whole.fit(None)
    short = trainer(tmp_path / "cut", settings(1.0))
    short.args.max_steps = 12
    short.fit(None)
    checkpoint = sorted((tmp_path / "cut" / "checkpoints").glob("checkpoint-*"), key=step_of)[0]
    assert step_of(checkpoint) < 12
    resumed = trainer(tmp_path / "cut", settings(1.0), checkpoint)
    resumed.fit(checkpoint)
    assert last_checkpoint(tmp_path / "cut") is not None
    ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_does_not_go_together_is_refused(tmp_path, capsys):
    assert load_recipe("picture-perceptual").objective.feature > 0
    with pytest.raises(IsthmusError, match=r"a text-vae has no such setting; with model\.kind"):
        from_dict(Settings, {"objective": {"feature": 1.0}}, "test")
    with pytest.raises(IsthmusError, match="cannot be combined"):
        settings(1.0, semi_amortised=2)
    words = ["train", "digits", "--recipe", "picture-vae", "--out", str(tmp_path / "run")]
    assert main([*words, "--objective.feature", "-1"]) != 0
    assert "objective.feature must be ≥ 0, got -1" in capsys.readouterr().err
