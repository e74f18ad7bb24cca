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

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import DATA, write
from isthmus.bundle import RUN_FILE, load, read_run
from isthmus.commands.common import console, quiet
from isthmus.data import pictures
from isthmus.evaluate.likelihood import bounds
from isthmus.evaluate.report import latent_metrics, likelihood_metrics
from isthmus.evaluate.usage import Estimate
from isthmus.run import SETTINGS_FILE, train
from isthmus.settings import load_recipe

MNIST = DATA / "images" / "mnist.npz"
OUT = Path("runs") / "mnist"
SAMPLES, SUBSET = 1000, 1000
"""K of the importance-weighted bound, and on how many random test pictures."""


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
    test = pictures.read(str(MNIST), split="test")
    everything = model.codec.prepare(test.examples)
    measured = bounds(model, everything, samples=1)
    figures = {
        "elbo_pictures": len(everything),
        **likelihood_metrics(measured, everything),
        **{
            name: value
            for name, value in latent_metrics(model, measured).items()
            if name.startswith(("active", "mutual", "swap"))
        },
    }
    for name in [name for name in figures if name.startswith(("nll_iw", "bits", "inference"))]:
        del figures[name]  # of one sample: the ELBO by another estimator
    chosen = np.sort(np.random.default_rng(0).choice(len(test), SUBSET, replace=False))
    some = model.codec.prepare(test.examples[chosen])
    started = time.process_time()
    tight = bounds(model, some, samples=SAMPLES)
    nll = Estimate.mean_of(tight.nll_iw)
    write(
        "mnist",
        {
            "binarisation": "sampled (dynamic)",
            "training": seconds | {"steps": read_run(OUT)["steps"]},
            "settings": dataclasses.asdict(load_recipe("picture-vae"))["model"]["picture"],
            "test": figures,
            "iw": {
                "nll_iw": nll.value,
                "nll_iw_se": nll.standard_error,
                "iw_samples": SAMPLES,
                "pictures": SUBSET,
                "bits_per_dimension": nll.value / (784 * math.log(2)),
                "elbo_of_the_same": -tight.negative_elbo.mean().item(),
                "processor_seconds": time.process_time() - started,
            },
        },
    )
    print(f"IW-NLL {nll.value:.2f} ± {nll.standard_error:.2f} nats, K = {SAMPLES}, N = {SUBSET}")


if __name__ == "__main__":
    main()
