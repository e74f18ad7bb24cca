"""Model calls: in order, one at a time, cancelled where they wait or run, bounded in number."""

from __future__ import annotations

import threading

import pytest
from tiny_runs import wait

from isthmus.studio import jobs as module
from isthmus.studio.jobs import CancelledJob, FullQueue, Jobs, NameTaken


@pytest.fixture
def jobs():
    queue = Jobs()
    yield queue
    queue.close()


def held(jobs):
    """A job that runs until it is let go."""
    started, go = threading.Event(), threading.Event()

    def call(job):
        started.set()
        while not go.wait(0.001):
            job.step()
        return "held"

    job = jobs.submit("held", call, total=10)
    started.wait()
    return job, go


def test_calls_are_done_in_the_order_of_arrival_one_at_a_time(jobs):
    running, most, order = [], [], []

    def call(number):
        def work(job):
            running.append(number)
            most.append(len(running))
            order.append(number)
            running.remove(number)
            return number

        return work

    _, go = held(jobs)
    waiting = [jobs.submit(str(n), call(n)) for n in range(50)]
    assert [jobs.status(str(n))["position"] for n in (0, 49)] == [1, 50]
    go.set()
    assert [job.result.result(5) for job in waiting] == list(range(50))
    assert order == list(range(50))
    assert set(most) == {1}
    assert jobs.status("7") == {"state": "done", "position": 0, "done": 0, "total": 1}


def test_one_that_waits_and_one_that_runs_are_cancelled(jobs):
    first, _ = held(jobs)
    second = jobs.submit("second", lambda job: "never")
    assert jobs.cancel("second")
    assert jobs.cancel("held")
    for job in (first, second):
        with pytest.raises(CancelledJob):
            job.result.result(5)
        assert jobs.status(job.name)["state"] == "cancelled"
    assert not jobs.cancel("held")
    assert not jobs.cancel("nobody")
    assert jobs.status("nobody") is None
    assert jobs.submit("third", lambda job: 3).result.result(5) == 3


def test_progress_is_reported_and_never_exceeds_the_total(jobs):
    first, go = held(jobs)
    wait(lambda: jobs.status("held")["done"] == 10)
    go.set()
    assert first.result.result(5) == "held"


def test_an_error_goes_to_whoever_waits_and_the_thread_lives(jobs):
    def fails(job):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        jobs.submit("a", fails).result.result(5)
    assert jobs.status("a")["state"] == "failed"
    assert jobs.submit("a", lambda job: 1).result.result(5) == 1


def test_the_queue_and_its_memory_are_bounded(jobs, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 5)
    _, go = held(jobs)
    with pytest.raises(NameTaken, match="held"):
        jobs.submit("held", lambda job: None)
    waiting = [jobs.submit(str(n), lambda job: None) for n in range(module.QUEUE)]
    with pytest.raises(FullQueue, match="256"):
        jobs.submit("more", lambda job: None)
    go.set()
    waiting[-1].result.result(5)
    wait(lambda: not jobs._alive)
    assert len(jobs._over) == 5


def test_work_in_the_background_waits_for_calls(jobs):
    seen = []

    def slices():
        for n in range(100):
            seen.append(n)
            yield

    _, go = held(jobs)
    jobs.in_background(slices())
    calls = [jobs.submit(str(n), lambda job: len(seen)) for n in range(5)]
    go.set()
    assert [job.result.result(5) for job in calls] == [0] * 5
    wait(lambda: len(seen) == 100)


def test_closing_cancels_what_waits():
    jobs = Jobs()
    first, _ = held(jobs)
    second = jobs.submit("second", lambda job: None)
    jobs.close()
    for job in (first, second):
        with pytest.raises(CancelledJob):
            job.result.result(5)
