"""Commands in this process, and one tiny trained run that most tests share."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from isthmus.cli import main
from isthmus.data import scenes
from isthmus.runs.bundle import load, read_run, save
from tiny import LABELS, TEXTS

RECIPE = """
[model]
latent_size = 4
[model.encoder]
layers = 1
hidden_size = 32
heads = 2
pooling = "mean"
[model.decoder]
layers = 1
hidden_size = 32
heads = 2
[data]
tokenizer = "word"
maximum_length = 24
[objective]
beta = 0.1
[train]
steps = 30
sentences_per_batch = 16
learning_rate = 1e-2
evaluations = 2
log_every = 10
"""


class Result(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


def isthmus(*words: str | Path, stdin: bytes = b"") -> Result:
    """Run a command as the shell would."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(word) for word in words])
    finally:
        sys.stdin = before
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session", autouse=True)
def _undrawn(undrawn: None) -> None:
    """For all tests here."""


@pytest.fixture(scope="session", name="isthmus")
def _isthmus() -> Callable[..., Result]:
    return isthmus


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled train, valid and test files."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 120), ("valid", 24), ("test", 24)):
        lines = [f"{s.factors['style']}\t{s.text}\n" for s in scenes.generate(split, count)]
        (folder / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(
    recipe: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """A run directory and what training printed."""
    run = tmp_path_factory.mktemp("runs") / "[tiny]"  # brackets: rich must not read them as style
    report = ["--report-to", "tensorboard"] if find_spec("tensorboard") else []
    return run, isthmus("train", corpus, "--recipe", recipe, "--out", run, *report)


@pytest.fixture(scope="session")
def run(trained: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run with large random weights around z: every latent decodes differently."""
    model = load(trained[0])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in (model.bridge, model.encoder):
            for parameter in part.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.7, generator=generator)
    run = tmp_path_factory.mktemp("runs") / "loud"
    save(model, run, read_run(trained[0]))
    return run


@pytest.fixture(scope="session")
def plain_run(recipe: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain language model."""
    run = tmp_path_factory.mktemp("runs") / "plain"
    words = ["--recipe", recipe, "--out", run, "--train.steps", "4"]
    assert isthmus("train", corpus, *words, "--model.kind", "language-model").code == 0
    return run


@pytest.fixture(scope="session")
def labelled_file(tmp_path_factory):
    """The tiny texts with their labels, four times over."""
    path = tmp_path_factory.mktemp("texts") / "texts.tsv"
    lines = [f"{label or 'up'}\t{text}\n" for label, text in zip(LABELS, TEXTS, strict=True)]
    path.write_text("".join(lines * 4), encoding="utf-8")
    return path
