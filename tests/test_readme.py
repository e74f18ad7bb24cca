"""Every block of the README runs, at a size that a test can afford."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest

import isthmus
from isthmus.cli import main
from isthmus.data import scenes

pytestmark = pytest.mark.usefixtures("undrawn")
README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
SMALL = (
    "--train.steps 8 --train.evaluations 1 --model.decoder.layers 1 "
    "--model.decoder.hidden-size 32 --data.vocabulary-size 300"
)
SMALL_ENCODER = "--model.encoder.layers 1 --model.encoder.hidden-size 32 --train.fit-prior 0"


def test_it_is_short_and_has_blocks():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120
    assert {language for language, _ in BLOCKS} == {"bash", "python"}


def test_every_block_runs(tmp_path, monkeypatch, capsys):
    """In order, in one folder: later blocks use the runs of earlier ones."""
    monkeypatch.chdir(tmp_path)
    lines = [sentence.text for sentence in scenes.generate("train", 60)]
    (tmp_path / "reviews.txt").write_text("\n".join(lines), encoding="utf-8")
    labelled = [f"{('positive', 'negative')[i % 2]}\t{line}" for i, line in enumerate(lines)]
    (tmp_path / "reviews.tsv").write_text("\n".join(labelled), encoding="utf-8")
    (tmp_path / "reviews-test.txt").write_text("\n".join(lines[:9]), encoding="utf-8")
    monkeypatch.setattr(isthmus, "fit", partial(isthmus.fit, train={"steps": 8, "fit_prior": 0.0}))
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), {})
        else:
            for line in block.replace("\\\n", " ").splitlines():
                run_line(line)
    assert "mean" in capsys.readouterr().out


def run_line(line: str) -> None:
    command = line.partition("  #")[0].strip()
    if not command or command.startswith(("git ", "cd ", "pip ", "make ")):
        return  # set-up: what `make demo` and `make test` call is tested by itself
    words = shlex.split(command)
    assert words[0] == "isthmus", f"a README line that the test does not know: {line}"
    if words[1] == "train":
        words += shlex.split(SMALL)
        if "ctrl" not in words:  # a language model has no encoder
            words += shlex.split(SMALL_ENCODER)
    if words[1] in ("sample", "generate", "interpolate", "analogy", "reconstruct"):
        words += ["--max-new-tokens", "8"]
    assert main(words[1:]) == 0, line


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_make_targets_of_the_readme_exist(target):
    text = README.read_text(encoding="utf-8")
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    assert f"make {target}" in text
    assert re.search(rf"^{target}:", makefile, re.M)
