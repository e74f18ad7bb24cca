"""A Bernoulli VAE on dynamically binarised MNIST: its distance from published bounds, its speed.

    python benchmarks/mnist.py            # trains into runs/mnist, resumes there

Training: all 50,000 pictures of the training part, binarised anew in every epoch (1 with the
probability of the grey value). Testing: the 10,000 of the test part, each binarised once in the
same way. This is dynamic binarisation, whose figures do not compare with those on the fixed
binarised files (Larochelle & Murray 2011) or on a threshold. Burda et al. (2016) report about 86
to 87 nats for a VAE with two layers of 200 units and 50 latents after far longer training. Writes
results/mnist.json.
"""

from __future__ import annotations

import time
from typing import Any

from common import DATA, RUNS, one_thread, seconds_of, settings_of, trained, write
from isthmus.data import pictures
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.metrics import latent_metrics, likelihood_metrics
from isthmus.models.pictures.model import PictureModel
from isthmus.runs.bundle import read_run

MNIST = str(DATA / "images" / "mnist.npz")
OUT = RUNS / "mnist"
SAMPLES = 1000
"""K of the importance-weighted bound."""


def judged(model: PictureModel) -> dict[str, Any]:
    """Bounds and latent of the test pictures."""
    test = model.codec.prepare(pictures.read(MNIST, split="test").examples)
    measured = bounds(model, test, samples=SAMPLES)
    figures = likelihood_metrics(measured, test) | latent_metrics(model, measured)
    del figures["kl_per_dimension"], figures["aggregate_standard_deviation"]
    nll, error = figures["nll_iw"], figures["nll_iw_se"]
    print(f"IW-NLL {nll:.2f} ± {error:.2f} nats, K = {SAMPLES}, N = {len(test)}")
    return {"pictures": len(test), "iw_samples": SAMPLES} | figures


def main() -> None:
    one_thread()
    model = trained(OUT, settings_of("picture-vae"), pictures.read_splits(MNIST))
    started = time.process_time()
    test = judged(model)
    write(
        "mnist",
        {
            "binarisation": "sampled: dynamic in training, once for the test part",
            "training": seconds_of(OUT) | {"steps": read_run(OUT)["steps"]},
            "settings": read_run(OUT)["settings"],
            "test": test,
            "test_processor_seconds": time.process_time() - started,
        },
    )


if __name__ == "__main__":
    main()
