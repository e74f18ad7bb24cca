"""Training speed on pictures: LatentTrainer and a bare PyTorch loop, on one thread.

    python benchmarks/pictures.py            # a few minutes; results/pictures.json

The bare loop is what one would write without Isthmus: the same networks, batch, optimiser and
binarisation, noise from torch's generator, no log, no check. The two alternate; each figure is the
best of its rounds in *processor* time of the process, which on one thread equals wall time on an
idle machine.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from common import DATA, Clock, fitted, one_thread, settings_of, write
from isthmus.data import pictures
from isthmus.data.kind import Splits
from isthmus.models.build import build
from isthmus.settings import Settings

FIRST, LAST, ROUNDS = 20, 420, 4

SETS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "mnist": (str(DATA / "images" / "mnist.npz"), 128, {}),
    "digits": ("digits", 256, {"hidden_size": 128, "layers": 1}),
}
"""Name → (DATA, pictures per batch, changes to the networks of the recipe)."""


def perceptron(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def bare_loop(grey: torch.Tensor, settings: Settings) -> float:
    """Processor seconds of the timed steps in plain PyTorch."""
    picture, latent = settings.model.picture, settings.model.latent_size
    rows = settings.train.sentences_per_batch
    inner = [picture.hidden_size] * picture.layers
    encoder = perceptron([grey.shape[1], *inner, 2 * latent])
    decoder = perceptron([latent, *inner, grey.shape[1]])
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=1e-3, fused=True)
    step, started = 0, 0.0
    while True:
        for chosen in torch.randperm(len(grey)).split(rows):
            if step == FIRST:
                started = time.process_time()
            if step == LAST:
                return time.process_time() - started
            x = torch.bernoulli(grey[chosen])
            mean, log_variance = encoder(x).chunk(2, -1)
            z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            reconstruction = functional.binary_cross_entropy_with_logits(
                decoder(z), x, reduction="sum"
            )
            kl = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
            ((reconstruction + kl) / len(x)).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad()
            step += 1


def trainer(splits: Splits[pictures.PictureCorpus], settings: Settings) -> float:
    """Processor seconds of the same steps by LatentTrainer."""
    model = build(settings, splits.train.examples)
    clock = Clock(FIRST, LAST, time.process_time)
    train = model.codec.prepare_training(splits.train.examples, None)
    fitted(model, settings, train, model.codec.prepare(splits.valid.examples[:100]), clock)
    return clock.seconds


def measure(name: str) -> dict[str, Any]:
    data, rows, networks = SETS[name]
    # One step more than is timed, so the evaluation at the end is not in it.
    train = {"steps": LAST + 1, "evaluations": 1, "sentences_per_batch": rows}
    settings = settings_of("picture-vae", {"model": {"picture": networks}, "train": train})
    splits = pictures.read_splits(data)
    grey = torch.from_numpy(splits.train.examples).flatten(1) / 255
    ours, bare = [], []
    for _ in range(ROUNDS):
        bare.append(bare_loop(grey, settings))
        ours.append(trainer(splits, settings))
    count = rows * (LAST - FIRST)
    return {
        "pictures_a_batch": rows,
        "trainer_pictures_per_second": count / min(ours),
        "bare_pictures_per_second": count / min(bare),
        "ratio": min(bare) / min(ours),
        "all_seconds": {"trainer": ours, "bare": bare},
    }


def main() -> None:
    one_thread()
    results = {}
    for name in SETS:
        if not Path(SETS[name][0]).exists() and name != "digits":
            print(f"{name}: no data")
            continue
        results[name] = measure(name)
        print(name, results[name])
    write("pictures", results)


if __name__ == "__main__":
    main()
