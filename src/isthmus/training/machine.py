"""How fast this machine is, to the order of magnitude that a choice of sizes needs."""

from __future__ import annotations

import time

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from isthmus.data.choice import Machine

_SIDE = 512
_TIMES = 20


def this_machine() -> Machine:
    """Measure it, in a tenth of a second; under torchrun the first process does it for all."""
    on_gpu = torch.cuda.is_available()
    PartialState(cpu=not on_gpu)  # as the Trainer will set it up
    found = [_one_gpu() if on_gpu else _all_cores()]
    broadcast_object_list(found)
    return found[0]


def _one_gpu() -> Machine:
    return Machine(torch.cuda.get_device_name(), _operations("cuda"))


def _all_cores() -> Machine:
    """By one core, which counts for all.

    What else runs at the moment disturbs a product on several cores out of proportion.
    """
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        speed = cores * _operations("cpu")
    finally:
        torch.set_num_threads(cores)
    return Machine(f"{cores} core{'s' if cores > 1 else ''}", speed)


def _operations(device: str) -> float:
    """The fastest of some products."""
    matrix = torch.ones(_SIDE, _SIDE, device=device)
    best = float("inf")
    for _ in range(_TIMES):
        begun = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - begun)
    return 2 * _SIDE**3 / best
