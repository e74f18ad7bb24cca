"""How the initial scale of the posterior head decides how fast a fresh VAE learns.

Optimus initialises the head with weights of 0.02. After a pretrained encoder that is enough; after
a fresh small one z is noise at first, the decoder learns to ignore it, and the run takes long to
recover. Same data, model, steps and noise for every row; β = 0.05 throughout.

    python benchmarks/head_scale.py        # about five minutes on two cores
"""

from __future__ import annotations

from common import RUNS, settings_of, trained, write
from isthmus.commands.common import quiet
from isthmus.data import scenes
from isthmus.data.corpus import read_splits
from isthmus.evaluation.metrics import evaluate

SCALES = (0.02, 0.5)
STEPS = 800
KEYS = ("reconstruction", "kl", "nll_iw", "exact_match", "mutual_information", "swap_gap")


def main() -> None:
    quiet()
    splits = read_splits("scenes")
    texts = [sentence.text for sentence in scenes.generate("test", 500)]
    rows = []
    for scale in SCALES:
        changes = {
            "model": {"encoder": {"head_scale": scale}},
            "train": {"steps": STEPS, "evaluations": 2},
        }
        settings = settings_of("demo-autoencoder", changes)
        model = trained(RUNS / "head_scale" / f"{scale:g}", settings, splits)
        metrics = evaluate(model, model.codec.prepare(texts), samples=20, texts=500)
        row = {"head_scale": scale, "steps": STEPS}
        for key in KEYS:
            row |= {key: metrics[key], f"{key}_se": metrics[f"{key}_se"]}
        rows.append(row)
        print(row)
    write("head_scale", {"seed": 0, "sentences": 500, "iw_samples": 20, "rows": rows})


if __name__ == "__main__":
    main()
