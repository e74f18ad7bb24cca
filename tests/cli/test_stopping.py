"""Killed, interrupted, resumed: the weights are those of a run that nothing happened to."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

LONG = [
    *("--train.steps", "60", "--train.evaluations", "3", "--train.keep", "best"),
    *("--model.encoder.dropout", "0.1", "--data.deletion", "0.1", "--data.word-dropout", "0.2"),
]


@pytest.fixture(scope="module")
def words(recipe, corpus):
    return ["train", corpus, "--recipe", recipe, *LONG]


@pytest.fixture(scope="module")
def untouched(isthmus, words, tmp_path_factory):
    """The run that nothing happened to."""
    run = tmp_path_factory.mktemp("untouched") / "run"
    assert isthmus(*words, "--out", run).code == 0
    return run


def start(words, out):
    command = [sys.executable, "-c", "import sys; from isthmus.cli import main; sys.exit(main())"]
    return subprocess.Popen(
        [*command, *map(str, words), "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(path, process, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.001)


def assert_same_run(run, other):
    one, two = load_file(run / "model.safetensors"), load_file(other / "model.safetensors")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    metrics = [json.loads((place / "run.json").read_text())["metrics"] for place in (run, other)]
    assert metrics[0] == metrics[1]
    assert not (run / "checkpoints").exists()


def test_kill_9_during_a_save(isthmus, words, untouched, tmp_path):
    run = tmp_path / "run"
    process = start(words, run)
    wait_for(run / "checkpoints" / "checkpoint-40", process)  # the folder: its files come next
    process.kill()
    process.communicate()
    unfinished = isthmus("sample", run)
    assert unfinished.code == 1
    assert "was not finished" in unfinished.err
    other = isthmus(*words, "--out", run, "--resume", "--train.learning-rate", "0.5")
    assert other.code == 1
    assert "its settings differ" in other.err
    assert "train.learning_rate: 0.01 there, 0.5 here" in other.err
    again = isthmus(*words, "--out", run)
    assert again.code == 1
    assert "exists already; continue it with --resume" in again.err
    resumed = isthmus(*words, "--out", run, "--resume")
    assert resumed.code == 0, resumed.err
    assert_same_run(run, untouched)


def test_control_c_stops_with_a_checkpoint(isthmus, words, untouched, tmp_path):
    run = tmp_path / "run"
    process = start(words, run)
    wait_for(run / "checkpoints" / "checkpoint-20" / "manifest.json", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    found = re.fullmatch(
        r"isthmus: stopped at step (\d+) of 60; go on with the same command and --resume", last
    )
    assert found, err
    assert (run / "checkpoints" / f"checkpoint-{found[1]}" / "manifest.json").is_file()
    resumed = isthmus(*words, "--out", run, "--resume")
    assert resumed.code == 0, resumed.err
    assert_same_run(run, untouched)
