"""Every block of docs/python.md runs, at a size that a test can afford."""

from __future__ import annotations

import re
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

import isthmus
import isthmus.sklearn
from isthmus.data import scenes

pytestmark = pytest.mark.usefixtures("undrawn")
PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
SMALL = {"recipe": "lstm-vae", "train": {"steps": 4, "evaluations": 1, "epochs": 1.0}}
"""Beside ``minutes=5``, which the few steps never use up."""


def test_every_block_runs(tmp_path, monkeypatch, capsys):
    """In order, in one folder and with the same names."""
    monkeypatch.chdir(tmp_path)
    lines = [sentence.text for sentence in scenes.generate("train", 60)]
    (tmp_path / "reviews.txt").write_text("\n".join(lines), encoding="utf-8")
    small = partial(isthmus.fit, **SMALL)
    monkeypatch.setattr(isthmus, "fit", small)
    monkeypatch.setattr(
        isthmus.sklearn, "fit", lambda texts, out, recipe, **options: small(texts, **options)
    )
    names = {}
    for block in BLOCKS:
        if "as_sentence_transformer" not in block or find_spec("sentence_transformers"):
            exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert f"torch.Size([3, {names['space'].size}]) ({names['space'].size},)" in printed
    assert (tmp_path / "runs" / "mine" / "run.json").is_file()


def test_every_method_of_a_space_is_in_the_table():
    public = {name for name in vars(isthmus.Space) if not name.startswith("_")}
    named = set(re.findall(r"space\.(\w+)", PAGE)) | {"load", "config", "size"}
    assert public - named == {"unflattened"}
