"""torchrun, the command line, and a process that is killed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from isthmus.cli import main
from isthmus.runs.bundle import read_run
from isthmus.training.checkpoints import checkpoints, is_marked
from trainers import log_of

STEPS = 60
WORDS = [
    *("train", "scenes", "--recipe", "demo", "--data.limit", "200", "--train.sharding"),
    *("--train.steps", str(STEPS), "--train.evaluations", "20", "--train.validation", "10"),
    *("--train.sentences-per-batch", "8", "--train.precision", "float32"),
]


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
def test_a_killed_process_ends_the_run_and_one_process_goes_on(tmp_path, capsys):
    out = tmp_path / "run"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["-m", "isthmus", *WORDS, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started = subprocess.Popen(
        [sys.executable, *launch], env=environment, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 200
    while not any(map(is_marked, checkpoints(out))):
        assert started.poll() is None, started.communicate()[1][-3000:]
        assert time.monotonic() < until, "no checkpoint"
        time.sleep(0.05)
    for process in psutil.Process(started.pid).children():
        if process.environ().get("RANK") == "1":
            process.send_signal(signal.SIGKILL)
    said = started.communicate(timeout=100)[1]
    lines = [line for line in said.splitlines() if line.startswith("isthmus: ")]
    assert started.returncode
    assert len(lines) == 1, said[-3000:]
    assert "another process ended" in lines[0]
    assert "--resume" in lines[0]

    assert main([*WORDS, "--out", str(out)]) == 1  # not without --resume
    assert main([*WORDS, "--out", str(out), "--resume"]) == 0, capsys.readouterr().err
    assert read_run(out)["steps"] == STEPS
    rows = [row["step"] for row in log_of(out) if "loss" in row]
    assert rows == sorted(set(rows))
    assert rows[-1] == STEPS
