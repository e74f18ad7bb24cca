"""A bound that no honest model can reach: what shows that one is not honest."""

from __future__ import annotations

import math

from isthmus.data.kind import Floor
from isthmus.errors import IsthmusError
from isthmus.evaluation.usage import Estimate
from isthmus.models.codec import Examples

FAULT_ERRORS = 3.0
"""This many standard errors below a known entropy cannot be chance."""


def errors_below(floor: Floor, nats: Estimate) -> float:
    """How far a mean −log p lies below the entropy, in standard errors; negative if above.

    The error is at least the exact one of as many examples: a few values can agree by chance.
    """
    exact = floor.deviation / math.sqrt(nats.count)
    return (floor.nats - nats.value) / max(nats.standard_error or 0.0, exact)


def check_floor(floor: Floor | None, examples: Examples, nats: Estimate, where: str) -> None:
    """Refuse a bound on −log p that beats the known entropy of its data.

    Args:
        floor: The entropy, if it is known.
        examples: What was measured. Where a text is cut or a word unknown, the model predicts
            less than the data, and nothing is checked.
        nats: Mean −ELBO or a tighter bound, per example.
        where: What was measured, for the message.

    Raises:
        IsthmusError: The bound lies FAULT_ERRORS standard errors below the entropy.
    """
    if floor is None or not examples.whole:
        return
    errors = errors_below(floor, nats)
    if errors > FAULT_ERRORS:
        raise IsthmusError(
            f"{where}: {nats.value:.2f} nats is {errors:.0f} standard errors below "
            f"{floor.nats:.2f}, the entropy of {floor.source}, which no model can beat: the "
            "decoder sees the tokens that it predicts, or the bound is wrong. Do not use these "
            "figures; try another --model.decoder.architecture"
        )
