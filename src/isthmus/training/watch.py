"""The collapse watch: reports in words when the latent dies, and what to do about it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from isthmus.evaluation.usage import Estimate
from isthmus.latent.objective import Objective

_GRADIENT_OFF = 0.95
"""Share of the dimensions below their free bits from which the KL shapes nothing."""
_USED_NATS = 0.1
"""Smallest swap gap of a latent that the decoder uses."""
_EARLY = 0.2
"""Share of the run in which signs do not count."""
_IN_A_ROW = 2
"""Evaluations in a row that must show a sign."""
_REMEDIES = (
    "use free bits (--objective.free-bits 0.25), a smaller β (--objective.beta 0.1) or a longer "
    "stretch without it (--objective.schedule zero-ramp --objective.zero 0.6), or hide tokens "
    "from the decoder (--data.word-dropout 0.3)"
)


@final
@dataclass
class CollapseWatch:
    """Looks at every evaluation and reports each finding once.

    A collapsed VAE has q(z|x) = p(z) for every x: its KL is zero, its bound may look fine, and z
    carries no information (Bowman et al. 2016, section 3). A decoder uses no z at the start of
    training either. So a sign counts when β > 0 and a fifth of the run is over, and is reported at
    the second evaluation in a row that shows it, or at the end of the run.

    Args:
        objective: of the run; while its β is 0, a large KL is harmless.
        latent_size: K·P, over all latents.
    """

    objective: Objective
    latent_size: int
    _most_active: float = 0.0
    _widest_gap: float = 0.0
    _in_a_row: Counter[str] = field(default_factory=Counter)
    _reported: set[str] = field(default_factory=set)

    def look(
        self, step: int, kl: Tensor, active_units: float, swap_gap: Estimate | None
    ) -> list[str]:
        """New findings at an evaluation, as sentences.

        Args:
            step: optimiser step.
            kl: for each example and dimension, nats, [N P].
            active_units: number of dimensions whose mean varies.
            swap_gap: increase of the reconstruction under another example's z, nats.
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
            if (last or self._in_a_row[kind] >= _IN_A_ROW) and kind not in self._reported
        }
        self._reported |= set(fresh)
        return list(fresh.values())

    def _signs(self, kl: Tensor, active_units: float, swap_gap: Estimate | None) -> dict[str, str]:
        """What this evaluation shows: kind → sentence."""
        found = {}
        total = kl.sum(-1).mean().item()
        gap = math.inf if swap_gap is None else swap_gap.value
        if swap_gap is not None and gap < _USED_NATS + 2 * (swap_gap.standard_error or 0.0):
            found["unused"] = _unused(total, gap)
        elif active_units < 0.5 * self._most_active and gap < 0.2 * self._widest_gap:
            # A rising β prunes dimensions; the latent dies only if their information is lost too.
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
        """A finding where free bits are so large that the loss charges almost no KL."""
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
        # The floor is meant for dimensions that rest just below it. It is too high where the
        # total KL stays far below all that is free.
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
        f"another sentence's z (swap gap {gap:.2f}); the bound pays for information that nothing "
        "reads; train longer, or at a higher learning rate (--train.learning-rate)"
    )
