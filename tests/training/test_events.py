"""TensorBoard's events: an error in its thread is raised in ours, and printed nowhere else."""

from __future__ import annotations

import shutil
import threading

import pytest

from isthmus.training.callbacks import errors_here_alone


def test_an_error_of_the_writing_thread_is_raised_once(tmp_path, monkeypatch):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: seen.append(failure.thread.name))
    with errors_here_alone():
        writer = tensorboard.SummaryWriter(tmp_path / "events")
        writer.flush()
        shutil.rmtree(tmp_path / "events")  # as a full disk: it cannot go on writing
        writer.add_scalar("loss", 1.0, 0)
        with pytest.raises(OSError, match="events"):
            writer.flush()
        other = threading.Thread(target=lambda: 1 / 0, name="other")
        other.start()
        other.join()
    assert seen == ["other"]
