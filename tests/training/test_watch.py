"""The collapse watch reports what is planted, once, with a remedy, and is silent otherwise."""

import random

import pytest
import torch

from isthmus.evaluation.usage import Estimate
from isthmus.latent.objective import Objective
from isthmus.latent.schedule import Schedule
from isthmus.training.watch import CollapseWatch

WORDS = [
    "ash",
    "birch",
    "cedar",
    "elm",
    "fir",
    "hazel",
    "larch",
    "maple",
    "oak",
    "pine",
    "rowan",
    "yew",
]


@pytest.fixture(scope="module")
def unlike() -> list[str]:
    """96 sentences of six words drawn alike: without z nothing helps to guess the next word."""
    drawn = random.Random(0)
    return [" ".join(drawn.choices(WORDS, k=6)) for _ in range(96)]


@pytest.fixture
def watched(make, tmp_path, unlike):
    """Train on them; what the watch said, and what the last evaluation measured."""

    def watched(change=lambda model: None, steps=48, **objective) -> tuple[list[str], dict]:
        findings: list[str] = []
        trainer = make(
            tmp_path / "run",
            texts=unlike,
            model={"latent_size": 8},
            objective=objective,
            train={
                "steps": steps,
                "sentences_per_batch": 32,
                "learning_rate": 1e-2,
                "evaluations": 8,
                "log_every": steps,
            },
            change=change,
            warn=findings.append,
        )
        return findings, trainer.evaluate()

    return watched


def close(model) -> None:
    """A bridge that nothing passes."""
    for parameter in model.bridge.parameters():
        torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(False)


def test_a_living_latent_is_left_in_peace(watched):
    findings, measured = watched(steps=240, schedule="zero-ramp", zero=0.4, ramp=0.4, beta=0.1)
    assert measured["eval_swap_gap"] > 2, "the latent is not alive: the test shows nothing"
    assert findings == []


def test_collapse_under_full_beta_is_reported_with_a_remedy(watched):
    [finding], _ = watched(schedule="constant", beta=1.0)
    assert finding.startswith("the posterior has collapsed: KL is 0.")
    assert "--objective.free-bits" in finding


def test_a_closed_bridge_is_reported(watched):
    [finding], _ = watched(close, schedule="zero-ramp", zero=0.3, ramp=0.3)
    assert finding.startswith("the posterior has collapsed")


def test_a_closed_bridge_without_any_beta_is_reported_at_the_end(watched):
    [finding], _ = watched(close, schedule="constant", beta=0.0)
    assert "another sentence's z (swap gap 0.00)" in finding


@pytest.mark.parametrize("form", ["mask", "clamp", "batch-mean", "total"])
def test_free_bits_far_above_any_kl_are_reported(watched, form):
    free = 60.0 * (8 if form == "total" else 1)
    findings, _ = watched(schedule="constant", beta=1.0, free_bits=free, free_bits_form=form)
    [finding] = [text for text in findings if text.startswith("the KL gradient is off for 100%")]
    assert "480 nats are free" in finding
    assert "lower --objective.free-bits" in finding


def test_pruning_is_not_dying_but_losing_what_was_told_is():
    def look(watch: CollapseWatch, step: int, active: float, gap: float) -> list[str]:
        return watch.look(step, torch.full((10, 32), 0.3), active, Estimate(gap, 0.01, 10))

    pruned = CollapseWatch(Objective(Schedule.constant(1.0), 100), 32)
    values = [(40, 30, 60.0), (60, 9, 40.0), (80, 8, 39.0), (100, 8, 39.0)]
    assert [look(pruned, *value) for value in values] == [[], [], [], []]
    dying = CollapseWatch(Objective(Schedule.constant(1.0), 100), 32)
    values = [(40, 30, 60.0), (60, 9, 5.0), (80, 3, 2.0), (100, 2, 1.0)]
    said = [look(dying, *value) for value in values]
    assert [len(findings) for findings in said] == [0, 0, 1, 0]
    assert said[2][0].startswith(
        "active units fell from 30 to 3 and the swap gap from 60.0 to 2.0"
    )


def test_a_young_decoder_is_given_time():
    watch = CollapseWatch(Objective(Schedule.constant(1.0), 100), 4)
    unused = Estimate(0.0, 0.01, 100)
    assert watch.look(5, torch.zeros(9, 4), 0.0, unused) == []
    assert watch.look(10, torch.zeros(9, 4), 0.0, unused) == []
    assert watch.look(30, torch.zeros(9, 4), 0.0, unused) == []
    assert watch.look(40, torch.full((9, 4), 2.0), 4.0, Estimate(9.0, 0.1, 9)) == []
    assert watch.look(50, torch.zeros(9, 4), 0.0, unused) == []
    assert len(watch.look(60, torch.zeros(9, 4), 0.0, unused)) == 1
    assert watch.look(70, torch.zeros(9, 4), 0.0, unused) == []


def test_a_plain_language_model_has_no_latent_to_watch():
    watch = CollapseWatch(Objective(Schedule.constant(1.0), 100), 0)
    assert watch.look(100, torch.zeros(9, 0), 0.0, Estimate(0.0, 0.0, 9)) == []


def test_a_stretch_without_beta_is_not_collapse():
    watch = CollapseWatch(Objective(Schedule.zero_ramp(1.0, zero=0.6, ramp=0.2), 100), 4)
    unused = Estimate(0.0, 0.01, 100)
    assert [watch.look(step, torch.ones(9, 4), 0.0, unused) for step in (30, 40, 50)] == [[]] * 3
    assert watch.look(70, torch.ones(9, 4), 0.0, unused) == []
    assert "the decoder ignores z: KL is 4.00" in watch.look(80, torch.ones(9, 4), 0.0, unused)[0]
