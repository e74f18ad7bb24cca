"""`precision auto` is measured once, written down, and leaves no trace but its choice."""

import io
import math
import re
import time

import pytest
import torch
from rich.console import Console

from isthmus.data.kinds import of_settings
from isthmus.models.bf16 import slow_bf16
from isthmus.settings import load_recipe, with_changes
from isthmus.training import precision
from isthmus.training.run import RECIPE_FILE, train

TINY = {"layers": 1, "hidden_size": 16, "heads": 2}
CHANGES = {
    "model": {"encoder": TINY, "decoder": TINY, "latent_size": 4},
    "data": {"limit": 200},
    "train": {"steps": 2, "evaluations": 1, "validation": 10},
}


def run(out, recipe="demo", resume=False, **changes):
    """The weights of a run, and what it printed."""
    settings = with_changes(load_recipe(str(recipe)), CHANGES, "test")
    settings = with_changes(settings, {"train": changes}, "test")
    splits = of_settings(settings).read_splits("scenes", settings)
    console = Console(file=io.StringIO(), width=200)
    model = train(settings, splits, out, resume=resume, console=console)
    return model.state_dict(), console.file.getvalue()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The weights of a run by the precision that it was asked for."""
    folder = tmp_path_factory.mktemp("asked")
    return {name: run(folder / name, precision=name)[0] for name in ("bf16", "float32")}


@pytest.mark.parametrize(("gain", "chosen"), [(0.0, "bf16"), (math.inf, "float32")])
def test_the_choice_is_a_run_that_asks_for_it(tmp_path, monkeypatch, asked, gain, chosen):
    monkeypatch.setattr(precision, "NARROW", 16)
    monkeypatch.setattr(precision, "GAIN", gain)
    weights, printed = run(tmp_path / "auto")
    assert re.search(rf"precision: {chosen}; a (step|product) in bf16 is \d", printed)
    assert [name for name in asked if same(weights, asked[name])] == [chosen]
    # The recipe of the run has the choice, whatever a measurement would say today.
    monkeypatch.setattr(precision, "GAIN", -gain)
    again, printed = run(tmp_path / "again", recipe=tmp_path / "auto" / RECIPE_FILE)
    assert same(again, weights)
    assert "precision" not in printed


def test_who_asks_for_bf16_hears_where_it_only_costs_time(tmp_path):
    """By products of another size than the measurement takes."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        one = torch.ones(256, 512, dtype=dtype)
        other = torch.ones(512, 512, dtype=dtype)
        times = []
        for _ in range(4):
            begun = time.perf_counter()
            one @ other
            times.append(time.perf_counter() - begun)
        seconds[dtype] = min(times)
    gain = seconds[torch.float32] / seconds[torch.bfloat16]
    line = slow_bf16(torch.device("cpu"))
    _, printed = run(tmp_path / "run", precision="bf16")
    warned = "choose float32" in printed
    if gain > 1.2:
        assert not line
        assert not warned
    if gain < 0.5:
        assert float(re.search(r"bf16 take (\S+) times", line)[1]) > 1.25
        assert warned


def test_narrow_models_are_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "GAIN", 0.0)
    _, printed = run(tmp_path / "run")
    assert "precision" not in printed
    assert load_recipe(str(tmp_path / "run" / RECIPE_FILE)).train.precision == "float32"


def test_weights_that_are_kept_are_not_rounded_without_being_asked(make, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "NARROW", 1)
    monkeypatch.setattr(precision, "GAIN", 0.0)
    trainer = make(tmp_path / "full", train={"precision": "auto"})
    assert precision.fixed_precision(trainer)[0].train.precision == "bf16"
    trainer.model.config.decoder_tuning = "lora"
    settings, line = precision.fixed_precision(trainer)
    assert (settings.train.precision, line) == ("float32", "")


def test_a_resumed_run_keeps_the_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "NARROW", 16)
    monkeypatch.setattr(precision, "GAIN", 0.0)
    whole, _ = run(tmp_path / "whole", steps=4, evaluations=2)
    stop = {"steps": 4, "evaluations": 2}
    with monkeypatch.context() as patch:
        patch.setattr("isthmus.training.run._finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", **stop)
    monkeypatch.setattr(precision, "GAIN", math.inf)
    resumed, printed = run(tmp_path / "stopped", resume=True, **stop)
    assert same(resumed, whole)
    assert "precision" not in printed


def interrupt(*_):
    raise KeyboardInterrupt
