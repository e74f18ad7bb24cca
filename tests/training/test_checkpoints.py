"""Checkpoints: whole or passed over with a line; after a stop the log goes on as if without it."""

import json
import os
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from rich.console import Console

from isthmus.errors import IsthmusError
from isthmus.training.callbacks import StopOnSignal, TensorBoard
from isthmus.training.checkpoints import checkpoints, finish, last_checkpoint, prune, step_of
from trainers import Do, PowerCut, cut_power, distance, log_of, timeless, weights

GROUPS = {"train": {"steps": 8, "evaluations": 4, "log_every": 3, "keep": "best"}}


@pytest.fixture
def cut(make, tmp_path):
    """A run without power after step 7: checkpoints 4 and 6 are there."""
    with pytest.raises(PowerCut):
        make(tmp_path / "cut", callbacks=[Do(7, cut_power)], **GROUPS)
    return tmp_path / "cut"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def unlist(path: Path) -> None:
    """A manifest that is JSON and does not name what is gone."""
    record = json.loads(path.read_text())
    del record["digests"]["optimizer.pt"]
    path.write_text(json.dumps(record))
    (path.parent / "optimizer.pt").unlink()


DAMAGES = [
    *(("missing", name, Path.unlink) for name in ("optimizer.pt", "scheduler.pt")),
    *(("missing", name, Path.unlink) for name in ("rng_state.pth", "trainer_state.json")),
    ("missing", "meter-0-of-1.pt", Path.unlink),
    *(("changed", name, flip) for name in ("model.safetensors", "optimizer.pt", "config.json")),
    *(("changed", name, shorten) for name in ("model.safetensors", "trainer_state.json")),
    ("changed", "optimizer.pt", lambda path: path.write_bytes(b"")),
    *(("damaged", "manifest.json", how) for how in (shorten, flip, unlist)),
    ("half-written", "manifest.json", Path.unlink),
]


def test_a_damaged_checkpoint_is_passed_over_with_a_line(make, cut, tmp_path):
    whole = make(tmp_path / "whole", **GROUPS)
    assert [each.name for each in checkpoints(cut)] == ["checkpoint-6", "checkpoint-4"]
    for word, name, damage in DAMAGES:
        copy, lines = tmp_path / "copy", []
        shutil.copytree(cut, copy)
        damage(copy / "checkpoints" / "checkpoint-6" / name)
        chosen = last_checkpoint(copy, say=lines.append)
        assert chosen.name == "checkpoint-4", (name, word)
        [line] = lines
        assert line.startswith("checkpoint-6: ")
        assert name in line
        assert word in line
        assert line.endswith("going on from checkpoint-4, the one before")
        shutil.rmtree(copy)
    flip(cut / "checkpoints" / "checkpoint-6" / "model.safetensors")
    resumed = make(cut, resume=True, **GROUPS)
    assert distance(weights(whole), weights(resumed)) == 0
    assert timeless(tmp_path / "whole") == timeless(cut)


def test_without_a_whole_checkpoint_there_is_one_line_and_no_silent_start(cut):
    flip(cut / "checkpoints" / "checkpoint-4" / "optimizer.pt")
    (cut / "checkpoints" / "checkpoint-6" / "manifest.json").unlink()
    with pytest.raises(IsthmusError, match="no whole checkpoint is left") as error:
        last_checkpoint(cut)
    assert "optimizer.pt is changed" in str(error.value)
    assert "start again without --resume" in str(error.value)
    (cut / "checkpoints" / "checkpoint-4" / "manifest.json").unlink()
    lines = []
    assert last_checkpoint(cut, say=lines.append) is None
    assert lines[-1].endswith("no checkpoint was completed; training starts from its first step")


