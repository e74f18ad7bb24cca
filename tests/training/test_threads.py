"""A run has the same number of threads from its first step to its last, and when repeated."""

import io
import signal

import pytest
import torch
from rich.console import Console
from transformers import TrainerCallback

from isthmus.data.kinds import of_settings
from isthmus.settings import load_recipe, with_changes
from isthmus.training.run import RECIPE_FILE, Interrupted, train

TINY = {"layers": 1, "hidden_size": 64, "heads": 2}
CHANGES = {
    "model": {"encoder": TINY, "decoder": TINY, "latent_size": 4},
    "data": {"limit": 200},
    "train": {"steps": 4, "evaluations": 2, "validation": 10},
}


class Spy(TrainerCallback):
    """Notes the threads of each step, and stops the run as Ctrl-C does."""

    def __init__(self, stop: int) -> None:
        self.threads: list[int] = []
        self.stop = stop

    def on_step_begin(self, args, state, control, **_):
        self.threads.append(torch.get_num_threads())
        if state.global_step == self.stop:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def run(monkeypatch):
    def _run(out, threads, recipe="demo", stop=-1, resume=False):
        """The threads of each step of a run that is started with some, and its weights."""
        settings = with_changes(load_recipe(str(recipe)), CHANGES, "test")
        splits = of_settings(settings).read_splits("scenes", settings)
        spy = Spy(stop)
        monkeypatch.setattr("isthmus.training.run.reporters", lambda *_: [spy])
        torch.set_num_threads(threads)
        console, weights = Console(file=io.StringIO()), {}
        try:
            weights = train(settings, splits, out, resume=resume, console=console).state_dict()
        except Interrupted:
            assert stop >= 0
        assert torch.get_num_threads() == threads
        return spy.threads, weights

    return _run


def test_a_resumed_or_repeated_run_keeps_its_threads(run, tmp_path):
    steps, whole = run(tmp_path / "whole", 2)
    assert steps == [2] * 4
    steps, _ = run(tmp_path / "stopped", 2, stop=2)
    assert steps == [2] * 3
    steps, resumed = run(tmp_path / "stopped", 1, resume=True)
    assert steps == [2]
    steps, again = run(tmp_path / "again", 1, recipe=tmp_path / "whole" / RECIPE_FILE)
    assert steps == [2] * 4
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert all(torch.equal(again[name], whole[name]) for name in whole)
