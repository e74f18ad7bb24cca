"""How the scale of the posterior head at the start decides how fast a fresh VAE learns.

Optimus starts the head with weights of 0.02. Behind a pretrained encoder that is enough; behind a
fresh small one z is noise at first, the decoder learns to ignore it, and the run takes long to
come back. Same data, model, steps and noise for every row; β = 0.05 throughout.

    python benchmarks/head_scale.py        # about five minutes on two cores
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from common import write
from isthmus.commands.common import quiet
from isthmus.data.corpus import read_splits
from isthmus.evaluation.metrics import evaluate
from isthmus.progress import console
from isthmus.settings import load_recipe
from isthmus.training import train

SCALES = (0.02, 0.5)
STEPS = 800
KEYS = ("reconstruction", "kl", "nll_iw", "exact_match", "mutual_information", "swap_gap")


def main() -> None:
    quiet()
    recipe = load_recipe("demo-autoencoder")
    splits = read_splits("scenes")
    test = read_splits("scenes").test
    assert test is not None
    rows = []
    for scale in SCALES:
        encoder = dataclasses.replace(recipe.model.encoder, head_scale=scale)
        settings = dataclasses.replace(
            recipe,
            model=dataclasses.replace(recipe.model, encoder=encoder),
            train=dataclasses.replace(recipe.train, steps=STEPS, evaluations=2),
        )
        with tempfile.TemporaryDirectory() as folder:
            model = train(settings, splits, Path(folder) / "run", resume=False, console=console())
        metrics = evaluate(model, model.codec.prepare(test.texts[:500]), samples=20, texts=500)
        row = {"head_scale": scale, "steps": STEPS}
        for key in KEYS:
            row |= {key: metrics[key], f"{key}_se": metrics[f"{key}_se"]}
        rows.append(row)
        print(row)
    write("head_scale", {"seed": 0, "sentences": 500, "iw_samples": 20, "rows": rows})


if __name__ == "__main__":
    main()
