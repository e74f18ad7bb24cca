"""Tiny runs of every kind, opened in the studio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient
from tiny_runs import PICTURE, SYSTEMS, WORDS, opened, record

from isthmus.models.pictures.model import PictureConfig, PictureModel
from isthmus.runs import bundle
from isthmus.studio.space import Space
from tiny import loud, system


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name → run directory; and ``corpus``, a file of labelled texts."""
    folder = tmp_path_factory.mktemp("studio")
    found = {}
    for name, kind in SYSTEMS.items():
        model = system(kind)
        bundle.save(model, folder / name, record(model))
        found[name] = str(folder / name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        picture = loud(PictureModel(PictureConfig(**PICTURE))).eval()
    bundle.save(picture, folder / "picture", record(picture, "digits/train"))
    found["picture"] = str(folder / "picture")
    generator = torch.Generator().manual_seed(0)
    lines = []
    for number in range(90):
        length = int(torch.randint(1, 9, (1,), generator=generator))
        letters = torch.randint(0, 3, (length,), generator=generator).tolist()
        lines.append(f"{'up' if number % 3 else 'down'}\t{' '.join(WORDS[i] for i in letters)}\n")
    found["corpus"] = str(folder / "corpus.tsv")
    Path(found["corpus"]).write_text("".join(lines), encoding="utf-8")
    return found


@pytest.fixture(scope="session")
def clients(runs) -> Iterator[Callable[[str], tuple[TestClient, Space]]]:
    """Clients by the name of the run, all with the same corpus where they read texts."""
    with ExitStack() as stack:
        known = {}

        def client(name: str) -> tuple[TestClient, Space]:
            if name not in known:
                data = "digits" if name == "picture" else runs["corpus"]
                space = Space(runs[name], data)
                known[name] = stack.enter_context(opened(space)), space
            return known[name]

        yield client


@pytest.fixture
def text(clients):
    """The client and the space of a plain text run."""
    return clients("text")
