"""LatentTrainer: the traps of transformers' Trainer are closed."""

import importlib.util
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from isthmus.data.corpus import read_splits
from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import EVALUATION_STREAM
from isthmus.latent.noise import example_noise
from isthmus.latent.schedule import Schedule
from isthmus.models.build import build
from isthmus.settings import ObjectiveSettings
from isthmus.training.checkpoints import last_checkpoint
from trainers import Do, PowerCut, cut_power, distance, log_of, timeless, trained, weights


def plain_loop() -> Any:
    path = Path(__file__).parents[2] / "examples" / "plain_loop.py"
    spec = importlib.util.spec_from_file_location("plain_loop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"sentences_per_batch": 8}, {"sentences_per_batch": 4, "accumulation": 2}),
        # 8 sentences in batches of different sizes: a mean of their means would be wrong
        ({"sentences_per_batch": 8}, {"sentences_per_batch": 5, "accumulation": 2}),
        ({"sentences_per_batch": 8}, {"sentences_per_batch": 3, "accumulation": 3}),
    ],
)
def test_gradient_accumulation_is_one_large_batch(make, tmp_path, one, other):
    # Free bits, β between 0 and 1 and clipping are on: each must act on the whole step.
    common = {"objective": {"free_bits": 0.01}, "float64": True, "count": 8}
    a = make(tmp_path / "a", train=one | {"clip": 0.5}, **common)
    b = make(tmp_path / "b", train=other | {"clip": 0.5}, **common)
    assert a.state.global_step == b.state.global_step == 6
    assert distance(weights(a), weights(b)) < 1e-6
    for x, y in zip(log_of(tmp_path / "a"), log_of(tmp_path / "b"), strict=True):
        for key in x.keys() & {"loss", "reconstruction", "kl", "grad_norm"}:
            assert x[key] == pytest.approx(y[key], rel=1e-5)


def test_the_trainer_is_the_plain_loop(make, tmp_path, settings_of, sentences):
    settings = settings_of(train={"clip": 0.5})
    trainer = make(tmp_path / "a", float64=True, train={"clip": 0.5, "log_every": 1})
    model = build(settings, sentences[:40]).double()
    losses = plain_loop().train(model, model.codec.prepare(sentences[:40]), settings)
    assert distance(weights(trainer), dict(model.state_dict())) < 1e-6
    logged = [row for row in log_of(tmp_path / "a") if "loss" in row]
    assert [row["loss"] for row in logged] == pytest.approx(losses, rel=1e-6)
    assert min(row["grad_norm"] for row in logged) > 0.5, "clipping was not put to the test"
    beta = Schedule.linear(ramp=0.5)
    assert [row["beta"] for row in logged] == [beta(step, 6) for step in range(6)]


@pytest.mark.parametrize("place", ["mid-epoch", "epoch's end"])
def test_a_resumed_run_is_bit_identical(make, tmp_path, place):
    # 40 sentences in batches of 8, two batches a step: three steps an epoch, the last of one.
    steps, checkpoint, killed = (12, 4, 6) if place == "mid-epoch" else (12, 3, 5)
    groups = {
        "model": {"encoder": {"dropout": 0.1}, "decoder": {"dropout": 0.1}},
        "data": {"deletion": 0.1, "masking": 0.1, "word_dropout": 0.2},
        "objective": {"schedule": "cyclical", "cycles": 2},
        "train": {"steps": steps, "evaluations": steps // checkpoint, "accumulation": 2},
    }
    groups["train"]["keep"] = "best"
    whole = make(tmp_path / "whole", **groups)
    with pytest.raises(PowerCut):
        make(tmp_path / "cut", callbacks=[Do(killed, cut_power)], **groups)
    assert last_checkpoint(tmp_path / "cut").name == f"checkpoint-{checkpoint}"
    resumed = make(tmp_path / "cut", resume=True, **groups)
    assert distance(weights(whole), weights(resumed)) == 0
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "cut")
    logged = {row["step"]: row["beta"] for row in log_of(tmp_path / "cut") if "beta" in row}
    schedule = Schedule.cyclical(1.0, 2, 0.5)
    assert logged == {step: schedule(step - 1, steps) for step in logged}


