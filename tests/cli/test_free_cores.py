"""A command computes with as many threads as cores are free, unless the user has chosen."""

from math import inf

import pytest

from isthmus.commands.threads import Reading, busy_share, threads_for


@pytest.mark.parametrize(
    ("cores", "busy", "quota", "threads"),
    [
        (2, 0.0, inf, 0),  # all are free: torch chooses
        (2, 0.05, inf, 0),  # a little of one core is not worth a thread
        (2, 0.25, inf, 1),
        (2, 1.0, inf, 1),
        (16, 0.25, inf, 12),
        (64, 0.0, 2.0, 2),  # a container that may use two of many cores
        (64, 0.99, 2.0, 1),
        (8, 0.0, 0.5, 1),
        (1, 1.0, inf, 0),
    ],
)
def test_threads_are_those_of_free_cores(cores, busy, quota, threads):
    assert threads_for(cores, busy, quota, {}) == threads
    assert threads_for(cores, busy, quota, {"OMP_NUM_THREADS": "5"}) == 0
    assert threads_for(cores, busy, quota, {"MKL_NUM_THREADS": "5"}) == 0


def test_a_core_that_this_process_uses_is_free():
    """Of two cores in half a second, one is idle for 0.1 s and this process takes 0.5 s."""
    before = Reading(2, 1000.0, 300.0, 7.0)
    assert busy_share(before, Reading(2, 1001.0, 300.1, 7.5)) == pytest.approx(0.4)
    assert busy_share(before, before) == 0
