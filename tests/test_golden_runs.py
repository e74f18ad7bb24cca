"""Small runs of every kind, from the command line to run.json: their figures stay what they were.

``golden_runs.json`` was written by this file, run as a program, before the code was rearranged. A
figure may change only with a reason, which the commit that changes it gives.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus import cli

GOLDEN = Path(__file__).with_name("golden_runs.json")
WORDS = [
    *("red", "blue", "green", "small", "large", "quick", "slow", "round"),
    *("old", "new", "cat", "dog", "car", "tree", "house", "runs"),
]
RUN = ["--train.steps", "4", "--train.evaluations", "2", "--train.precision", "float32"]
TEXT = [*RUN, "--train.tokens-per-batch", "400"]
PICTURE = [*RUN, "--train.sentences-per-batch", "8", "--data.limit", "32"]
FLOOR = ["--objective.free-bits", "3", "--objective.free-bits-form", "total"]
NOISE = ["--data.deletion", "0.2", "--data.word-dropout", "0.2"]
CASES = {
    "demo": ["scenes", "--recipe", "demo", *TEXT, "--data.limit", "100"],
    "t5-vae": ["labelled", "--recipe", "t5-vae", *TEXT],
    "mixture": ["labelled", "--recipe", "lstm-vae", *TEXT, "--model.prior", "mixture"],
    "vamp": ["labelled", "--recipe", "demo", *TEXT, "--model.prior", "vamp"],
    "flow": ["labelled", "--recipe", "demo", *TEXT, "--model.prior", "flow"],
    "two phases": ["labelled", "--recipe", "encoder-pretraining", *TEXT, "--first.epochs", "0.5"],
    "few labels": ["labelled", "--recipe", "scnn-vae-semi", *TEXT, "--data.labelled", "60"],
    "codes": ["labelled", "--recipe", "ctrl", *TEXT],
    "style": ["labelled", "--recipe", "style", *TEXT],
    "semi-amortised": ["labelled", "--recipe", "lstm-vae", *TEXT, "--train.semi-amortised", "2"],
    "floor": ["labelled", "--recipe", "demo", *TEXT, *FLOOR, *NOISE],
    "picture-vae": ["scenes", "--recipe", "picture-vae", *PICTURE],
    "picture-labels": ["digits", "--recipe", "picture-labels", *PICTURE, "--data.labelled", "20"],
    "picture-perceptual": ["pictures", "--recipe", "picture-perceptual", *PICTURE],
    "doors": ["pictures", "--recipe", "doors", *PICTURE],
}
TIMES = ("per_second", "runtime")

pytestmark = pytest.mark.usefixtures("undrawn")


def pictures(path: Path) -> str:
    """40 pictures of one coloured square each, with a caption that names colour and place."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 60, (40, 16, 16, 3), dtype=np.uint8)
    captions = []
    for image in images:
        colour, row, column = draw.integers(0, (3, 10, 10))
        image[row : row + 6, column : column + 6, colour] = 230
        captions.append(f"a {WORDS[colour]} square {'above' if row < 5 else 'below'}")
    np.savez(path, images=images, captions=np.array(captions))
    return str(path)


def corpus(path: Path) -> str:
    """300 lines of LABEL TAB TEXT; the two labels share half of their words."""
    draw = random.Random(0)
    lines = []
    for _ in range(300):
        label = draw.choice(["good", "bad"])
        words = WORDS[:11] if label == "good" else WORDS[5:]
        text = " ".join(draw.choice(words) for _ in range(draw.randint(3, 9)))
        lines.append(f"{label}\t{text}\n")
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def figures(name: str, folder: Path) -> dict[str, float]:
    """Every number of a run's metrics and of the last line of its log, by its key."""
    data, *rest = CASES[name]
    makers = {
        "labelled": lambda: corpus(folder / "data.tsv"),
        "pictures": lambda: pictures(folder / "data.npz"),
    }
    source = makers[data]() if data in makers else data
    torch.set_num_threads(1)
    assert cli.main(["train", source, *rest, "--out", str(folder / "run")]) == 0
    metrics = json.loads((folder / "run" / "run.json").read_text())["metrics"]
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    last = {f"log/{key}": value for record in log for key, value in record.items()}
    return {
        key: value
        for key, value in (metrics | last).items()
        if isinstance(value, int | float) and not key.endswith(TIMES)
    }


@pytest.mark.parametrize("name", CASES)
def test_a_run_gives_the_same_figures(name, tmp_path, capsys):
    golden = json.loads(GOLDEN.read_text())[name]
    found = figures(name, tmp_path)
    assert set(golden) <= set(found)
    # A gap is the difference of two losses of float32, and has their rounding.
    of_losses = 4 * float(np.spacing(np.float32(golden["reconstruction"])))
    for key, value in golden.items():
        # Other processors sum in another order; four steps amplify that a little.
        least = of_losses if "gap" in key else 1e-6
        assert found[key] == pytest.approx(value, rel=2e-4, abs=least), key


if __name__ == "__main__":
    import tempfile

    written = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            written[case] = figures(case, Path(scratch))
    GOLDEN.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