def test_a_run_cut_after_its_last_checkpoint_makes_no_further_step(make, tmp_path):
    groups = {"train": {"steps": 4, "evaluations": 2, "decay": "constant"}}
    whole = make(tmp_path / "run", **groups)
    again = make(tmp_path / "run", resume=True, **groups)
    assert again.state.global_step == 4
    assert distance(weights(whole), weights(again)) == 0


@pytest.mark.parametrize(
    ("beta", "name", "poison"),
    [
        (1.0, "reconstruction", lambda model: _spoil(model.decoder)),
        (1.0, "reconstruction and KL", lambda model: _spoil(model.encoder)),
        (1.0, "KL", lambda model: _spoil(model.prior_module)),
        # neither β = 0 nor the mask of free bits may hide it
        (0.0, "KL", lambda model: _spoil(model.prior_module)),
    ],
)
def test_a_term_that_is_not_finite_is_named_with_its_step(make, tmp_path, beta, name, poison):
    verb = "are" if " and " in name else "is"
    with pytest.raises(IsthmusError, match=f"^step 4: {name} {verb} not finite; lower --train"):
        make(
            tmp_path / "run",
            model={"prior": "mixture", "prior_components": 3},
            objective={"schedule": "constant", "beta": beta},
            callbacks=[Do(3, poison)],
        )


