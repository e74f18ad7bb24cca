"""What tests of the studio share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.testclient import TestClient

from isthmus.studio.server import make
from isthmus.studio.space import Space

WORDS = "abc"
HERE = "http://127.0.0.1:8765"
PICTURE = {"height": 8, "width": 8, "latent_size": 3, "hidden_size": 8, "layers": 1}
SYSTEMS = {
    "text": "gpt2-memory+embedding",
    "labels": "labels",
    "codes": "codes",
    "language": "language",
    "mixture": "mixture",
    "grid": "grid",
}


def record(model, source: str = "x.tsv") -> dict:
    size = model.latent_shape[0] if len(model.latent_shape) == 1 else 0
    metrics = {
        "sentences": 10,
        "iw_samples": 1,
        "aggregate_standard_deviation": [1.5 + place for place in range(size)],
        "kl_per_dimension": [1.0 + place % 2 for place in range(size)],
    }
    return {"settings": {}, "data": {"source": source}, "seed": 0, "metrics": metrics}


def wait(done: Callable[[], bool], seconds: float = 20) -> None:
    """Until something has happened in the background."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@contextmanager
def opened(space: Space, **options) -> Iterator[TestClient]:
    """A client of the studio, its map ready."""
    with TestClient(make(space, **options), base_url=HERE) as client:
        if space.map is not None:
            wait(lambda: space.map._crowd is not None)
        yield client
