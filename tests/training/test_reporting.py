"""Reports to experiment trackers: the real packages, offline; what fails ends the report alone."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import pytest

from isthmus.errors import IsthmusError
from isthmus.settings.trackers import TRACKERS, check_trackers
from isthmus.training.callbacks import errors_here_alone
from isthmus.training.reporting import reporters
from trainers import Do, distance, log_of, weights

SEEN = ("loss", "kl", "beta")


def refused(name: str) -> None:
    raise AssertionError(f"{name} failed")


@pytest.fixture
def report(make, tmp_path):
    """Train while reporting to a tracker, and give the rows that the log has of training."""

    def report(name: str) -> list[dict]:
        pytest.importorskip(name, reason=f"needs {name}, which is not installed")
        out = tmp_path / "reported"
        make(out, callbacks=reporters([name], out, refused))
        return [row for row in log_of(out) if "loss" in row]

    return report


def test_wandb_has_the_log(report, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    last = report("wandb")[-1]
    import wandb

    assert wandb.run.name == "reported"
    summary = dict(wandb.run.summary)
    wandb.finish()
    for key in SEEN:
        assert summary[f"train/{key}"] == pytest.approx(last[key])
    assert summary["train/global_step"] == 6
    assert "eval/elbo" in summary
    [written] = tmp_path.rglob("*.wandb")
    assert written.stat().st_size > 1000


# What its database library says of its own use of it.
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_the_log(report, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")
    rows = report("mlflow")
    import mlflow

    client = mlflow.MlflowClient()
    [run] = client.search_runs(["0"])
    assert run.info.run_name == "reported"
    assert run.info.status == "FINISHED"
    for key in SEEN:
        found = client.get_metric_history(run.info.run_id, key)
        assert [one.step for one in found] == [row["step"] for row in rows]
        assert [one.value for one in found] == pytest.approx([row[key] for row in rows])


def test_trackio_has_the_log(report, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    rows = report("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    found = [one for one in SQLiteStorage.get_logs("huggingface", "reported") if "train/kl" in one]
    assert [one["train/kl"] for one in found] == pytest.approx([row["kl"] for row in rows])
    assert [one["train/global_step"] for one in found] == [row["step"] for row in rows]


def test_tensorboard_has_the_log(report, tmp_path):
    rows = report("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "reported" / "tensorboard")).Reload()
    for key in SEEN:
        found = events.Scalars(f"train/{key}")
        assert [one.step for one in found] == [row["step"] for row in rows]
        assert [one.value for one in found] == pytest.approx([row[key] for row in rows])


def test_a_report_that_fails_does_not_end_the_run(make, tmp_path):
    pytest.importorskip("tensorboard")
    out, said = tmp_path / "run", []
    lose = Do(1, lambda _: (shutil.rmtree(out / "tensorboard"), (out / "tensorboard").touch()))
    with errors_here_alone():  # as in a run: its writing thread fails first
        run = make(out, callbacks=[lose, *reporters(["tensorboard"], out, said.append)])
    assert len(said) == 1
    assert said[0].startswith("tensorboard failed (")
    assert said[0].endswith("nothing more is reported to it")
    assert distance(weights(run), weights(make(tmp_path / "alone"))) == 0


def test_a_report_that_cannot_begin_is_one_line(make, tmp_path):
    pytest.importorskip("tensorboard")
    out = tmp_path / "run"
    out.mkdir()
    (out / "tensorboard").touch()
    with pytest.raises(IsthmusError, match=r"report-to: tensorboard cannot begin \(.*--out"):
        make(out, callbacks=reporters(["tensorboard"], out, refused))


def test_what_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(IsthmusError, match="got 'comet', expected one of wandb, mlflow, trackio"):
        check_trackers(["comet"])
    absent = [name for name in TRACKERS if find_spec(name) is None]
    if not absent:
        pytest.skip("every tracker is installed")
    for name in absent:
        (tmp_path / name).mkdir()  # as an offline run leaves it; it is no package
    monkeypatch.syspath_prepend(tmp_path)
    for name in absent:
        with pytest.raises(IsthmusError, match=f"{name} is not installed; run: pip"):
            check_trackers([name])
