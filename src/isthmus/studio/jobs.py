"""Model calls: one at a time, in order of arrival, on their own thread."""

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
"""Finished jobs whose status is kept."""

_log = logging.getLogger(__name__)


@final
class CancelledJob(IsthmusError):
    """The client cancelled the job, or disconnected."""

    def __init__(self) -> None:
        super().__init__("cancelled")


@final
class FullQueue(IsthmusError):
    """Too many jobs are waiting."""

    def __init__(self) -> None:
        super().__init__(f"busy: {QUEUE} requests are waiting; try again in a few seconds")


@final
class NameTaken(IsthmusError):
    """A job of that name is waiting or running."""


@final
class Job:
    """One call.

    Args:
        name: Identifies the job; from the client, or generated.
        call: The work. It receives the job, to report progress by :meth:`step`.
        total: The most steps that it takes.
    """

    def __init__(self, name: str, call: Callable[[Job], Any], total: int) -> None:
        self.name, self.call, self.total = name, call, total
        self.state: State = "queued"
        self.done = 0
        self.stopped = False
        self.result: Future[Any] = Future()

    def step(self) -> None:
        """Count one step; raise if the job was cancelled."""
        if self.stopped:
            raise CancelledJob
        self.done = min(self.done + 1, self.total)

    def status(self, position: int) -> dict[str, Any]:
        """State and progress; ``position`` in the queue, from 1, or 0 outside it."""
        return {
            "state": self.state,
            "position": position,
            "done": self.done,
            "total": self.total,
        }


@final
class Jobs:
    """The queue and its thread, which also does background work while no call waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._alive: dict[str, Job] = {}
        self._over: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._background: deque[Iterator[None]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model calls", daemon=True)
        self._thread.start()

    def submit(self, name: str, call: Callable[[Job], Any], total: int = 1) -> Job:
        """Queue a call.

        Raises:
            FullQueue: Too many jobs are waiting.
            NameTaken: A job of that name is waiting or running.
        """
        with self._changed:
            if len(self._waiting) >= QUEUE:
                raise FullQueue
            if name in self._alive:
                raise NameTaken(f"X-Job: {name} is in use; give each request its own name")
            job = Job(name, call, total)
            self._waiting.append(job)
            self._alive[name] = job
            self._changed.notify()
        return job

    def in_background(self, slices: Iterator[None]) -> None:
        """Advance an iterator whenever no call waits; each of its slices must be short."""
        with self._changed:
            self._background.append(slices)
            self._changed.notify()

    def status(self, name: str) -> dict[str, Any] | None:
        """State and progress of a job; None for an unknown one."""
        with self._changed:
            job = self._alive.get(name)
            if job is None:
                return self._over.get(name)
            place = self._waiting.index(job) + 1 if job.state == "queued" else 0
            return job.status(place)

    def cancel(self, name: str) -> bool:
        """Cancel a waiting job, or stop a running one at its next step; False if it is neither."""
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
            for name in list(self._alive):
                self.cancel(name)
            self._changed.notify()
        self._thread.join()

    def _end(self, job: Job, state: State, outcome: Any) -> None:
        job.state = state
        del self._alive[job.name]
        self._over[job.name] = job.status(0)
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
        if isinstance(outcome, BaseException):
            job.result.set_exception(outcome)
        else:
            job.result.set_result(outcome)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or self._waiting or self._background):
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
        except BaseException as error:  # it is raised to whoever waits for the result
            state, outcome = "failed", error
        with self._changed:
            self._end(job, state, outcome)

    def _slice(self) -> None:
        slices = self._background[0]
        try:
            next(slices)
        except StopIteration:
            self._background.popleft()
        except Exception:
            self._background.popleft()
            _log.exception("background work stopped")
