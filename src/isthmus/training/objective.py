"""The training loss that settings name."""

from __future__ import annotations

from isthmus.errors import IsthmusError
from isthmus.latent.objective import Objective
from isthmus.latent.schedule import Schedule
from isthmus.settings import ObjectiveSettings

_SCHEDULES = {
    "constant": (Schedule.constant, ("beta",)),
    "linear": (Schedule.linear, ("beta", "ramp")),
    "cyclical": (Schedule.cyclical, ("beta", "cycles", "ramp")),
    "zero-ramp": (Schedule.zero_ramp, ("beta", "cycles", "zero", "ramp")),
}
"""Schedule → its constructor and the settings that it reads."""


def make_objective(settings: ObjectiveSettings, total_steps: int) -> Objective:
    """The objective that settings name, for a run of that length.

    Raises:
        IsthmusError: an unknown schedule, or numbers out of range.
    """
    if settings.schedule not in _SCHEDULES:
        known = ", ".join(_SCHEDULES)
        raise IsthmusError(f"schedule: got {settings.schedule!r}, expected one of {known}")
    schedule, names = _SCHEDULES[settings.schedule]
    try:
        return Objective(
            schedule(**{name: getattr(settings, name) for name in names}),
            total_steps,
            free_bits=settings.free_bits,
            form=settings.free_bits_form,
            label_nats=settings.label_nats,
            weights=settings.weights,
        )
    except ValueError as error:
        raise IsthmusError(f"objective: {error}") from error
