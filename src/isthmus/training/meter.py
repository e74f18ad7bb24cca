"""What training logs between two lines: sums over sentences, and estimates from posteriors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor

from isthmus.evaluation.likelihood import Bounds
from isthmus.evaluation.usage import Estimate, active_units, mutual_information
from isthmus.latent.distribution import Posterior
from isthmus.models.base import TermsOutput
from isthmus.models.codec import Batch, predicted

_REMEMBERED = 1024
"""Number of the last examples whose posteriors the logged estimates come from."""
_SUMS = ("examples", "tokens", "reconstruction", "terms", "per_label", "kl")
"""What :meth:`Meter.clear` sets to zero, but for the time."""


@final
class Meter:
    """Sums between two lines of the log, and the posteriors of the last examples.

    Args:
        family: of the model's posteriors.
        label_names: of a model with labels; the reconstruction is logged for each.
    """

    def __init__(self, family: type[Posterior], label_names: Sequence[str] = ()) -> None:
        self.family, self.label_names = family, label_names
        self.recent: list[Posterior] = []
        self.draws: list[Tensor] = []
        self.clear()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside takes no time of the interval."""
        begun = time.perf_counter()
        yield
        self.since += time.perf_counter() - begun

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs for :meth:`restore`."""
        return {
            "sums": {name: vars(self)[name] for name in _SUMS},
            "recent": [tuple(map(Tensor.detach, each.tensors)) for each in self.recent],
            "draws": [each.detach() for each in self.draws],
            "seconds": time.perf_counter() - self.since,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the interval in which a checkpoint was written."""
        vars(self).update(state["sums"])
        self.recent = [self.family(*tensors).cpu() for tensors in state["recent"]]
        self.draws = [each.cpu() for each in state["draws"]]
        self.since = time.perf_counter() - state["seconds"]

    def clear(self) -> None:
        """Start the next interval."""
        self.examples = self.tokens = 0
        self.reconstruction: Tensor | float = 0.0
        self.terms: dict[str, Tensor | float] = {}
        self.per_label = torch.zeros(2, len(self.label_names), dtype=torch.double)
        self.kl: Tensor | None = None
        self.since = time.perf_counter()

    def add(self, output: TermsOutput, batch: Batch) -> None:
        """Count a batch."""
        self.examples += len(output.reconstruction)
        for targets in predicted(batch):
            # Targets of an unsigned type (values of pictures) have no gaps to count.
            gapless = not targets.dtype.is_signed
            self.tokens += targets.numel() if gapless else int((targets >= 0).sum())
        self.reconstruction = self.reconstruction + output.reconstruction.detach().sum()
        for name, term in output.terms.named.items():
            self.terms[name] = self.terms.get(name, 0.0) + term.detach().double().sum()
        if self.label_names and "labels" in batch:
            self._add_per_label(output, batch)
        kl = output.kl.detach().flatten(1).double().sum(0)
        self.kl = kl if self.kl is None else self.kl + kl
        self.recent.append(self.family(*output.posterior).cpu())
        self.draws.append(output.z.cpu())
        while sum(map(len, self.recent[1:])) >= _REMEMBERED:
            self.recent.pop(0)
            self.draws.pop(0)

    def _add_per_label(self, output: TermsOutput, batch: Batch) -> None:
        """Losses and numbers of the examples that were read under their own label."""
        own = batch["labels"] >= 0
        if "dropped" in batch:
            own = own & ~batch["dropped"]
        labels, losses = batch["labels"][own], output.reconstruction.detach()[own].double()
        sums = losses.new_zeros(len(self.label_names)).index_add(0, labels, losses)
        counts = labels.bincount(minlength=len(self.label_names)).to(sums)
        self.per_label = self.per_label.to(sums.device) + torch.stack([sums, counts])

    def summary(
        self, over_processes: Callable[[Tensor], Tensor]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Scalars for every log; the KL of each dimension and the reconstruction of each label.

        Sums are over all processes; estimates come from the posteriors of this one.
        """
        assert self.kl is not None
        parts = [
            self.kl.new_tensor([self.examples, self.tokens, self.reconstruction]),
            self.kl.new_tensor(list(self.terms.values())),
            self.kl,
            *self.per_label.to(self.kl),
        ]
        sums = over_processes(torch.cat(parts)).split(list(map(len, parts)))
        totals, terms, kl, losses, counts = (part.tolist() for part in sums)
        examples, tokens, reconstruction = totals
        per_dimension = [value / examples for value in kl]
        lists: dict[str, Any] = {"kl_per_dimension": per_dimension}
        if any(counts):
            rows = zip(self.label_names, losses, counts, strict=True)
            lists["reconstruction_per_label"] = {
                name: loss / count if count else None for name, loss, count in rows
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


def figures_of(measured: Bounds) -> dict[str, float]:
    """What the log has of a bound."""
    kl = measured.kl.flatten(1).sum(1).mean()
    figures = {
        "elbo": -(measured.reconstruction.mean() + kl).item(),
        "reconstruction": measured.reconstruction.mean().item(),
        "kl": kl.item(),
        "active_units": active_units(measured.posterior).value,
        "mutual_information": mutual_information(measured.posterior, measured.z).value,
    }
    if measured.swapped is not None:
        figures["swap_gap"] = Estimate.mean_of(measured.swapped - measured.own).value
    return figures
