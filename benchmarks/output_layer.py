"""Adaptive and full softmax: the speed of the layer, and what a model learns in the same time.

    python benchmarks/output_layer.py                     # half a minute on one thread
    python benchmarks/output_layer.py optimus captions 50 # recipe, data, processor seconds a run

The first measures forward and backward of an output layer of 10,000 words under targets that
follow Zipf's law, 1/rank, for which an adaptive softmax is made; results/output_layer.json. The
second trains a recipe with either layer, three seeds, in bf16. Steps of both are timed in turn
first, and each gets as many as take it the same processor time. Runs are kept in ``runs/``;
results/output_layer_runs.json has all that were made.
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
from common import DATA, RUNS, Clock, fitted, once, one_thread, settings_of, table, write
from isthmus.data.corpus import read_splits
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.build import build
from isthmus.models.output import AdaptiveOutput
from isthmus.settings import with_changes

TOKENS, HIDDEN, WORDS, STEPS = 1024, 256, 10_000, 12
SEEDS = (0, 1, 2)
OUTPUTS = ("softmax", "adaptive")
TEXTS, VALID = 40_000, 1000
"""Training texts, and validation texts that the bound is measured on."""
TIMED = 8
"""Steps of each layer that are timed before a run."""
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


def pair(recipe: str, data: str, budget: float, seed: int) -> dict[str, Any]:
    """Both layers: processor seconds of a step, timed in turn, and −ELBO after the same time."""
    splits = read_splits(str(DATA / data), limit=TEXTS)
    valid = splits.valid.sample(VALID, 0).examples
    made = {}
    for output in OUTPUTS:
        train = {"seed": seed, "precision": "bf16", "evaluations": 1}
        changes = {"train": train, "model": {"decoder": {"output": output}}}
        settings = settings_of(recipe, changes)
        torch.manual_seed(seed)
        model = build(settings, splits.train.examples)
        codec = model.codec
        made[output] = model, settings, codec.prepare(splits.train.examples), codec.prepare(valid)
    a_step = timed({name: (model, texts) for name, (model, _, texts, _) in made.items()})
    row: dict[str, Any] = {"recipe": recipe, "data": data, "budget": budget, "seed": seed}
    for output, (model, settings, texts, held_out) in made.items():
        steps = round(budget / a_step[output])
        changed = with_changes(settings, {"train": {"steps": steps}}, "benchmark")
        clock = Clock(1, steps - 1, time.process_time)
        model = fitted(model, changed, texts, held_out, clock)
        found = bounds(model, held_out, samples=1, seed=0)
        row[output] = {
            "steps": steps,
            "seconds_a_step": a_step[output],
            "training_seconds": clock.seconds,
            "negative_elbo": found.negative_elbo.tolist(),
            "reconstruction": found.reconstruction.mean().item(),
        }
    return row


def timed(models: dict[str, tuple[Any, Any]]) -> dict[str, float]:
    """Median processor seconds of a pass over a batch and back, in turn; weights stay."""
    found: dict[str, list[float]] = {name: [] for name in models}
    batches = list(next(iter(models.values()))[1].batches(2048))
    chosen = batches[:: max(1, len(batches) // TIMED)][:TIMED]
    for indices in [chosen[0], *chosen]:  # the first does not count
        for name, (model, texts) in models.items():
            begun = time.process_time()
            with torch.autocast("cpu", torch.bfloat16):
                output = model.train()(**texts.collate(indices, noise_shape=model.latent_shape))
            (output.reconstruction + output.kl.sum(1)).mean().backward()
            model.zero_grad()
            found[name].append(time.process_time() - begun)
    return {name: median(times[1:]) for name, times in found.items()}


def report() -> None:
    """Each run: the ratio of times, and the paired difference of bounds."""
    lines, rows = [], []
    for run in common.all_kept(FOLDER):
        full, adaptive = (torch.tensor(run[name].pop("negative_elbo")) for name in OUTPUTS)
        whole, difference = Estimate.mean_of(full), Estimate.mean_of(adaptive - full)
        speed = run["softmax"]["seconds_a_step"] / run["adaptive"]["seconds_a_step"]
        rows.append(
            run
            | {
                "speed": speed,
                "negative_elbo": common.figure(whole),
                "difference": common.figure(difference),
            }
        )
        spent = " / ".join(f"{run[name]['training_seconds']:.0f} s" for name in OUTPUTS)
        lines.append(
            (
                *(run["recipe"], run["data"], run["seed"], f"{speed:.2f} ×", spent),
                common.plus_minus(whole.value, whole.standard_error, 2),
                common.plus_minus(difference.value, difference.standard_error, 2),
            )
        )
    head = ("recipe", "data", "seed", "speed of adaptive", "processor time")
    head += ("−ELBO, softmax", "adaptive − softmax")
    text = "# An adaptive softmax for BPE tokens sorted by frequency, at equal time\n\n"
    text += "One core, bf16; nats a text, paired over the same validation texts.\n\n"
    write("output_layer_runs", {"rows": rows}, text + "\n".join(table(head, lines)) + "\n")


def main() -> None:
    one_thread()
    if len(sys.argv) == 1:
        layer()
        return
    recipe, data, budget = sys.argv[1], sys.argv[2], float(sys.argv[3])
    for seed in SEEDS:
        path = FOLDER / f"{recipe}-{data}-{budget:g}-{seed}.json"
        once(path, partial(pair, recipe, data, budget, seed))
        report()


if __name__ == "__main__":
    main()
