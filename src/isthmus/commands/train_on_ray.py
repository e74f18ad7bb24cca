"""``isthmus train --on ray``: Ray Train starts the processes of a run on a cluster.

Each process runs the command itself, as under torchrun, and the first one's lines come back.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from isthmus.commands.on_ray import connected, places
from isthmus.errors import IsthmusError, reason_of
from isthmus.progress import console

if TYPE_CHECKING:
    from ray.util.queue import Queue

_STREAMS: Final = ("stdout", "stderr")
_GOES_ON: Final = "go on from the last checkpoint with the same command and --resume"


def train_on_ray(train: Callable[[], None], out: Path, on: str, processes: int) -> None:
    """Run a command in several processes of a cluster.

    Args:
        train: The command; its files are where this machine has them, for all nodes.
        out: The run directory, absolute.
        on: ``ray`` or ``ray:ADDRESS``.
        processes: Their number; 0 for one on each GPU, or on each core where there are none.

    Raises:
        IsthmusError: One of them failed, or the cluster has fewer places.
    """
    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"  # each line would come twice
    with connected(on):
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        from isthmus.training.processes import timeout

        kind, most = places()
        if processes > most:
            raise IsthmusError(
                f"--processes: got {processes}, and the cluster has {most} {kind}s; take fewer"
            )
        count = processes or most
        console().print(f"ray: processes: {count:,}")
        # Ray looks whether every node sees this folder.
        notes = out.with_name(f".{out.name}-ray")
        with _lines() as queue:
            trainer = TorchTrainer(
                partial(_one_process, train, os.getcwd(), queue),
                scaling_config=ScalingConfig(num_workers=count, use_gpu=kind == "GPU"),
                torch_config=TorchConfig(timeout_s=round(60 * timeout())),
                run_config=RunConfig(
                    name="notes",
                    storage_path=str(notes),
                    failure_config=FailureConfig(max_failures=0),
                ),
            )
            try:
                trainer.fit()
            except Exception as error:  # Ray's own, of a worker or of its controller
                raise _failure(error) from error
            finally:
                shutil.rmtree(notes, ignore_errors=True)


def _one_process(train: Callable[[], None], folder: str, queue: Queue) -> None:
    """The command in one of the processes."""
    import torch

    from isthmus.progress import is_first_process

    os.chdir(folder)
    torch.set_num_threads(1)
    if is_first_process():
        sys.stdout, sys.stderr = (Sent(queue, name) for name in _STREAMS)
    train()


def _failure(error: Exception) -> IsthmusError:
    """What a process says of itself, or else what Ray says of it, in one line."""
    from isthmus.training.processes import Lost

    failures = [*getattr(error, "worker_failures", {}).values()]
    causes = [getattr(each, "_base_exc", each) for each in failures]
    own = [each for each in causes if isinstance(each, IsthmusError)]
    if own:
        return min(own, key=lambda each: isinstance(each, Lost))
    reason = reason_of(causes[0] if causes else error)
    return IsthmusError(f"--on ray: a process failed ({reason}); {_GOES_ON}")


@final
@dataclass(frozen=True)
class Sent:
    """A text stream whose text is written on the machine of the command."""

    queue: Any
    name: str
    encoding: str = "utf-8"

    def write(self, text: str) -> int:
        """Send it."""
        self.queue.put((self.name, text))
        return len(text)

    def flush(self) -> None:
        """All is sent."""

    def isatty(self) -> bool:
        """It is not."""
        return False


@contextmanager
def _lines() -> Iterator[Queue]:
    """A queue whose texts are written here."""
    from ray.util.queue import Queue

    queue = Queue(actor_options={"num_cpus": 0})

    def write() -> None:
        while (found := queue.get()) is not None:
            name, text = found
            stream = getattr(sys, name)
            stream.write(text)
            stream.flush()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield queue
    finally:
        queue.put(None)
        writer.join()
        queue.shutdown()
