"""``isthmus train --on ray``: the weights of one process, and a process that is killed."""

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import two_processes
from safetensors.torch import load_file

from isthmus.cli import main
from isthmus.commands.train_on_ray import train_on_ray
from isthmus.runs.bundle import read_run
from isthmus.training.checkpoints import checkpoints, is_marked

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'isthmus[scale]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's of itself
STEPS = 60
WORDS = [
    *("train", "scenes", "--recipe", "demo", "--data.limit", "200", "--train.evaluations", "20"),
    *("--train.steps", str(STEPS), "--train.validation", "10"),
    *("--train.sentences-per-batch", "8", "--train.precision", "float32"),
]


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    """Places for two processes, on however many cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        try:
            ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
        except Exception as error:  # it waits for 30 seconds, in vain where others take the cores
            pytest.skip(f"Ray did not start: {error}")
        yield
        ray.shutdown()


def test_two_processes_of_ray_are_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    # 24 sentences in batches of 7 and two batches a step, in float64.
    train_on_ray(
        partial(two_processes.run, "uneven", tmp_path / "two"), tmp_path / "two" / "run", "ray", 2
    )
    two_processes.run("uneven", tmp_path / "one")
    one, two = (load_file(tmp_path / each / "uneven.safetensors") for each in ("one", "two"))
    assert one.keys() == two.keys()
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6
    assert not (tmp_path / "two" / ".run-ray").exists()


def kill_one_at_a_checkpoint(out):
    """SIGKILL to one of the processes as soon as there is something to go on from."""
    until = time.monotonic() + 200
    while not any(map(is_marked, checkpoints(out))) and time.monotonic() < until:
        time.sleep(0.02)
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_bytes().startswith(b"ray::RayTrainWorker"):
                os.kill(int(place.parent.name), signal.SIGKILL)
                return
        except OSError:  # it has ended
            continue


def test_a_killed_process_takes_one_line_and_the_run_goes_on(tmp_path, capfd):
    out = tmp_path / "run"
    killer = threading.Thread(target=kill_one_at_a_checkpoint, args=(out,))
    killer.start()
    assert main([*WORDS, "--out", str(out), "--on", "ray", "--processes", "2"]) == 1
    killer.join()
    said = capfd.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("isthmus: ")]
    assert len(lines) == 1, said[-3000:]
    assert "--resume" in lines[0]
    assert main([*WORDS, "--out", str(out), "--resume"]) == 0, capfd.readouterr().err
    assert read_run(out)["steps"] == STEPS


def test_more_processes_than_the_cluster_has_places_are_refused(tmp_path, capsys):
    words = [*WORDS, "--out", str(tmp_path / "run"), "--on", "ray", "--processes", "3"]
    assert main(words) == 1
    assert "got 3, and the cluster has 2 CPUs" in capsys.readouterr().err
