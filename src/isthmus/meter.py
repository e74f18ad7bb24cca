"""What training logs between two lines: sums over sentences, and estimates from posteriors."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from isthmus.evaluate.usage import active_units, mutual_information
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import TermsOutput
from isthmus.models.codec import Batch
from isthmus.watch import kl_matrix

_REMEMBERED = 1024
"""Posteriors of the last examples, for the estimates that are logged while training."""


@final
class Meter:
    """Sums between two lines of the log, and the posteriors of the last examples."""

    def __init__(self) -> None:
        self.recent: list[DiagonalGaussian] = []
        self.draws: list[Tensor] = []
        self.clear()

    def forget(self) -> None:
        """Start anew, as a resumed run does."""
        self.recent.clear()
        self.draws.clear()
        self.clear()

    def clear(self) -> None:
        """Start the next interval."""
        self.examples = self.tokens = 0
        self.reconstruction = 0.0
        self.labels: Counter[str] = Counter()
        self.kl: Tensor | None = None
        self.since = time.perf_counter()

    def add(self, output: TermsOutput, batch: Batch) -> None:
        """Count a batch."""
        self.examples += len(output.reconstruction)
        self.tokens += int((batch["targets"] >= 0).sum())
        self.reconstruction += output.reconstruction.detach().sum()
        for name in ("label", "classification", "balance"):
            if name in output:
                self.labels[name] += output[name].detach().double().sum()
        kl = kl_matrix(output.kl.detach()).double().sum(0)
        self.kl = kl if self.kl is None else self.kl + kl
        self.recent.append(DiagonalGaussian(output.mean, output.log_variance).cpu())
        self.draws.append(output.z.cpu())
        while sum(map(len, self.recent[1:])) >= _REMEMBERED:
            self.recent.pop(0)
            self.draws.pop(0)

    def summary(
        self, over_processes: Callable[[Tensor], Tensor]
    ) -> tuple[dict[str, float], list[float]]:
        """Scalars for every log, and the KL of every dimension.

        The sums are taken over all processes; what is estimated from posteriors comes from this
        one's.
        """
        assert self.kl is not None
        counts = self.kl.new_tensor(
            [self.examples, self.tokens, self.reconstruction, *self.labels.values()]
        )
        sums = over_processes(torch.cat([counts, self.kl])).tolist()
        examples, tokens, reconstruction, *rest = sums
        labels, kl = rest[: len(self.labels)], rest[len(self.labels) :]
        per_dimension = [value / examples for value in kl]
        posterior = DiagonalGaussian.concatenate(self.recent)
        values = {
            "reconstruction": reconstruction / examples,
            "kl": math.fsum(per_dimension),
            **{name: total / examples for name, total in zip(self.labels, labels, strict=True)},
            "active_units": active_units(posterior).value,
            "mutual_information": mutual_information(posterior, torch.cat(self.draws)).value,
            "mutual_information_limit": math.log(len(posterior)),
            "tokens_per_second": tokens / (time.perf_counter() - self.since),
        }
        return values, per_dimension
