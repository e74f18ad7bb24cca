"""``--on ray``: the work of a verb shared by the workers of a Ray cluster.

Ray Data sends each part of the examples to a worker, a process with a model of the run, and sends
it again if that dies. By its number what comes back finds its place.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from isthmus.commands.threads import read
from isthmus.data.batches import WINDOW
from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.codec import Examples
from isthmus.models.workers import Columns, Work, Workers
from isthmus.progress import Progress, console

if TYPE_CHECKING:
    from isthmus.models.base import LatentModel

PART: Final = 256
"""Prepared examples that a worker gets at a time: few, so that all end together."""
_SECONDS: Final = 10
"""That an address has to answer in."""
AHEAD: Final = 2
"""Parts that a worker has: one that it computes, and the next."""

Load = Callable[[], "LatentModel"]
"""Loads the run."""


@final
@dataclass(frozen=True)
class Part:
    """Some examples on their way to a worker, and what is given of each."""

    number: int
    places: Sequence[int]
    examples: Any
    given: Columns


@final
@dataclass(frozen=True)
class Made:
    """What comes back: the columns of a part, or why it is refused."""

    number: int
    columns: Columns | IsthmusError
    lost: str
    """What of the examples was not read."""
    done: int
    """The progress made."""


@contextmanager
def cluster(on: str, load: Load) -> Iterator[RayWorkers]:
    """The workers of the cluster that :func:`connected` finds."""
    with connected(on):
        yield RayWorkers(load)


@contextmanager
def connected(on: str) -> Iterator[None]:
    """Be connected to the cluster that is named; keep the one that a program is connected to.

    A cluster of this machine begins and ends with the block.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of a change
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of how Ray Data uses it
    with _without_native_lines():
        import ray

    before = ray.is_initialized()
    if not before:
        _connect(on.partition(":")[2])
    try:
        yield
    finally:
        if not before:
            ray.shutdown()


def places() -> tuple[str, int]:
    """What a process of the cluster needs one of, GPU or CPU, and how many there are."""
    import ray

    resources = ray.cluster_resources()
    kind = "GPU" if resources.get("GPU") else "CPU"
    return kind, max(1, int(resources.get(kind, 1)))


def _connect(address: str) -> None:
    """Connect to a cluster, or start one on the cores that this process may use."""
    import ray

    options: dict[str, Any] = {"address": address}
    if not address:
        cores = read().cores or os.cpu_count()
        options = {"address": "local", "num_cpus": cores, "include_dashboard": False}
    what, remedy = f"--on ray:{address}: no cluster", "give the HOST:PORT of one that runs"
    if not address:
        what, remedy = "--on ray: no cluster could be started", "try again"
    with in_one_line(what, remedy), _without_native_lines():
        _check_there(address)
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)


def _check_there(address: str) -> None:
    """Raise OSError where nothing answers at HOST:PORT: Ray would try again for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), _SECONDS).close()


@contextmanager
def _without_native_lines() -> Iterator[None]:
    """Leave out what libraries write to standard error past Python: here, how they log."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def _failures() -> Iterator[None]:
    """What Ray says of a failure in the last of many lines, which are the worker's own."""
    try:
        yield
    except IsthmusError:
        raise
    except Exception as error:  # a worker can raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise IsthmusError(
            f"--on ray: a worker failed ({lines[-1].strip()}); docs/scale.md says what each node "
            "needs"
        ) from error


@final
class RayWorkers(Workers):
    """A worker on each core of a cluster, or on each of its GPUs.

    Args:
        load: Loads the run, in each worker.
    """

    def __init__(self, load: Load) -> None:
        self.load = load

    def parts(
        self, work: Work, model: LatentModel, examples: Any, given: Columns, progress: Progress
    ) -> Iterator[tuple[Sequence[int], Columns]]:
        """Parts of at most WINDOW examples, as they are done."""
        from ray import cloudpickle

        planned, came, lost = plan(examples), list[int](), dict[int, str]()
        raw = examples.raw if isinstance(examples, Examples) else examples
        parts = [
            Part(number, some, _some(raw, some), tuple(_some(one, some) for one in given))
            for number, some in enumerate(planned)
        ]
        with _failures():
            for row in _mapped(parts, (self.load, work, model.only_summary)).iter_rows():
                made: Made = cloudpickle.loads(row["made"])
                if isinstance(made.columns, IsthmusError):
                    raise made.columns
                came.append(made.number)
                lost[made.number] = made.lost
                progress(made.done)
                yield planned[made.number], made.columns
        if sorted(came) != list(range(len(planned))):
            raise IsthmusError(
                f"--on ray: of {len(planned):,} parts {len(came):,} came back, expected each "
                "once; start again"
            )
        if some := [lost[number] for number in sorted(lost) if lost[number]]:
            more = f" in a part; the like in {len(some) - 1:,} others" if len(some) > 1 else ""
            console().print(f"read: {some[0]}{more}")


def _mapped(parts: list[Part], load: tuple[Any, ...]) -> Any:
    """A dataset of what workers make of the parts."""
    import pyarrow
    import ray
    from ray import cloudpickle
    from ray.data import ActorPoolStrategy, DataContext

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised as well
    DataContext.get_current().enable_progress_bars = False
    kind, most = places()
    there = min(len(parts), most)
    console().print(f"ray: workers: {there:,}; parts of the data: {len(parts):,}")
    # Each is a table of one row, which Ray does not divide, as Ray's own serialiser writes it.
    rows = [pyarrow.array([cloudpickle.dumps(one)], "large_binary") for one in parts]
    data: Any = ray.data.from_arrow([pyarrow.table({"part": row}) for row in rows])
    return data.map(
        Worker,
        fn_constructor_args=load,
        compute=ActorPoolStrategy(
            min_size=1,
            max_size=len(parts),  # where the cluster grows
            initial_size=there,
            max_tasks_in_flight_per_actor=AHEAD,
        ),
        num_cpus=1,
        num_gpus=1 if kind == "GPU" else None,
    )


def plan(examples: Any) -> list[Sequence[int]]:
    """The places of the examples of each part.

    What was prepared is sorted by its length, so that parts waste no padding. The batches of other
    parts are those of the whole, and so is each bit of what is computed.
    """
    count = len(examples)
    if isinstance(examples, Examples):
        order = np.argsort(-examples.lengths, kind="stable").tolist()
        return [order[first : first + PART] for first in range(0, count, PART)]
    return [range(first, min(first + WINDOW, count)) for first in range(0, count, WINDOW)]


def _some(values: Any, places: Sequence[int]) -> Any:
    """The values at some places: of a list, or of a tensor, an array or posteriors; or None."""
    if values is None:
        return None
    if isinstance(values, list):
        return [values[place] for place in places]
    return values[list(places)]


@final
class Worker:
    """A process with one model and one thread; arguments as Ray sends them."""

    def __init__(self, load: Load, work: Work, summary: bool) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch

        from isthmus.models.base import summarised

        torch.set_num_threads(1)
        self.model, self.work = load(), work
        self.level: Callable[[], Any] = nullcontext
        if summary:
            self.level = lambda: summarised(self.model)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """What is made of a part."""
        from ray import cloudpickle

        part, done = cloudpickle.loads(row["part"]), list[int]()
        columns: Columns | IsthmusError
        self.model.lost = ""
        try:
            with self.level():
                columns = self.work(
                    self.model, part.examples, part.places, *part.given, progress=done.append
                )
        except IsthmusError as error:
            columns = error
        made = Made(part.number, columns, self.model.lost, sum(done))
        return {"made": cloudpickle.dumps(made)}
