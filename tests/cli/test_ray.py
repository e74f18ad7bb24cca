"""``--on ray``: results are those of one process, also if a worker is killed."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from isthmus.commands.space import Encode, encoded
from isthmus.data import scenes
from isthmus.models.workers import HERE

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'isthmus[scale]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's of itself
TEXTS = 9000
"""Three parts."""


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    """One worker for all tests here: each verb would start and end a cluster of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
        try:
            ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        except Exception as error:  # it waits for 30 seconds, in vain where others take the cores
            pytest.skip(f"Ray did not start: {error}")
        yield
        ray.shutdown()


def worker_processes():
    """Those that a map of Ray Data has on this machine."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:  # it has ended
            continue
        if words.startswith(b"ray::MapWorker") or words.startswith(b"ray::_MapWorker"):
            found.append(int(place.parent.name))
    return found


def test_a_killed_worker_costs_no_text_and_no_bit(run, corpus):
    texts = [one.text for one in scenes.generate("train", TEXTS)]
    verb = Encode(run_directory=str(run), data=str(corpus), on="ray")
    model = verb.load("encoder")
    work, killed, done = partial(encoded, refine=0, bf16=False, summary=False), [], []

    def progress(more):
        done.append(more)
        if not killed:
            killed.extend(worker_processes())
            for process in killed:
                os.kill(process, signal.SIGKILL)

    with verb.workers("encoder") as workers:
        found = workers.map(work, model, texts, progress=progress)
    expected = HERE.map(work, model, texts)
    assert killed
    assert sum(done) == TEXTS
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(found, expected, strict=True))


def figures(values):
    """Values by their path."""
    if not isinstance(values, dict | list):
        return {"": values}
    items = values.items() if isinstance(values, dict) else enumerate(values)
    inner = {name: figures(value) for name, value in items}
    return {f"{name}/{key}": one for name, own in inner.items() for key, one in own.items()}


def test_an_evaluation_has_the_figures_of_one_process(isthmus, run, corpus):
    words = ["evaluate", run, corpus, "--samples", "5", "--texts", "8", "--json"]
    here, there = isthmus(*words), isthmus(*words, "--on", "ray")
    assert there.code == 0, there.err
    assert "ray: workers: 1; parts of the data: 1" in there.err
    found, expected = (figures(json.loads(result.out)) for result in (there, here))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, float):
            # In float32 losses near 90 nats are 8e-6 apart, and a gap is the difference of two.
            assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-5), name
        else:
            assert found[name] == value, name


def test_what_is_no_cluster_is_refused(isthmus, run, corpus):
    result = isthmus("encode", run, corpus, "--on", "rey")
    assert result.code == 1
    assert "--on: got rey, expected ray for this machine or ray:ADDRESS" in result.err
