"""Adaptive and full softmax: forward and backward of an output layer of 10,000 words.

    python benchmarks/output_layer.py      # half a minute on one thread; results/output_layer.json

Targets follow Zipf's law, 1/rank, for which an adaptive softmax is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from common import one_thread, write
from isthmus.models.output import AdaptiveOutput

TOKENS, HIDDEN, WORDS, STEPS = 1024, 256, 10_000, 12


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


def main() -> None:
    one_thread()
    full, adaptive = nn.Linear(HIDDEN, WORDS), AdaptiveOutput(HIDDEN, WORDS)
    rows = {
        "softmax": seconds(lambda h, t: functional.cross_entropy(full(h), t, reduction="none")),
        "adaptive": seconds(adaptive),
    }
    print(rows)
    figures = {"tokens": TOKENS, "hidden": HIDDEN, "words": WORDS, "seconds": rows}
    write("output_layer", figures | {"ratio": rows["softmax"] / rows["adaptive"]})


if __name__ == "__main__":
    main()
