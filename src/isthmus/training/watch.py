"""The collapse watch: says in words when the latent dies, and what to do about it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from isthmus.evaluation.usage import Estimate
from isthmus.latent.objective import Objective

_GRADIENT_OFF = 0.95
_USED_NATS = 0.1
_EARLY = 0.2
_TWICE = 2
_REMEDIES = (
    "use free bits (--objective.free-bits 0.25), a smaller β (--objective.beta 0.1) or a longer "
    "stretch without it (--objective.schedule zero-ramp --objective.zero 0.6), or hide tokens "
    "from the decoder (--data.word-dropout 0.3)"
)


@final
@dataclass
class CollapseWatch:
    """Looks at every evaluation and tells each finding once.

    A collapsed VAE has q(z|x) = p(z) for every x: its KL is zero, its bound may look fine, and z
    says nothing (Bowman et al. 2016, section 3). The signs differ in how early they come. A young
    decoder uses no z either, so a sign counts when β > 0 and a fifth of the run is over, and is
    told at the second evaluation in a row that shows it, or at the end of the run.

    Arguments:
        objective: what the run is trained with; tells when β = 0 makes a large KL harmless.
        latent_size: P.
    """

    objective: Objective
    latent_size: int
    _most_active: float = 0.0
    _widest_gap: float = 0.0
    _in_a_row: Counter[str] = field(default_factory=Counter)
    _told: set[str] = field(default_factory=set)

    def look(
        self, step: int, kl: Tensor, active_units: float, swap_gap: Estimate | None
    ) -> list[str]:
        """New findings at an evaluation, as sentences.

        Arguments:
            step: optimiser step.
            kl: per example and dimension, nats, [N P].
            active_units: dimensions whose mean varies.
            swap_gap: rise of the reconstruction under another example's z, nats.
        """
        if self.latent_size == 0:
            return []
        total_steps = self.objective.total_steps
        last = step >= total_steps
        settled = step >= _EARLY * total_steps and self.objective.beta(step) > 0
        found = self._signs(kl, active_units, swap_gap) if settled or last else {}
        self._in_a_row = Counter({kind: self._in_a_row[kind] + 1 for kind in found})
        fresh = {
            kind: message
            for kind, message in found.items()
            if (last or self._in_a_row[kind] >= _TWICE) and kind not in self._told
        }
        self._told |= set(fresh)
        return list(fresh.values())

    def _signs(self, kl: Tensor, active_units: float, swap_gap: Estimate | None) -> dict[str, str]:
        """What this evaluation shows: kind → sentence."""
        found = {}
        total = kl.sum(-1).mean().item()
        gap = math.inf if swap_gap is None else swap_gap.value
        if swap_gap is not None and gap < _USED_NATS + 2 * (swap_gap.standard_error or 0.0):
            found["unused"] = _unused(total, gap)
        elif active_units < 0.5 * self._most_active and gap < 0.2 * self._widest_gap:
            # A rising β prunes dimensions; it is death only if what they told is lost as well.
            found["falling"] = (
                f"active units fell from {self._most_active:.0f} to {active_units:.0f} and the "
                f"swap gap from {self._widest_gap:.1f} to {gap:.1f} nats: the latent is dying; "
                f"{_REMEDIES}"
            )
        self._most_active = max(self._most_active, active_units)
        if swap_gap is not None:
            self._widest_gap = max(self._widest_gap, gap)
        if (off := self._gradient_off(kl)) is not None:
            found["off"] = off
        return found

    def _gradient_off(self, kl: Tensor) -> str | None:
        """Free bits so large that the KL is charged almost nowhere: β = 1 in name only."""
        objective = self.objective
        if objective.free_bits == 0 or kl.shape[-1] == 1:
            return None
        if objective.form == "total":
            below = (kl.sum(-1) <= objective.free_bits).double().mean().item()
            free = objective.free_bits
        else:
            shown = kl.mean(0, keepdim=True) if objective.form == "batch-mean" else kl
            below = (shown <= objective.free_bits).double().mean().item()
            free = objective.free_bits * self.latent_size
        mean_kl = kl.sum(-1).mean().item()
        # A dimension that rests just below its free bits is what the floor is for; one far
        # below it is not used at all, and one that may carry more than it ever will is no floor.
        if below < _GRADIENT_OFF or mean_kl > 0.9 * free:
            return None
        return (
            f"the KL gradient is off for {below:.0%} of the dimensions: {free:.0f} nats are free "
            f"and only {mean_kl:.1f} are used, so nothing shapes the latent; "
            "lower --objective.free-bits"
        )


def _unused(total: float, gap: float) -> str:
    if total < 1.0:
        return (
            f"the posterior has collapsed: KL is {total:.2f} nats and the reconstruction is no "
            f"worse with another sentence's z (swap gap {gap:.2f}); {_REMEDIES}"
        )
    return (
        f"the decoder ignores z: KL is {total:.2f} nats, yet the reconstruction is no worse with "
        f"another sentence's z (swap gap {gap:.2f}); the bound pays for a code that nobody reads; "
        "train longer, or at a higher learning rate (--train.learning-rate)"
    )


def kl_matrix(kl: Tensor) -> Tensor:
    """KL per example with all dimensions in one row, [N P·K]."""
    return torch.flatten(kl, 1)
