"""The watch: reports in words when the latent dies or bursts, and what to do about it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, final

from torch import Tensor

from isthmus.evaluation.usage import Estimate
from isthmus.evaluation.verdicts import COLLAPSED_NATS, USED_NATS, relief
from isthmus.latent.objective import Objective

_GRADIENT_OFF = 0.95
"""Share of the dimensions below their free bits from which the KL shapes nothing."""
_EARLY = 0.2
"""Share of the run in which signs do not count."""
_IN_A_ROW = 2
"""Evaluations in a row that must show a sign."""
_ERRORS = 3.0
"""This many standard errors above what token frequencies give are no chance."""
_PRESSING = frozenset({"off", "full"})
"""Findings whose remedy is to charge more for z; those of the others charge less."""
_HIDE = "hide tokens from the decoder (--data.word-dropout 0.3)"
_READ = "most likely words are unknown: train with another tokenizer (--data.tokenizer bpe)"
_LESS = "use more text or a smaller model, and train for fewer epochs"
_ON = "train longer, or at a higher learning rate (--train.learning-rate)"


@final
@dataclass
class Watch:
    """Looks at every evaluation and reports each finding once.

    A collapsed VAE has q(z|x) = p(z) for every x: its KL is zero, its bound may look fine, and z
    carries no information (Bowman et al. 2016, section 3). A decoder uses no z at the start of
    training either. So a sign counts when β > 0 and a fifth of the run is over, and is reported at
    the second evaluation in a row that shows it, or at the end of the run.

    The opposite is a z that spends more nats than its text can hold: a code of its own for every
    text, far from all others, and nothing between them for samples to be. A model that predicts
    tokens in their order needs fewer nats than their frequencies alone; where the KL by itself
    needs more, most of it is waste. A bound that frequencies beat is reported at the end of a run:
    as overfitting if it was lower before, which more training makes worse.

    No finding advises the opposite of another: what is charged too little is not to be freed.

    Args:
        objective: of the run; while its β is 0, a large KL is harmless.
        latent_size: K·P, over all latents.
        frequency: −log p of the validation texts by the frequencies of their tokens, nats, [N];
            None for pictures.
        unreadable: so many of their words are unknown that no advice but another tokenizer helps.
    """

    objective: Objective
    latent_size: int
    frequency: Tensor | None = None
    unreadable: bool = False
    _most_active: float = 0.0
    _widest_gap: float = 0.0
    _lowest: float = math.inf
    _in_a_row: Counter[str] = field(default_factory=Counter)
    _reported: set[str] = field(default_factory=set)

    def look(
        self,
        step: int,
        kl: Tensor,
        active_units: float,
        swap_gap: Estimate | None,
        reconstruction: Tensor | None = None,
    ) -> list[str]:
        """New findings at an evaluation, as sentences.

        Args:
            step: optimiser step.
            kl: for each example and dimension, nats, [N P].
            active_units: number of dimensions whose mean varies.
            swap_gap: increase of the reconstruction under another example's z, nats.
            reconstruction: of each example, nats, [N]; read where there are frequencies.
        """
        total_steps = self.objective.total_steps
        last = step >= total_steps
        settled = step >= _EARLY * total_steps and self.objective.beta(step) > 0
        found = {}
        if self.latent_size and (settled or last):
            found = self._signs(kl, active_units, swap_gap)
        if self.frequency is not None and reconstruction is not None and not found:
            held = self.objective.beta(step) == self.objective.schedule.beta
            if settled and held:
                found = self._too_full(kl)
            worse = self._worse(kl, reconstruction)
            if last and not found:
                found = worse
        self._in_a_row = Counter({kind: self._in_a_row[kind] + 1 for kind in found})
        fresh = {
            kind: message
            for kind, message in found.items()
            if (last or self._in_a_row[kind] >= _IN_A_ROW) and kind not in self._reported
        }
        self._reported |= set(fresh)
        if self.unreadable and fresh:
            return [f"{said.rpartition('; ')[0]}; {_READ}" for said in fresh.values()]
        return list(fresh.values())

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs for :meth:`restore`."""
        return {
            "_most_active": self._most_active,
            "_widest_gap": self._widest_gap,
            "_lowest": self._lowest,
            "_in_a_row": dict(self._in_a_row),
            "_reported": sorted(self._reported),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Remember what was seen before a checkpoint."""
        kinds = {"_in_a_row": Counter(state["_in_a_row"]), "_reported": set(state["_reported"])}
        vars(self).update(state | kinds)

    def _signs(self, kl: Tensor, active_units: float, swap_gap: Estimate | None) -> dict[str, str]:
        """What this evaluation shows: kind → sentence."""
        found = {}
        if (off := self._gradient_off(kl)) is not None:
            found["off"] = off
        total = kl.sum(-1).mean().item()
        gap = math.inf if swap_gap is None else swap_gap.value
        if swap_gap is not None and gap < USED_NATS + 2 * (swap_gap.standard_error or 0.0):
            found["unused"] = self._unused(total, gap, pressed=not found)
        elif active_units < 0.5 * self._most_active and gap < 0.2 * self._widest_gap:
            # A rising β prunes dimensions; the latent dies only if their information is lost too.
            found["falling"] = (
                f"active units fell from {self._most_active:.0f} to {active_units:.0f} and the "
                f"swap gap from {self._widest_gap:.1f} to {gap:.1f} nats: the latent is dying; "
                f"{self._relief(pressed=not found)}"
            )
        self._most_active = max(self._most_active, active_units)
        if swap_gap is not None:
            self._widest_gap = max(self._widest_gap, gap)
        return found

    def _relief(self, pressed: bool) -> str:
        """What brings z back to life, without what another finding advises against."""
        hide = "" if self.frequency is None else _HIDE  # pictures have no tokens
        if not pressed or self._reported & _PRESSING:
            return f"{hide}, or {_ON}" if hide else _ON
        objective = self.objective
        freed = f"try {relief(objective.schedule.beta, objective.free_bits)}"
        return f"{freed}, or {hide}" if hide else freed

    def _unused(self, total: float, gap: float, pressed: bool) -> str:
        if total < COLLAPSED_NATS:
            return (
                f"the posterior has collapsed: KL is {total:.2f} nats and the reconstruction is "
                f"no worse with another example's z (swap gap {gap:.2f}); "
                f"{self._relief(pressed)}"
            )
        return (
            f"the decoder ignores z: KL is {total:.2f} nats, yet the reconstruction is no worse "
            f"with another example's z (swap gap {gap:.2f}); the bound pays for information that "
            f"nothing reads; {_ON}"
        )

    def _too_full(self, kl: Tensor) -> dict[str, str]:
        """A finding where z alone costs more than the texts would by their frequencies."""
        assert self.frequency is not None
        if not _above(kl.sum(-1).double() - self.frequency):
            return {}
        objective, spent = self.objective, kl.sum(-1).mean().item()
        remedy = "train longer"
        if not self._reported - _PRESSING:
            if objective.free_bits:
                remedy = "lower --objective.free-bits"
            elif objective.schedule.beta < 1:
                remedy = "raise β (--objective.beta)"
        return {
            "full": f"z spends more than a text holds: KL is {spent:.1f} nats, and the "
            f"frequencies of its tokens alone need {self.frequency.mean():.1f}; the rest keeps "
            f"codes apart, and samples from the prior fall between them; {remedy}"
        }

    def _worse(self, kl: Tensor, reconstruction: Tensor) -> dict[str, str]:
        """A finding where the bound, or at β < 1 the reconstruction alone, beats no frequency."""
        assert self.frequency is not None
        bound = reconstruction.double()
        if self.objective.schedule.beta >= 1:
            bound = bound + kl.sum(-1).double()
        before, now = self._lowest, bound.mean().item()
        self._lowest = min(before, now)
        if not _above(bound - self.frequency):
            return {}
        name = "reconstruction" if self.objective.schedule.beta < 1 else "−ELBO"
        given = f"and the frequencies of the tokens alone give {self.frequency.mean():.1f}"
        if _above(bound - before):
            return {
                "worse": f"{name} is {now:.1f} nats and was {before:.1f} before, {given}: the "
                f"model knows its training texts by heart; {_LESS}"
            }
        return {
            "worse": f"{name} is {now:.1f} nats, {given}: the model has learned nothing of their "
            f"order yet; {_ON}"
        }

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


def _above(differences: Tensor) -> bool:
    """Whether a mean of several values lies above 0, beyond chance."""
    mean = Estimate.mean_of(differences)
    return mean.standard_error is not None and mean.value > _ERRORS * mean.standard_error
