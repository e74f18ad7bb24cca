"""How many threads a command computes with: as many as cores are free.

Threads that wait for each other lose more than they win where another program has a core: with one
of two cores busy, two threads are slower than one (docs/runs.md).
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ASKED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of the environment by which a user chooses."""
BUSY = 0.2
"""Part of a core's time that others may have before it counts as theirs: from about there on,
waiting for its thread costs more than the thread brings."""
_AGAIN = 0.5
"""Seconds of a second look: what is busy for a moment is no reason."""


class Reading(NamedTuple):
    """Processor time until now, in seconds."""

    cores: int
    """Those that this process may use; 0 where the system does not say."""
    all: float
    """Of these cores."""
    idle: float
    """Of these cores."""
    own: float
    """Of this process."""


def threads_for(cores: int, busy: float, quota: float, environment: Mapping[str, str]) -> int:
    """Threads to compute with; 0 to leave the choice as it is.

    Args:
        cores: that may be used, without their hyperthreads.
        busy: share of their time that other programs take.
        quota: number of cores that the process may keep busy; infinite without a limit.
        environment: where the user may have chosen.
    """
    if any(name in environment for name in ASKED):
        return 0
    threads = max(1, math.floor(min(cores * (1 - busy), quota) + BUSY))
    return threads if threads < cores else 0


def choose_threads(before: Reading) -> str:
    """Choose for all libraries that this process has yet to import, and say so in a line.

    Args:
        before: how things were a little earlier.

    Returns:
        The line; empty where nothing was chosen: all cores are free, the user has chosen, or torch
        is there already, which has chosen.
    """
    if "torch" in sys.modules or not before.cores:
        return ""
    cores, quota = _without_hyperthreads(before.cores), _quota()
    busy = busy_share(before, read())
    if threads_for(cores, busy, math.inf, os.environ):
        again = read()
        time.sleep(_AGAIN)
        busy = min(busy, busy_share(again, read()))
    threads = threads_for(cores, busy, quota, os.environ)
    if not threads:
        return ""
    os.environ[ASKED[0]] = str(threads)
    reason = f"other programs take {busy * cores:.1f}"
    if quota < cores * (1 - busy):
        reason = f"the control group has {quota:.1f}"
    return f"threads: {threads}; {reason} of {cores} cores (OMP_NUM_THREADS={cores} takes all)"


def read() -> Reading:
    """The present reading."""
    try:
        mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
        second = os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError):  # not Linux
        return Reading(0, 0, 0, 0)
    rows = [line.split()[1:9] for line in lines if line.split()[0] in mine]
    times = [[int(ticks) / second for ticks in row] for row in rows]
    # user, nice, system, idle, waiting for a disk, interrupts, and what a hypervisor took
    idle = sum(row[3] + row[4] for row in times)
    return Reading(len(times), sum(map(sum, times)), idle, time.process_time())


def busy_share(before: Reading, after: Reading) -> float:
    """Share of the cores' time between two readings that other programs took."""
    everything, idle, own = (b - a for a, b in zip(before[1:], after[1:], strict=True))
    return max(0.0, everything - idle - own) / everything if everything > 0 else 0.0


def _without_hyperthreads(cores: int) -> int:
    """The cores that this process may use, where each is counted once."""
    with suppress(OSError):
        return len(
            {
                Path(f"/sys/devices/system/cpu/cpu{number}/topology/core_cpus_list").read_bytes()
                for number in os.sched_getaffinity(0)
            }
        )
    return cores


def _quota() -> float:
    """Cores that the control group of a container grants; infinite without a limit."""
    groups = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # "max"
        granted, period = map(int, (groups / "cpu.max").read_text(encoding="utf-8").split())
        return granted / period
    with suppress(OSError, ValueError):  # the first version of control groups
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        granted, period = (int((groups / "cpu" / name).read_text("utf-8")) for name in names)
        return granted / period if granted > 0 else math.inf
    return math.inf