def _spoil(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(math.nan)


def test_the_learning_rate_falls_over_all_files_of_a_corpus(make, tmp_path, sentences):
    """Not over the first of them: from there on it would be 0."""
    for number in range(4):
        lines = sentences[10 * number : 10 * (number + 1)]
        (tmp_path / f"train-{number}-of-4.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "valid.txt").write_text("\n".join(sentences[40:]), encoding="utf-8")
    texts = read_splits(str(tmp_path)).train.texts
    assert texts == sentences[:40]
    train = {"steps": 0, "epochs": 2.0, "decay": "linear", "warmup": 0.0, "log_every": 1}
    trainer = make(tmp_path / "run", texts=texts, train=train | {"accumulation": 2})
    steps = 2 * math.ceil(40 / 8 / 2)
    assert trainer.args.max_steps == trainer.state.global_step == steps
    rates = [row["learning_rate"] for row in log_of(tmp_path / "run") if "learning_rate" in row]
    expected = [3e-3 * (1 - step / steps) for step in range(steps)]
    assert rates == pytest.approx(expected)


@dataclass(frozen=True)
class ToySettings(ObjectiveSettings):
    """With the weight of one more term."""

    toy: float = 2.0


def train_with_a_toy_term(out, settings, texts, value):
    settings = replace(settings, objective=ToySettings(schedule="constant", beta=0.5))
    model = build(settings, texts)
    model.extra_terms = lambda z, batch: {"toy": torch.full((z.shape[1],), value)}
    prepared = model.codec.prepare(texts)
    trained(out, settings, model, prepared, prepared)


def test_a_new_term_is_its_producer_and_its_weight(tmp_path, settings_of, sentences):
    train_with_a_toy_term(tmp_path / "run", settings_of(), sentences, 3.0)
    row = log_of(tmp_path / "run")[0]
    assert row["toy"] == 3
    assert row["loss"] == pytest.approx(row["reconstruction"] + 0.5 * row["kl"] + 6, rel=1e-5)
    with pytest.raises(IsthmusError, match=r"^step 1: toy term is not finite"):
        train_with_a_toy_term(tmp_path / "spoilt", settings_of(), sentences, math.nan)


def test_free_bits_do_not_hide_a_kl_that_is_not_a_number(make, tmp_path):
    def spoil_one_dimension(model):
        with torch.no_grad():
            model.bridge.requires_grad_(False)
            for parameter in model.bridge.parameters():
                parameter.zero_()  # the reconstruction stays finite
            next(reversed(list(model.encoder.parameters()))).fill_(math.nan)

    with pytest.raises(IsthmusError, match=r"^step 4: .*KL are not finite"):
        make(
            tmp_path / "run", objective={"free_bits": 0.5}, callbacks=[Do(3, spoil_one_dimension)]
        )


def test_evaluation_is_the_true_bound_without_dropout(make, tmp_path, sentences):
    trainer = make(
        tmp_path / "run",
        model={"encoder": {"dropout": 0.5}, "decoder": {"dropout": 0.5}},
        data={"deletion": 0.5, "word_dropout": 0.5},
        objective={"schedule": "constant", "beta": 0.25, "free_bits": 1.0},
    )
    model = trainer.model
    model.train()
    measured = trainer.evaluate()
    assert model.training, "evaluation must leave the mode as it was"
    model.eval()
    losses = []
    for index, text in enumerate(sentences[40:]):
        batch = model.codec.prepare([text]).collate([0])
        posterior = model.posterior(batch)
        noise = example_noise(0, EVALUATION_STREAM, [index], (4,))
        z = posterior.mean + torch.exp(posterior.log_variance / 2) * noise
        mean, variance = posterior.mean, posterior.log_variance.exp()
        kl = 0.5 * (mean**2 + variance - 1 - posterior.log_variance).sum()
        losses.append((model.reconstruction(z.unsqueeze(0), batch).sum() + kl).item())
    assert measured["eval_elbo"] == pytest.approx(-sum(losses) / len(losses), rel=1e-5)


def test_the_best_checkpoint_is_the_best_by_the_true_bound(make, tmp_path):
    # At β = 0 the training loss only falls while the KL, and with it the true bound, runs away.
    groups = {
        "objective": {"schedule": "constant", "beta": 0.0},
        "train": {"steps": 60, "evaluations": 6, "learning_rate": 1e-2, "decay": "constant"},
    }
    groups["train"]["keep"] = "best"
    trainer = make(tmp_path / "run", count=8, **groups)
    rows = [row for row in log_of(tmp_path / "run") if "eval_elbo" in row]
    bounds = {row["step"]: row["eval_elbo"] for row in rows}
    assert sorted(bounds) == [10, 20, 30, 40, 50, 60]
    assert len(rows) == 6, "a step was evaluated twice"
    best = max(bounds, key=bounds.get)
    assert best < 60
    assert trainer.evaluate()["eval_elbo"] == bounds[best]


def test_keep_last_keeps_the_last(make, tmp_path):
    trainer = make(tmp_path / "run")
    [row] = [row for row in log_of(tmp_path / "run") if "eval_elbo" in row]
    assert trainer.evaluate()["eval_elbo"] == row["eval_elbo"]


def test_logged_sums_are_those_of_the_batches(make, tmp_path, sentences):
    # One batch a step and a learning rate of nearly zero: every step sees the same model.
    trainer = make(
        tmp_path / "run",
        count=8,
        train={"learning_rate": 1e-12, "log_every": 1, "steps": 2},
        objective={"schedule": "constant", "beta": 0.5},
    )
    model, examples = trainer.model, trainer.examples
    for epoch, row in enumerate(log_of(tmp_path / "run")[:2]):
        batch = examples.collate(list(range(8)), seed=0, epoch=epoch, noise_shape=(4,))
        output = model.eval()(**batch)
        assert row["reconstruction"] == pytest.approx(output.reconstruction.mean().item(), 1e-5)
        assert row["kl_per_dimension"] == pytest.approx(output.kl.mean(0).tolist(), 1e-5)
        assert row["kl"] == pytest.approx(sum(row["kl_per_dimension"]))
        assert row["loss"] == pytest.approx(row["reconstruction"] + 0.5 * row["kl"])
        assert 0 <= row["active_units"] <= 4
        # the posteriors of both steps are remembered
        assert row["mutual_information_limit"] == pytest.approx(math.log(8 * (epoch + 1)))
        assert row["mutual_information"] <= row["mutual_information_limit"]
        assert row["tokens_per_second"] > 0
