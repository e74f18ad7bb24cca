"""What tests of the studio share."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from starlette.testclient import TestClient

from isthmus.models.joint.model import JointConfig, JointModel
from isthmus.models.pictures.model import PictureConfig, PictureModel
from isthmus.runs import bundle
from isthmus.studio.server import make
from isthmus.studio.space import Space
from tiny import loud, system

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
    "codebook": "codebook-aligned",
    "summary": "llama-summary",
}


def record(model, source: str = "x.tsv") -> dict:
    size = math.prod(model.latent_shape)
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


def joint_run(folder: Path) -> tuple[Path, Path]:
    """A run of pictures with captions, and 12 pictures of noise with captions."""
    caption = copy.deepcopy(system("gpt2-memory+embedding"))
    picture = loud(PictureModel(PictureConfig(**PICTURE)))
    config = JointConfig(latent_size=3, picture=picture.config, caption=caption.config)
    model = JointModel(config, {"picture": picture, "caption": caption}).eval()
    bundle.save(model, folder / "run", record(model))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    captions = np.array([" ".join(generator.choice(list("abc"), 3)) for _ in range(12)])
    np.savez(folder / "few.npz", images=images, captions=captions)
    return folder / "run", folder / "few.npz"
