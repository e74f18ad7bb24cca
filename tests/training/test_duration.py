"""How long a run will take: close enough, and without a trace in the run."""

import dataclasses
import io
import time

import pytest
import torch
from rich.console import Console

from isthmus.data.kinds import of_settings
from isthmus.settings import load_recipe, with_changes
from isthmus.training.duration import Duration, expected, spoken
from isthmus.training.run import train

SMALL = {"layers": 1, "hidden_size": 64}
TEXTS = {"model": {"encoder": SMALL, "decoder": SMALL}, "data": {"limit": 500}}
RUNS = {
    "demo": ("scenes", TEXTS | {"train": {"steps": 40, "evaluations": 2}}),
    "lstm-vae": ("scenes", TEXTS | {"train": {"steps": 25, "evaluations": 2}}),
    "picture-vae": ("digits", {"train": {"epochs": 8, "evaluations": 2}}),
}
"""Small runs of recipes: data and changes."""


@pytest.mark.parametrize("recipe", RUNS)
def test_a_run_takes_about_the_time_that_is_said_first(recipe, tmp_path, monkeypatch):
    data, changes = RUNS[recipe]
    settings = with_changes(load_recipe(recipe), changes, "test")
    splits = of_settings(settings).read_splits(data, settings)
    splits = dataclasses.replace(splits, valid=splits.valid.sample(80, 0))
    # Time of the processor: that of the clock depends on what else this machine does.
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    said: list[tuple[float, object]] = []
    console = Console(quiet=True)
    monkeypatch.setattr(
        console, "print", lambda line="", **_: said.append((time.process_time(), line))
    )
    train(settings, splits, tmp_path / "run", resume=False, console=console)
    [(begun, duration)] = [(when, it) for when, it in said if isinstance(it, Duration)]
    took = time.process_time() - begun
    assert took / 2.5 < duration.seconds < took * 2.5
    [_, first_step, *_] = [str(it) for when, it in said if when >= begun]
    assert first_step.startswith("step ")


def test_measuring_leaves_no_trace_in_the_run(make, tmp_path):
    trainer = make(tmp_path / "run", model={"encoder": {"dropout": 0.3}})
    trainer.meter.recent.clear()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    whole, rest = expected(trainer), expected(trainer, done=4)
    assert (whole.steps, rest.steps) == (6, 2)
    assert torch.equal(state, torch.get_rng_state())
    assert not trainer.meter.recent, "what the log's mutual information is of"
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_duration_is_no_more_exact_than_an_estimate():
    line = "time: about 1 h 30 min on this machine (2,000 steps of ~2,048 tokens)"
    duration = Duration(5300.0, 2000, "2,048 tokens")
    assert str(duration) == line
    printed = Console(file=io.StringIO(), width=100)
    printed.print(duration)
    assert printed.file.getvalue() == f"{line}\n"
    said = [spoken(seconds) for seconds in (0.2, 47, 89, 91, 3000, 3590, 7100, 400_000)]
    assert said == ["1 s", "50 s", "90 s", "2 min", "50 min", "1 h", "2 h", "111 h"]
