"""What every test gets: no network, one thread, a seed of its own; and tiny things to test on."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Tests share their cores: how long an example takes says nothing about the code.
settings.register_profile("isthmus", deadline=None)
settings.load_profile("isthmus")


@pytest.fixture(autouse=True)
def _quiet_and_seeded() -> Iterator[None]:
    """One thread, and torch's generator as it was before the test."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The prepared data beside the repository; a test that needs it is skipped without."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the prepared data lies beside the repository")
    return folder
