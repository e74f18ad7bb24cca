"""The watch: reports in words what is wrong with a run, with one remedy that was tried."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from torch import Tensor

from isthmus.evaluation.usage import Estimate
from isthmus.evaluation.verdicts import (
    COLLAPSED_NATS,
    READABLE,
    SMALL_BETA,
    USED_NATS,
    freed,
    longer,
    revived,
)
from isthmus.latent.objective import Objective

_GRADIENT_OFF = 0.95
"""Share of the dimensions below their free bits from which the KL shapes nothing."""
_EARLY, _LATE = 0.2, 0.5
"""Shares of the run in which signs do not count, and in which a young decoder may read no z."""
_IN_A_ROW = 2
"""Evaluations in a row that must show a sign."""
_ERRORS = 3.0
"""This many standard errors above what token frequencies give are no chance."""
_RAISE = 5.0
"""Factor of a β that lets z spend too much."""
_TIMES = 2.0
"""Times what a swapped z costs, from which the KL buys nothing for the rest. Of the models in
docs/log.md that use their z none is above 1.2."""
_WASTED = 5.0
"""Nats beyond that which are worth a finding."""


class _Fault(NamedTuple):
    """What is wrong, in words, and what was tried to mend it.

    Of each subject (how the KL is charged, how long to train, the tokenizer) there is one remedy a
    run, so that none can contradict another.
    """

    name: str
    says: str
    subject: str
    remedy: str


@final
@dataclass
class Watch:
    """Looks at every evaluation and reports one fault at most, with one remedy.

    A collapsed VAE has q(z|x) = p(z) for every x: its KL is zero, its bound may look fine, and z
    carries no information (Bowman et al. 2016, section 3). A decoder uses no z at the start of
    training either. So a sign counts when β > 0 and a fifth of the run is over, and is reported at
    the second evaluation in a row that shows it, or at the end of the run. A z that is not read is
    reported before the end only if it costs nothing, at full β in the second half.

    The opposite is a z that spends more nats than its text can hold: a code of its own for every
    text, far from all others, and nothing between them for samples to be. A model that predicts
    tokens in their order needs fewer nats than their frequencies alone; where the KL by itself
    needs more, most of it is waste. A bound that frequencies beat says nothing about z yet. It is
    reported at the end of a run: as overfitting if it was lower before.

    Below that a z can still cost far more than it tells. Another example's z takes from the
    decoder at least what its own tells, and a KL of several times as much is paid for means far
    from 0, which a head of too large a scale starts with, or for posteriors narrower than any use.
    These may still widen, and are reported at the end of a run.

    tests/training/test_remedies.py plants each fault and mends it by the flag that is printed.

    Args:
        objective: of the run; while its β is 0, a large KL is harmless.
        latent_size: K·P, over all latents.
        frequency: −log p of the validation texts by the frequencies of their tokens, nats, [N];
            None for pictures.
        unknown: share of their words that the tokenizer does not know, where that is so large that
            no advice but another tokenizer helps; else 0.
        minutes: that the run was given; 0 for no limit.
        unsampled: nothing will be drawn from the present prior, however much z spends under it:
            another is fitted to z afterwards, or z comes from given vectors.
        head_scale: that the encoder's head was given; 0 if it was chosen.
        latents: K.
    """

    objective: Objective
    latent_size: int
    frequency: Tensor | None = None
    unknown: float = 0.0
    minutes: float = 0.0
    unsampled: bool = False
    head_scale: float = 0.0
    latents: int = 1
    remedy: str = ""
    """The last one that was reported."""
    _most_active: float = 0.0
    _widest_gap: float = 0.0
    _lowest: float = math.inf
    _lowest_step: int = 0
    _shown: str = ""
    _times: int = 0
    _subjects: tuple[str, ...] = ()

    def look(
        self,
        step: int,
        kl: Tensor,
        active_units: float,
        swap_gap: Estimate | None,
        reconstruction: Tensor | None = None,
        squares: float | None = None,
    ) -> str | None:
        """A new finding at an evaluation, as a sentence.

        Args:
            step: optimiser step.
            kl: for each example and dimension, nats, [N P].
            active_units: number of dimensions whose mean varies.
            swap_gap: increase of the reconstruction under another example's z, nats.
            reconstruction: of each example, nats, [N]; read where there are frequencies.
            squares: ½ E|mean|², which of the KL to a standard normal is due to the means; None
                under another prior.
        """
        last = step >= self.objective.total_steps
        fault = self._fault(step, kl, active_units, swap_gap, reconstruction, squares, last)
        name = fault.name if fault else ""
        self._times = self._times + 1 if name == self._shown else 1
        self._shown = name
        if fault is None or fault.subject in self._subjects:
            return None
        if not last and not self.unknown and self._times < _IN_A_ROW:
            return None
        self._subjects += (fault.subject,)
        self.remedy = fault.remedy
        return f"{fault.says}; {fault.remedy}"

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs for :meth:`restore`."""
        settings = ("unknown", "minutes", "head_scale", "latents")
        given = ("objective", "latent_size", "frequency", *settings)
        return {name: value for name, value in vars(self).items() if name not in given}

    def restore(self, state: dict[str, Any]) -> None:
        """Remember what was seen before a checkpoint."""
        vars(self).update(state | {"_subjects": tuple(state["_subjects"])})

    def _fault(
        self,
        step: int,
        kl: Tensor,
        active_units: float,
        swap_gap: Estimate | None,
        reconstruction: Tensor | None,
        squares: float | None,
        last: bool,
    ) -> _Fault | None:
        """The first of what this evaluation shows."""
        if self.unknown:
            says = f"{self.unknown:.0%} of the words are unknown: no figure says much"
            return _Fault("unknown", says, "tokenizer", READABLE)
        worse = None if reconstruction is None else self._worse(step, kl, reconstruction)
        total, beta = self.objective.total_steps, self.objective.beta(step)
        settled = step >= _EARLY * total and beta > 0
        held = beta == self.objective.schedule.beta
        looked = self.latent_size and (settled or last)
        dying = self._dying(active_units, swap_gap) if looked else None
        wasted = self._wasted(kl, swap_gap, squares) if looked and settled and held else None
        if wasted and wasted.subject == "head":  # the cause of whatever else there is
            return wasted
        if worse or not looked:
            return worse if last else None
        late, nats = last or (held and step >= _LATE * total), kl.sum(-1).mean().item()
        # A z of a few nats may come to be read yet; one of none will not.
        dead = last or nats < USED_NATS
        unused = self._unused(nats, swap_gap) if late and dead else None
        off = self._gradient_off(kl) if late else None
        full = self._too_full(kl) if settled and held else None
        return unused or dying or off or full or (wasted if last else None)

    def _unused(self, total: float, swap_gap: Estimate | None) -> _Fault | None:
        if swap_gap is None:
            return None
        gap = swap_gap.value
        if gap >= USED_NATS + 2 * (swap_gap.standard_error or 0.0):
            return None
        beta, steps = self.objective.schedule.beta, self.objective.total_steps
        same = f"the reconstruction is no worse with another example's z (swap gap {gap:.2f})"
        collapsed = total < COLLAPSED_NATS
        says = f"the decoder ignores z: KL is {total:.2f} nats, yet {same}"
        if collapsed:
            says = f"the posterior has collapsed: KL is {total:.2f} nats and {same}"
        charge = collapsed and beta > SMALL_BETA
        remedy = revived(collapsed, beta, steps, self.minutes)
        return _Fault("unused", says, "charge" if charge else "length", remedy)

    def _dying(self, active_units: float, swap_gap: Estimate | None) -> _Fault | None:
        """A rising β prunes dimensions; z dies only if their information is lost too."""
        gap = math.inf if swap_gap is None else swap_gap.value
        active, widest = self._most_active, self._widest_gap
        self._most_active = max(active, active_units)
        if swap_gap is not None:
            self._widest_gap = max(widest, gap)
        if active_units >= 0.5 * active or gap >= 0.2 * widest:
            return None
        says = (
            f"active units fell from {active:.0f} to {active_units:.0f} and the swap gap from "
            f"{widest:.1f} to {gap:.1f} nats: the latent is dying"
        )
        return _Fault("dying", says, "charge", freed(self.objective.schedule.beta))

    def _too_full(self, kl: Tensor) -> _Fault | None:
        """A finding where z alone costs more than the texts would by their frequencies."""
        if self.frequency is None or self.unsampled:
            return None
        if not _above(kl.sum(-1).double() - self.frequency):
            return None
        says = (
            f"z spends more than a text holds: KL is {kl.sum(-1).mean():.1f} nats, and the "
            f"frequencies of its tokens alone need {self.frequency.mean():.1f}; the rest keeps "
            "codes apart, and samples from the prior fall between them"
        )
        remedy = self._charged() if self.objective.free_bits else self._raised()
        return _Fault("full", says, "charge", remedy)

    def _wasted(
        self, kl: Tensor, swap_gap: Estimate | None, squares: float | None
    ) -> _Fault | None:
        """A finding where z costs far more, beyond what is free, than another's z takes away."""
        if swap_gap is None or squares is None or self.unsampled:
            return None
        objective, gap = self.objective, swap_gap.value
        if gap < USED_NATS + 2 * (swap_gap.standard_error or 0.0):
            return None  # it tells nothing
        free = self._free()
        spent = Estimate.mean_of(kl.sum(-1).double())
        error = math.hypot(spent.standard_error or 0.0, _TIMES * (swap_gap.standard_error or 0.0))
        if spent.value - free - _TIMES * gap < _WASTED + _ERRORS * error:
            return None
        scattered = squares > spent.value / 2
        distance = math.sqrt(2 * squares / self.latent_size)
        cause = "the posteriors are narrower than the decoder can tell apart"
        if scattered:
            cause = f"the means are scattered, {distance:.1f} from 0 where the prior has 1"
        says = (
            f"z costs far more than it tells: KL is {spent.value:.1f} nats, and another example's "
            f"z takes only {gap:.1f} away; {cause}"
        )
        if scattered and self.head_scale:
            remedy = "let the scale of the head be chosen (--model.encoder.head-scale 0)"
            return _Fault("wasted", says, "head", remedy)
        if objective.schedule.beta < 1:
            return _Fault("wasted", says, "charge", self._raised())
        return _Fault("wasted", says, "length", longer(objective.total_steps, self.minutes))

    def _worse(self, step: int, kl: Tensor, reconstruction: Tensor) -> _Fault | None:
        """A finding where the bound beats no frequency, or what of it is charged in full."""
        if self.frequency is None:
            return None
        bound, name = reconstruction.double(), "reconstruction"
        if self.objective.schedule.beta >= 1 and not self.objective.free_bits:
            bound, name = bound + kl.sum(-1).double(), "−ELBO"
        before, now, when = self._lowest, bound.mean().item(), self._lowest_step
        if now < before:
            self._lowest, self._lowest_step = now, step
        if not _above(bound - self.frequency):
            return None
        given = f"and the frequencies of the tokens alone give {self.frequency.mean():.1f}"
        if not _above(bound - before):
            says = f"{name} is {now:.1f} nats, {given}: the model has learned nothing of their "
            says += "order yet"
            return _Fault(
                "worse", says, "length", longer(self.objective.total_steps, self.minutes)
            )
        remedy = "use more text"
        if before < self.frequency.mean():
            remedy = f"train for fewer steps (--train.steps {when})"
        says = (
            f"{name} is {now:.1f} nats and was {before:.1f} before, {given}: the model knows its "
            "training texts by heart"
        )
        return _Fault("worse", says, "length", remedy)

    def _gradient_off(self, kl: Tensor) -> _Fault | None:
        """A finding where free bits are so large that the loss charges almost no KL."""
        objective, used = self.objective, kl.sum(-1)
        if objective.free_bits == 0 or kl.shape[-1] == 1:
            return None
        free, of_latents = self._free(), kl.unflatten(-1, (self.latents, -1)).sum(-1)
        floored = {"total": used, "batch-mean": kl.mean(0, keepdim=True), "latent": of_latents}
        shown = floored.get(objective.form, kl)
        below = (shown <= objective.free_bits).double().mean().item()
        # The floor is meant for dimensions that rest just below it. It is too high where the
        # total KL stays far below all that is free.
        if below < _GRADIENT_OFF or used.mean().item() > 0.9 * free:
            return None
        says = (
            f"the KL gradient is off for {below:.0%} of the dimensions: {free:.0f} nats are free "
            f"and only {used.mean():.1f} are used, so nothing shapes the latent"
        )
        return _Fault("off", says, "charge", self._charged())

    def _free(self) -> float:
        """Nats of an example that the floor leaves free."""
        floors = {"total": 1, "latent": self.latents}
        return self.objective.free_bits * floors.get(self.objective.form, self.latent_size)

    def _raised(self) -> str:
        """A larger β makes z spend less."""
        beta = min(1.0, _RAISE * self.objective.schedule.beta)
        return f"raise β (--objective.beta {beta:.1g})"

    def _charged(self) -> str:
        """A small β shapes all of z; a floor shapes nothing below it."""
        beta = self.objective.schedule.beta
        less = f", {freed(beta)}" if beta > SMALL_BETA else ""
        return f"charge all of the KL (--objective.free-bits 0){less}"


def _above(differences: Tensor) -> bool:
    """Whether a mean of several values lies above 0, beyond chance."""
    mean = Estimate.mean_of(differences)
    return mean.standard_error is not None and mean.value > _ERRORS * mean.standard_error
