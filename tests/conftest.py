"""What every test gets: no network, one thread, a seed of its own; and tiny things to test on."""

from __future__ import annotations

import gc
import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A shell lets its background jobs ignore Ctrl-C, and Isthmus leaves ignored signals alone.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests share their cores: how long an example takes says nothing about the code.
settings.register_profile("isthmus", deadline=None)
settings.load_profile("isthmus")


SLOW = {
    "test_page.py",
    "test_systems.py",
    "test_starting.py",
    "test_remedies.py",
    "test_golden_runs.py",
    "test_verbs.py",
    "test_stock.py",
    "test_processes.py",
    "test_phases.py",
    "test_refit.py",
    "test_ray.py",
}
"""Files that begin first, so that no process is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in SLOW)


@pytest.fixture(scope="module", autouse=True)
def _imports_are_no_garbage() -> None:
    """What the imports left stays, so no later search for garbage need visit it.

    Each training makes one, which would take longer than its few steps.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _quiet_and_seeded() -> Iterator[None]:
    """One thread, and torch's generator as it was before the test."""
    import torch  # not above: the process that only hands out the tests need not wait for it

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def undrawn() -> Iterator[None]:
    """The curves of a run are drawn into its folder, which takes half of a run this small.

    Runs in processes of their own draw them, and so do the tests of plots.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isthmus.training.run.training_curves", lambda log, target: None)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The prepared data beside the repository; a test that needs it is skipped without."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the prepared data lies beside the repository")
    return folder
