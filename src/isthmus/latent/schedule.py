"""β as a pure function of the step, so that a resumed run is the same run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Schedule:
    """β(step): in every cycle zero for a while, then a linear rise, then ``beta``.

    All published schedules are this one with other fractions; see the constructors.

    Args:
        beta: the value at the end of every cycle, ≥ 0.
        cycles: number of equal cycles in a run.
        zero: fraction of a cycle spent at zero.
        ramp: fraction of a cycle spent rising.
    """

    beta: float = 1.0
    cycles: int = 1
    zero: float = 0.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be a number ≥ 0, got {self.beta}")
        if self.cycles < 1:
            raise ValueError(f"cycles must be ≥ 1, got {self.cycles}")
        if min(self.zero, self.ramp) < 0 or self.zero + self.ramp > 1:
            raise ValueError(
                "zero and ramp are fractions of a cycle and must be ≥ 0 with a sum ≤ 1 (β would "
                f"never reach its full value), got {self.zero} and {self.ramp}"
            )

    def __call__(self, step: int, total: int) -> float:
        """β at optimiser step ``step`` (from 0) of ``total``, and ``beta`` from the end on."""
        if step >= total:
            return self.beta
        # Integers until the last moment: the place in the cycle must not drift over a long run.
        place = (step * self.cycles % total) / total
        if self.ramp == 0:
            return self.beta if place >= self.zero else 0.0
        return self.beta * min(max((place - self.zero) / self.ramp, 0.0), 1.0)

    @classmethod
    def constant(cls, beta: float = 1.0) -> Schedule:
        """β from the first step; with beta ≠ 1 the β-VAE of Higgins et al. (2017)."""
        return cls(beta)

    @classmethod
    def linear(cls, beta: float = 1.0, ramp: float = 0.25) -> Schedule:
        """KL annealing: one linear rise (Bowman et al. 2016, section 3.1)."""
        return cls(beta, ramp=ramp)

    @classmethod
    def cyclical(cls, beta: float = 1.0, cycles: int = 4, ramp: float = 0.5) -> Schedule:
        """Cyclical annealing (Fu et al. 2019): M = 4 cycles, R = 0.5 of each spent rising."""
        return cls(beta, cycles=cycles, ramp=ramp)

    @classmethod
    def zero_ramp(
        cls, beta: float = 1.0, cycles: int = 1, zero: float = 0.5, ramp: float = 0.25
    ) -> Schedule:
        """Optimus (Li et al. 2020): half a cycle at zero, a quarter rising, a quarter held."""
        return cls(beta, cycles, zero, ramp)
