"""What training logs between two lines: sums over sentences, and estimates from posteriors."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from isthmus.evaluation.usage import active_units, mutual_information
from isthmus.latent.distribution import Posterior
from isthmus.models.base import TermsOutput
from isthmus.models.codec import Batch, predicted
from isthmus.training.watch import kl_matrix

_REMEMBERED = 1024
"""Posteriors of the last examples, for the estimates that are logged while training."""


@final
class Meter:
    """Sums between two lines of the log, and the posteriors of the last examples.

    Args:
        family: of the model's posteriors.
        label_names: of a model with labels, whose losses are told label by label.
    """

    def __init__(self, family: type[Posterior], label_names: Sequence[str] = ()) -> None:
        self.family, self.label_names = family, label_names
        self.recent: list[Posterior] = []
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
        self.terms: Counter[str] = Counter()
        self.per_label = torch.zeros(2, len(self.label_names), dtype=torch.double)
        self.kl: Tensor | None = None
        self.since = time.perf_counter()

    def add(self, output: TermsOutput, batch: Batch) -> None:
        """Count a batch."""
        self.examples += len(output.reconstruction)
        for targets in predicted(batch):
            # What has no sign has no gaps either, and a picture's levels are many.
            every = not targets.dtype.is_signed
            self.tokens += targets.numel() if every else int((targets >= 0).sum())
        self.reconstruction += output.reconstruction.detach().sum()
        for name, term in output.terms.named.items():
            self.terms[name] += term.detach().double().sum()
        if self.label_names and "labels" in batch:
            self._add_per_label(output, batch)
        kl = kl_matrix(output.kl.detach()).double().sum(0)
        self.kl = kl if self.kl is None else self.kl + kl
        self.recent.append(self.family(*output.posterior).cpu())
        self.draws.append(output.z.cpu())
        while sum(map(len, self.recent[1:])) >= _REMEMBERED:
            self.recent.pop(0)
            self.draws.pop(0)

    def _add_per_label(self, output: TermsOutput, batch: Batch) -> None:
        """Losses and numbers of the examples that were read under their own label."""
        told = batch["labels"] >= 0
        if "dropped" in batch:
            told = told & ~batch["dropped"]
        labels, losses = batch["labels"][told], output.reconstruction.detach()[told].double()
        sums = losses.new_zeros(len(self.label_names)).index_add(0, labels, losses)
        counts = labels.bincount(minlength=len(self.label_names)).to(sums)
        self.per_label = self.per_label.to(sums.device) + torch.stack([sums, counts])

    def summary(
        self, over_processes: Callable[[Tensor], Tensor]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Scalars for every log; the KL of every dimension and the loss under every label.

        The sums are taken over all processes; what is estimated from posteriors comes from this
        one's.
        """
        assert self.kl is not None
        counts = self.kl.new_tensor(
            [self.examples, self.tokens, self.reconstruction, *self.terms.values()]
        )
        per_label = self.per_label.flatten().to(counts)
        sums = over_processes(torch.cat([counts, per_label, self.kl])).tolist()
        examples, tokens, reconstruction, *rest = sums
        terms, rest = rest[: len(self.terms)], rest[len(self.terms) :]
        per_dimension = [value / examples for value in rest[per_label.numel() :]]
        lists: dict[str, Any] = {"kl_per_dimension": per_dimension}
        number = len(self.label_names)
        if any(rest[number : 2 * number]):
            lists["reconstruction_per_label"] = {
                name: rest[place] / rest[number + place] if rest[number + place] else None
                for place, name in enumerate(self.label_names)
            }
        posterior = Posterior.concatenate(self.recent)
        values = {
            "reconstruction": reconstruction / examples,
            "kl": math.fsum(per_dimension),
            **{name: total / examples for name, total in zip(self.terms, terms, strict=True)},
            "active_units": active_units(posterior).value,
            "mutual_information": mutual_information(posterior, torch.cat(self.draws)).value,
            "mutual_information_limit": math.log(len(posterior)),
            "tokens_per_second": tokens / (time.perf_counter() - self.since),
        }
        return values, lists