def test_the_best_weights_must_be_whole_too(cut):
    newest = cut / "checkpoints" / "checkpoint-6"
    state = json.loads((newest / "trainer_state.json").read_text())
    state["best_global_step"] = 4
    (newest / "trainer_state.json").write_text(json.dumps(state))
    for checkpoint in checkpoints(cut):  # as older versions marked them
        (checkpoint / "manifest.json").unlink()
        (checkpoint / "complete").touch()
    lines = []
    assert last_checkpoint(cut, keep_best=True, say=lines.append) == newest
    assert "no digests" in lines[0]
    (newest.with_name("checkpoint-4") / "model.safetensors").write_bytes(b"")
    assert last_checkpoint(cut) == newest
    with pytest.raises(IsthmusError, match=r"checkpoint-4, the best weights until then"):
        last_checkpoint(cut, keep_best=True)


def test_a_run_keeps_what_it_needs_when_the_newest_is_damaged(tmp_path):
    kept = []
    for step, best in ((10, 10), (20, 10), (30, 30), (40, 40), (50, 40), (60, 40)):
        newest = tmp_path / "checkpoints" / f"checkpoint-{step}"
        newest.mkdir(parents=True)
        (newest / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))
        finish(newest)
        prune(newest, keep_best=True)
        kept.append([step_of(each) for each in checkpoints(tmp_path)])
        if step > 10:
            flip(newest / "trainer_state.json")
            assert last_checkpoint(tmp_path, keep_best=True) == checkpoints(tmp_path)[1]
            flip(newest / "trainer_state.json")
    # At 30 the best is new: if its file is damaged, 20 goes on and still has its own best, 10.
    assert kept == [[10], [20, 10], [30, 20, 10], [40, 30], [50, 40], [60, 40]]


def test_a_half_written_checkpoint_is_removed(make, cut):
    blocked = cut / "checkpoints" / "checkpoint-8" / "optimizer.pt"
    block = Do(7, lambda _: blocked.mkdir(parents=True))
    with pytest.raises((OSError, RuntimeError)):
        make(cut, resume=True, callbacks=[block], **GROUPS)
    assert (blocked.parent / "model.safetensors").is_file()
    assert last_checkpoint(cut).name == "checkpoint-6"
    assert not list(cut.rglob("training_args.bin"))
    make(cut, resume=True, **GROUPS)
    assert blocked.is_file()


@pytest.fixture
def hang_up_heard():
    """SIGHUP as a terminal sends it, also where these tests run under nohup, which ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_up_heard")
def test_the_log_of_a_stopped_run_is_that_of_a_whole_one(make, tmp_path):
    """Stopped between two rows of the log, at a row, and where a checkpoint is due."""
    whole = make(tmp_path / "whole", **GROUPS)
    for step, number in ((1, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGHUP)):
        stop = StopOnSignal(Console(quiet=True))
        send = Do(step, lambda _, number=number: os.kill(os.getpid(), number))
        with stop.listening():
            resumed = make(tmp_path / "run", resume=step > 1, callbacks=[send, stop], **GROUPS)
        assert resumed.state.global_step == step
        assert not [row for row in log_of(tmp_path / "run") if "train_loss" in row]
    meter = tmp_path / "run" / "checkpoints" / "checkpoint-4" / "meter-0-of-1.pt"
    before_the_last_stop = torch.load(meter, weights_only=True)["seconds"]
    events = [TensorBoard(tmp_path / "run" / "tensorboard")] if find_spec("tensorboard") else []
    resumed = make(tmp_path / "run", resume=True, callbacks=events, **GROUPS)
    assert distance(weights(whole), weights(resumed)) == 0
    assert timeless(tmp_path / "run") == timeless(tmp_path / "whole")
    *rows, summary = log_of(tmp_path / "run")
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    assert [step for step, _ in losses] == [2, 3, 4, 6, 8]
    intervals = [step - before for before, (step, _) in zip([0, 2, 3, 4, 6], losses, strict=True)]
    total = sum(loss * steps for steps, (_, loss) in zip(intervals, losses, strict=True))
    assert summary["train_loss"] == pytest.approx(total / 8)
    assert summary["train_runtime"] > before_the_last_stop > 0
    again = make(tmp_path / "run", resume=True, callbacks=events, **GROUPS)  # killed at the end
    assert distance(weights(whole), weights(again)) == 0
    assert timeless(tmp_path / "run") == timeless(tmp_path / "whole")
    if events:
        assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
