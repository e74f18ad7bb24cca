"""Model calls: one at a time, in the order of arrival, on a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final, Literal, final

from isthmus.errors import IsthmusError
from isthmus.studio.limits import QUEUE

State = Literal["queued", "running", "done", "failed", "cancelled"]

REMEMBERED: Final = 1000
"""Jobs that are over and can still be asked about."""

_log = logging.getLogger(__name__)


@final
class CancelledJob(IsthmusError):
    """The client asked for it, or went away."""

    def __init__(self) -> None:
        super().__init__("cancelled")


@final
class FullQueue(IsthmusError):
    """Too many wait."""

    def __init__(self) -> None:
        super().__init__(f"busy: {QUEUE} requests wait already; try again in a few seconds")


@final
class NameTaken(IsthmusError):
    """A job of that name waits or runs."""


@final
class Job:
    """One call.

    Arguments:
        name: the client's, or one of our own.
        call: the work; it is given the job, to tell it of its progress.
        total: steps that it takes at most.
    """

    def __init__(self, name: str, call: Callable[[Job], Any], total: int) -> None:
        self.name, self.call, self.total = name, call, total
        self.state: State = "queued"
        self.done = 0
        self.stopped = False
        self.result: Future[Any] = Future()

    def step(self) -> None:
        """Count one step, and stop here if the job was cancelled."""
        if self.stopped:
            raise CancelledJob
        self.done = min(self.done + 1, self.total)

    def told(self, position: int) -> dict[str, Any]:
        """Where it stands; ``position`` of those that wait before it."""
        return {
            "state": self.state,
            "position": position,
            "done": self.done,
            "total": self.total,
        }


@final
class Jobs:
    """The queue and its thread; what is given to :meth:`behind` is done while nobody waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._alive: dict[str, Job] = {}
        self._over: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._behind: deque[Iterator[None]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model calls", daemon=True)
        self._thread.start()

    def submit(self, name: str, call: Callable[[Job], Any], total: int = 1) -> Job:
        """Queue a call.

        Raises:
            FullQueue: too many wait.
            NameTaken: a job of that name waits or runs.
        """
        with self._changed:
            if len(self._waiting) >= QUEUE:
                raise FullQueue
            if name in self._alive:
                raise NameTaken(f"X-Job: {name} waits or runs already; give each request its own")
            job = Job(name, call, total)
            self._waiting.append(job)
            self._alive[name] = job
            self._changed.notify()
        return job

    def behind(self, slices: Iterator[None]) -> None:
        """Go through an iterator whenever no call waits; each of its slices must be short."""
        with self._changed:
            self._behind.append(slices)
            self._changed.notify()

    def status(self, name: str) -> dict[str, Any] | None:
        """Where a job stands; None for an unknown one."""
        with self._changed:
            job = self._alive.get(name)
            if job is None:
                return self._over.get(name)
            place = self._waiting.index(job) + 1 if job.state == "queued" else 0
            return job.told(place)

    def cancel(self, name: str) -> bool:
        """Cancel a job that waits, or stop one that runs at its next step; False if neither."""
        with self._changed:
            job = self._alive.get(name)
            if job is None:
                return False
            job.stopped = True
            if job.state == "queued":
                self._waiting.remove(job)
                self._end(job, "cancelled", CancelledJob())
            return True

    def close(self) -> None:
        """Cancel everything and wait for the thread."""
        with self._changed:
            self._closed = True
            for job in list(self._alive.values()):
                job.stopped = True
                if job.state == "queued":
                    self._end(job, "cancelled", CancelledJob())
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _end(self, job: Job, state: State, outcome: Any) -> None:
        job.state = state
        del self._alive[job.name]
        self._over[job.name] = job.told(0)
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
        if isinstance(outcome, BaseException):
            job.result.set_exception(outcome)
        else:
            job.result.set_result(outcome)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or self._waiting or self._behind):
                    self._changed.wait()
                if self._closed:
                    return
                job = self._waiting.popleft() if self._waiting else None
                if job is not None:
                    job.state = "running"
            if job is None:
                self._slice()
            else:
                self._do(job)

    def _do(self, job: Job) -> None:
        state: State = "done"
        try:
            outcome = job.call(job)
        except CancelledJob as error:
            state, outcome = "cancelled", error
        except BaseException as error:  # whoever waits for the result is told
            state, outcome = "failed", error
        with self._changed:
            self._end(job, state, outcome)

    def _slice(self) -> None:
        slices = self._behind[0]
        try:
            next(slices)
        except StopIteration:
            self._behind.popleft()
        except Exception:
            self._behind.popleft()
            _log.exception("work in the background stopped")
