"""Adaptive and full softmax: the speed of the layer, and what a model learns with either.

    python benchmarks/output_layer.py                     # half a minute on one thread
    python benchmarks/output_layer.py optimus captions 80 # recipe, data, processor seconds a run

The first measures forward and backward of an output layer of 10,000 words under targets that
follow Zipf's law, 1/rank, for which an adaptive softmax is made; results/output_layer.json. The
second trains a recipe in bf16 with either layer, three seeds. Steps of both are timed in turn
first; the adaptive layer gets as many steps as the full one, and as many as take the same time.
Each run is kept in ``runs/``; results/output_layer_runs.json has all that were made.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import common
from common import (
    DATA,
    RUNS,
    Clock,
    fitted,
    keep,
    kept,
    once,
    one_thread,
    settings_of,
    table,
    write,
)
from isthmus.data.corpus import read_splits
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.build import build
from isthmus.models.output import AdaptiveOutput
from isthmus.settings import Settings, with_changes

TOKENS, HIDDEN, WORDS, STEPS = 1024, 256, 10_000, 12
SEEDS = (0, 1, 2)
OUTPUTS = ("softmax", "adaptive")
TEXTS, VALID = 20_000, 1000
"""Training texts, and validation texts that the bound is measured on."""
TIMED = 12
"""Steps of each layer that are timed."""
FOLDER = RUNS / "output-layer"


def seconds(losses: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Median processor time of a step."""
    generator = torch.Generator().manual_seed(0)
    zipf = 1 / torch.arange(1, WORDS + 1).double()
    hidden = torch.randn(TOKENS, HIDDEN, generator=generator, requires_grad=True)
    found = []
    for _ in range(STEPS):
        targets = torch.multinomial(zipf, TOKENS, replacement=True, generator=generator)
        started = time.process_time()
        losses(hidden, targets).sum().backward()
        found.append(time.process_time() - started)
    return sorted(found)[STEPS // 2]


def layer() -> None:
    """The layer by itself."""
    full, adaptive = nn.Linear(HIDDEN, WORDS), AdaptiveOutput(HIDDEN, WORDS)
    rows = {
        "softmax": seconds(lambda h, t: functional.cross_entropy(full(h), t, reduction="none")),
        "adaptive": seconds(adaptive),
    }
    print(rows)
    figures = {"tokens": TOKENS, "hidden": HIDDEN, "words": WORDS, "seconds": rows}
    write("output_layer", figures | {"ratio": rows["softmax"] / rows["adaptive"]})


def made(recipe: str, data: str, output: str, seed: int) -> tuple[Any, Settings, Any, Any]:
    """A fresh model, its settings, and its texts of both splits."""
    splits = read_splits(str(DATA / data), limit=TEXTS)
    train = {"seed": seed, "precision": "bf16", "evaluations": 1}
    settings = settings_of(recipe, {"train": train, "model": {"decoder": {"output": output}}})
    torch.manual_seed(seed)
    model = build(settings, splits.train.examples)
    valid = splits.valid.sample(VALID, 0).examples
    return model, settings, model.codec.prepare(splits.train.examples), model.codec.prepare(valid)


def timed(recipe: str, data: str) -> dict[str, Any]:
    """Median processor seconds of a pass over a batch and back with either layer, in turn."""
    models = {output: made(recipe, data, output, 0) for output in OUTPUTS}
    found: dict[str, list[float]] = {name: [] for name in models}
    batches = list(models["softmax"][2].batches(2048))
    chosen = batches[:: max(1, len(batches) // TIMED)][:TIMED]
    for indices in [chosen[0], *chosen]:  # the first does not count
        for name, (model, _, texts, _) in models.items():
            begun = time.process_time()
            with torch.autocast("cpu", torch.bfloat16):
                output = model.train()(**texts.collate(indices, noise_shape=model.latent_shape))
            (output.reconstruction + output.kl.sum(1)).mean().backward()
            model.zero_grad()
            found[name].append(time.process_time() - begun)
    return {name: median(times[1:]) for name, times in found.items()}


def run(recipe: str, data: str, output: str, steps: int, seed: int) -> dict[str, Any]:
    """−ELBO of the validation texts after some steps."""
    model, settings, texts, valid = made(recipe, data, output, seed)
    settings = with_changes(settings, {"train": {"steps": steps}}, "benchmark")
    clock = Clock(1, steps - 1, time.process_time)
    model = fitted(model, settings, texts, valid, clock)
    found = bounds(model, valid, samples=1, seed=0)
    return {
        "training_seconds": clock.seconds,
        "negative_elbo": found.negative_elbo.tolist(),
        "reconstruction": found.reconstruction.mean().item(),
    }


def compared(recipe: str, data: str, budget: float) -> None:
    """All runs of a recipe on some data."""
    begin = FOLDER / f"{recipe}-{data}-{budget:g}"
    once(begin / "timed.json", partial(timed, recipe, data))
    a_step = kept(begin / "timed.json")
    full, longer = (round(budget / a_step[output]) for output in OUTPUTS)
    for seed in SEEDS:
        found = {}
        for output, steps in (("softmax", full), ("adaptive", full), ("adaptive", longer)):
            path = begin / f"{output}-{steps}-{seed}.json"
            once(path, partial(run, recipe, data, output, steps, seed))
            found[output, steps] = kept(path)
        whole = torch.tensor(found["softmax", full]["negative_elbo"])
        row: dict[str, Any] = {"recipe": recipe, "data": data, "budget": budget, "seed": seed}
        row |= {"speed": a_step["softmax"] / a_step["adaptive"], "steps": [full, longer]}
        row["training_seconds"] = [each["training_seconds"] for each in found.values()]
        row["negative_elbo"] = common.figure(Estimate.mean_of(whole))
        for name, steps in (("equal_steps", full), ("equal_time", longer)):
            other = torch.tensor(found["adaptive", steps]["negative_elbo"])
            row[name] = common.figure(Estimate.mean_of(other - whole))
        keep(row, FOLDER / f"{recipe}-{data}-{budget:g}-{seed}.json")
        report()


def report() -> None:
    """Each seed: how much faster a step is, and the paired differences of bounds."""
    rows = common.all_kept(FOLDER)

    def shown(found: dict[str, float]) -> str:
        return common.plus_minus(found["value"], found["se"], 2)

    lines = [
        (
            *(row["recipe"], row["data"], row["seed"], f"{row['speed']:.2f} ×", row["steps"][0]),
            *(shown(row[name]) for name in ("negative_elbo", "equal_steps")),
            *(row["steps"][1], shown(row["equal_time"])),
        )
        for row in rows
    ]
    head = ("recipe", "data", "seed", "speed of adaptive", "steps", "−ELBO, softmax")
    head += ("adaptive, equal steps", "its steps in equal time", "adaptive, equal time")
    text = "# An adaptive softmax for BPE tokens that are numbered by frequency\n\n"
    text += "One core, bf16; nats a text, differences paired over the same validation texts.\n\n"
    write("output_layer_runs", {"rows": rows}, text + "\n".join(table(head, lines)) + "\n")


def main() -> None:
    one_thread()
    if len(sys.argv) == 1:
        layer()
        return
    compared(sys.argv[1], sys.argv[2], float(sys.argv[3]))


if __name__ == "__main__":
    main()
