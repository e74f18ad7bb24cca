"""Adaptive and full softmax: the speed of the layer, and what a model learns with either.

    python benchmarks/output_layer.py                     # half a minute on one thread
    python benchmarks/output_layer.py optimus captions 80 # recipe, data, processor seconds a run;
                                                          # then seeds, three by default

The first measures forward and backward of an output layer of 10,000 words under targets that
follow Zipf's law, 1/rank, for which an adaptive softmax is made; results/output_layer.json. The
second trains a recipe in bf16 with either layer. Steps of both are timed in turn
first; the adaptive layer gets as many steps as the full one, and as many as take the same time.
Each run is kept in ``runs/``; results/output_layer_runs.json has all that were made.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
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


def compared(recipe: str, data: str, budget: float, seeds: Sequence[int]) -> None:
    """All runs of a recipe on some data."""
    folder = FOLDER / f"{recipe}-{data}-{budget:g}"
    once(folder / "timed.json", partial(timed, recipe, data))
    full, longer = steps_of(folder, budget)
    for seed in seeds:
        for output, steps in (("softmax", full), ("adaptive", full), ("adaptive", longer)):
            path = folder / f"{output}-{steps}-{seed}.json"
            once(path, partial(run, recipe, data, output, steps, seed))
        report()


def steps_of(folder: Path, budget: float) -> tuple[int, int]:
    """Those that take a full and an adaptive layer the budget."""
    a_step = kept(folder / "timed.json")
    full, longer = (round(budget / a_step[output]) for output in OUTPUTS)
    return full, longer


def row_of(folder: Path, seed: int) -> dict[str, Any] | None:
    """What the runs of a seed found; None before there are two to compare."""
    recipe, data, budget = folder.name.rsplit("-", 2)
    full, longer = steps_of(folder, float(budget))
    whole, equal, later = (
        kept(folder / f"{name}-{seed}.json")
        for name in (f"softmax-{full}", f"adaptive-{full}", f"adaptive-{longer}")
    )
    if not whole or not equal:
        return None
    bound = torch.tensor(whole["negative_elbo"])
    a_step = kept(folder / "timed.json")
    row: dict[str, Any] = {"recipe": recipe, "data": data, "seed": seed, "steps": full}
    row |= {"speed": a_step["softmax"] / a_step["adaptive"], "steps_in_equal_time": longer}
    row["negative_elbo"] = common.figure(Estimate.mean_of(bound))
    for name, found in (("equal_steps", equal), ("equal_time", later)):
        if found:
            difference = torch.tensor(found["negative_elbo"]) - bound
            row[name] = common.figure(Estimate.mean_of(difference))
    return row


def report() -> None:
    """Each seed: how much faster a step is, and the paired differences of bounds."""
    folders = sorted(path for path in FOLDER.iterdir() if path.is_dir())
    found = [row_of(folder, seed) for folder in folders for seed in SEEDS]
    rows = [row for row in found if row]

    def shown(row: dict[str, Any], name: str) -> str:
        given = row.get(name)
        return common.plus_minus(given["value"], given["se"], 2) if given else ""

    lines = [
        (
            *(row["recipe"], row["data"], row["seed"], f"{row['speed']:.2f} ×", row["steps"]),
            *(shown(row, "negative_elbo"), shown(row, "equal_steps")),
            *(row["steps_in_equal_time"], shown(row, "equal_time")),
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
    seeds = [int(seed) for seed in sys.argv[4:]] or SEEDS
    compared(sys.argv[1], sys.argv[2], float(sys.argv[3]), seeds)


if __name__ == "__main__":
    main()
