"""How fast this machine is, to the order of magnitude that a choice of sizes needs."""

from __future__ import annotations

import torch
from accelerate.utils import broadcast_object_list
from torch.utils.benchmark import Timer

from isthmus.data.choice import Machine
from isthmus.training.processes import join

_SIDE = 512
_SECONDS = 0.1


def this_machine() -> Machine:
    """Measure it, in a tenth of a second; under torchrun the first process does it for all."""
    on_gpu = torch.cuda.is_available()
    join()
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
    return Machine(f"{cores} core{'s' if cores > 1 else ''}", cores * _operations("cpu"))


def _operations(device: str) -> float:
    """The fastest of some products, on one thread of a CPU."""
    matrix = torch.ones(_SIDE, _SIDE, device=device)
    found = Timer("matrix @ matrix", globals={"matrix": matrix}).blocked_autorange(
        min_run_time=_SECONDS
    )
    return 2 * _SIDE**3 / min(found.times)
