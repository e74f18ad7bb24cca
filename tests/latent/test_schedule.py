"""β: the published schedules, value by value."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.latent.schedule import Schedule


def values(schedule, total):
    return [schedule(step, total) for step in range(total)]


@st.composite
def schedules(draw):
    zero = draw(st.floats(0, 1))
    return Schedule(
        beta=draw(st.floats(0, 10)),
        cycles=draw(st.integers(1, 12)),
        zero=zero,
        ramp=draw(st.floats(0, 1 - zero)),
    )


@pytest.mark.parametrize(
    ("cycles", "zeros", "ramp", "ones"), [(1, 501, 249, 250), (10, 510, 240, 250)]
)
def test_optimus_counts(cycles, zeros, ramp, ones):
    betas = values(Schedule.zero_ramp(cycles=cycles), 1000)
    assert betas.count(0.0) == zeros
    assert sum(0 < beta < 1 for beta in betas) == ramp
    assert betas.count(1.0) == ones


def test_optimus_start_of_the_ramp():
    betas = values(Schedule.zero_ramp(), 1000)
    assert betas[500:505] == pytest.approx([0, 0.004, 0.008, 0.012, 0.016])
    assert betas[749] == pytest.approx(0.996)
    assert betas[750] == 1


def test_linear_annealing():
    betas = values(Schedule.linear(beta=0.5, ramp=0.2), 100)
    assert betas[:20] == pytest.approx([0.5 * step / 20 for step in range(20)])
    assert betas[20:] == [0.5] * 80


def test_cyclical_annealing_of_fu():
    """Fu et al. 2019, eq. 6 and 7: τ = (t mod T/M) / (T/M); τ/R up to R, then 1."""
    total, cycles, ramp = 400, 4, 0.5
    for step, beta in enumerate(values(Schedule.cyclical(), total)):
        tau = step % (total // cycles) / (total / cycles)
        assert beta == pytest.approx(tau / ramp if tau <= ramp else 1)


def test_constant():
    assert values(Schedule.constant(4.0), 7) == [4.0] * 7
    assert values(Schedule.constant(), 7) == [1.0] * 7


@settings(deadline=None)
@given(schedules(), st.integers(1, 300))
def test_bounded_and_rising_inside_a_cycle(schedule, total):
    betas = values(schedule, total)
    assert all(0 <= beta <= schedule.beta for beta in betas)
    cycle = [step * schedule.cycles // total for step in range(total)]
    for step in range(1, total):
        if cycle[step] == cycle[step - 1]:
            assert betas[step] >= betas[step - 1]


@settings(deadline=None)
@given(schedules(), st.integers(1, 10**9), st.data())
def test_pure_in_the_step_and_held_at_the_end(schedule, total, data):
    step = data.draw(st.integers(0, total - 1))
    first = schedule(step, total)
    schedule(0, total)
    assert schedule(step, total) == first
    assert schedule(total, total) == schedule(total + step, total) == schedule.beta


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(1, 50), st.data())
def test_every_cycle_is_the_first(cycles, length, data):
    schedule = Schedule.zero_ramp(cycles=cycles, zero=0.3, ramp=0.4)
    step = data.draw(st.integers(0, cycles * length - 1))
    assert schedule(step, cycles * length) == pytest.approx(
        Schedule.zero_ramp(zero=0.3, ramp=0.4)(step % length, length)
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"zero": 0.8, "ramp": 0.5},
        {"zero": 0.5, "ramp": 0.5 + 1e-9},
        {"zero": -0.1},
        {"ramp": -0.1},
        {"cycles": 0},
        {"beta": -1.0},
        {"beta": math.nan},
        {"beta": math.inf},
    ],
)
def test_impossible_schedules_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        Schedule(**bad)


@settings(deadline=None)
@given(st.integers(0, 100))
def test_fractions_that_fill_the_cycle_are_accepted(percent):
    schedule = Schedule(zero=percent / 100, ramp=(100 - percent) / 100)
    assert schedule(100, 100) == 1
