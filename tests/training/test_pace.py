"""A run with a limit of time: it ends in time, and what it chose repeats it exactly."""

import json
import signal
import time

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import make_splits
from isthmus.settings import load_recipe
from isthmus.training import Interrupted, train
from isthmus.training.clock import Clock

ENDLESS = {"steps": 10**6, "evaluations": 4, "keep": "best", "log_every": 50}


@pytest.fixture
def splits(sentences):
    return make_splits(TextCorpus(sentences, None, "sentences"), lambda name: None)


class Happening(Console):
    """A console that does something when the first validation bound is printed."""

    def __init__(self, action=lambda: None):
        super().__init__(quiet=True)
        self.action, self.lines = action, []

    def print(self, *words, **options):
        self.lines.append(str(words[0]))
        if "bound at" in self.lines[-1]:
            self.action()
            self.action = lambda: None


def run_of(splits, settings, out, *, action=lambda: None, resume=False, clock=None):
    console = Happening(action)
    train(settings, splits, out, resume=resume, console=console, clock=clock)
    return json.loads((out / "run.json").read_text()), console.lines


def assert_same_weights(one, other):
    first, second = (load_file(out / "model.safetensors") for out in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_ends_in_time(splits, settings_of, tmp_path):
    asked = settings_of(train=ENDLESS | {"minutes": 0.1})
    begun = time.monotonic()
    record, lines = run_of(splits, asked, tmp_path / "run")
    taken = time.monotonic() - begun
    assert taken < 6 * 1.2
    assert abs(record["seconds"] - taken) < 2  # what follows the measuring
    chosen = load_recipe(str(tmp_path / "run" / "recipe.toml")).train
    assert chosen.minutes == 0
    assert chosen.steps >= record["steps"] > 8
    [line] = [line for line in lines if line.startswith("time: ")]
    assert f"so {chosen.steps:,} of 1,000,000 steps" in line


def test_no_more_steps_than_asked_for(splits, settings_of, tmp_path):
    asked = settings_of(train={"steps": 5, "minutes": 9.0})
    record, _ = run_of(splits, asked, tmp_path / "run")
    assert record["steps"] == 5


def test_a_stopped_run_goes_on_with_what_was_chosen_and_its_time_counts(
    splits, settings_of, tmp_path
):
    asked = settings_of(train=ENDLESS | {"steps": 60, "minutes": 2.0})
    clock = Clock(asked.train.minutes)

    def stop():
        clock.add(40)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="of 60; go on"):
        run_of(splits, asked, tmp_path / "run", action=stop, clock=clock)
    record, _ = run_of(splits, asked, tmp_path / "run", resume=True)
    assert record["steps"] == 60
    assert record["seconds"] > 40
    run_of(splits, load_recipe(str(tmp_path / "run" / "recipe.toml")), tmp_path / "again")
    assert_same_weights(tmp_path / "run", tmp_path / "again")


def test_a_machine_that_becomes_slower_ends_in_time_with_a_line(splits, settings_of, tmp_path):
    asked = settings_of(train=ENDLESS | {"steps": 400, "minutes": 2.0})
    clock = Clock(asked.train.minutes)
    out = tmp_path / "run"
    record, lines = run_of(splits, asked, out, action=lambda: clock.add(118), clock=clock)
    assert 100 <= record["steps"] < 110
    assert f"warning: the time was up at step {record['steps']} of 400" in "\n".join(lines)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert "train_runtime" in rows[-1]
    assert max(row["step"] for row in rows if "eval_elbo" in row) == record["steps"]
