"""A Bernoulli VAE on dynamically binarised MNIST: how near to the published bounds, how fast.

    python benchmarks/mnist.py            # trains into runs/mnist, goes on there if it was stopped

Training: all 50,000 pictures of the train part, made binary anew in every epoch (1 with the
probability of the grey value). Judged on the 10,000 of the test part, each made binary in the same
way once for all: that is dynamic binarisation, whose figures do not compare with those on the
fixed binarised files (Larochelle & Murray 2011) or on a threshold. Burda et al. (2016) report
about 86 to 87 nats for a VAE with two layers of 200 units and 50 latents after far longer
training. Writes results/mnist.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from common import DATA, write
from isthmus.commands.common import console, quiet
from isthmus.data import pictures
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.metrics import latent_metrics, likelihood_metrics
from isthmus.runs.bundle import RUN_FILE, load, read_run
from isthmus.settings import load_recipe
from isthmus.training.run import SETTINGS_FILE, train

MNIST = DATA / "images" / "mnist.npz"
OUT = Path("runs") / "mnist"
SAMPLES = 1000
"""K of the importance-weighted bound."""


def trained() -> dict[str, Any]:
    """Train, or go on; seconds of all legs."""
    legs_file = OUT.with_name("mnist-seconds.json")
    legs = json.loads(legs_file.read_text()) if legs_file.is_file() else []
    if not (OUT / RUN_FILE).is_file():
        settings = load_recipe("picture-vae")
        splits = pictures.read_splits(str(MNIST))
        wall, processor = time.perf_counter(), time.process_time()
        try:
            resume = (OUT / SETTINGS_FILE).is_file()
            train(settings, splits, OUT, resume=resume, console=console())
        finally:
            spent = {
                "wall": time.perf_counter() - wall,
                "processor": time.process_time() - processor,
            }
            legs.append(spent)
            legs_file.write_text(json.dumps(legs))
    return {f"{kind}_seconds": sum(leg[kind] for leg in legs) for kind in ("wall", "processor")}


def main() -> None:
    torch.set_num_threads(1)
    quiet()
    seconds = trained()
    model = load(OUT)
    test = model.codec.prepare(pictures.read(str(MNIST), split="test").examples)
    started = time.process_time()
    measured = bounds(model, test, samples=SAMPLES)
    spent = time.process_time() - started
    figures = likelihood_metrics(measured, test) | latent_metrics(model, measured)
    del figures["kl_per_dimension"], figures["aggregate_standard_deviation"]
    write(
        "mnist",
        {
            "binarisation": "sampled: dynamic in training, once for all in the test part",
            "training": seconds | {"steps": read_run(OUT)["steps"]},
            "settings": read_run(OUT)["settings"],
            "test": {"pictures": len(test), "iw_samples": SAMPLES} | figures,
            "test_processor_seconds": spent,
        },
    )
    nll, error = figures["nll_iw"], figures["nll_iw_se"]
    print(f"IW-NLL {nll:.2f} ± {error:.2f} nats, K = {SAMPLES}, N = {len(test)}")


if __name__ == "__main__":
    main()
