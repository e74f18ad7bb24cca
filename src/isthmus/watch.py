"""The collapse watch: says in words when the latent dies, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from isthmus.latent.objective import Objective

_GRADIENT_OFF = 0.95
_USED_NATS = 0.1
_REMEDIES = (
    "use free bits (--objective.free-bits 0.25), a longer stretch at β = 0 "
    "(--objective.schedule zero-ramp), or hide tokens from the decoder (--data.word-dropout 0.3)"
)


@final
@dataclass
class CollapseWatch:
    """Looks at every evaluation and tells each finding once.

    A collapsed VAE has q(z|x) = p(z) for every x: its KL is zero, its bound may look fine, and z
    says nothing (Bowman et al. 2016, section 3). The signs differ in how early they come.

    Arguments:
        objective: what the run is trained with; tells when β = 0 makes a large KL harmless.
        latent_size: P.
    """

    objective: Objective
    latent_size: int
    _most_active: float = 0.0
    _told: set[str] = field(default_factory=set)

    def look(
        self, step: int, kl: Tensor, active_units: float, swap_gap: float | None
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
        found: dict[str, str] = {}
        total = kl.sum(-1).mean().item()
        beta = self.objective.beta(step)
        if swap_gap is not None and abs(swap_gap) < _USED_NATS and total < 1.0:
            found["dead"] = (
                f"the posterior has collapsed: KL is {total:.2f} nats and the reconstruction is "
                f"no worse with another sentence's z (swap gap {swap_gap:.2f}); {_REMEDIES}"
            )
        elif swap_gap is not None and abs(swap_gap) < _USED_NATS:
            found["ignored"] = (
                f"the decoder ignores z: KL is {total:.2f} nats, yet the reconstruction is no "
                f"worse with another sentence's z (swap gap {swap_gap:.2f}); the bound pays for a "
                "code that nobody reads; train the bridge longer or at a higher learning rate"
            )
        if active_units < 0.5 * self._most_active:
            found["falling"] = (
                f"active units fell from {self._most_active:.0f} to {active_units:.0f}: the "
                f"latent is dying; {_REMEDIES}"
            )
        self._most_active = max(self._most_active, active_units)
        if beta > 0 and (off := self._gradient_off(kl)) is not None:
            found["off"] = off
        fresh = [message for name, message in found.items() if name not in self._told]
        self._told |= set(found)
        return fresh

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


def kl_matrix(kl: Tensor) -> Tensor:
    """KL per example with all dimensions in one row, [N P·K]."""
    return torch.flatten(kl, 1)
