"""What a model in parts refuses, each in one line."""

import pytest
import torch

from isthmus.data import scenes
from isthmus.errors import IsthmusError
from isthmus.models.build import build
from isthmus.settings import Settings, from_dict, merged
from isthmus.training.processes import join, naming_a_loss
from isthmus.training.sharding import check_sharding, divide
from trainers import TINY


def settings(**changes):
    return from_dict(Settings, merged(TINY, changes), "test")


@pytest.mark.parametrize(
    ("train", "processes", "resume", "said"),
    [
        ({}, 1, False, "got one process, expected several"),
        ({"minutes": 5.0}, 2, False, "train.minutes"),
        ({"semi_amortised": 2}, 2, False, "train.semi_amortised"),
    ],
)
def test_what_cannot_be_trained_in_parts_is_refused(train, processes, resume, said):
    check_sharding(settings(train=train), processes, resume)  # not in parts
    with pytest.raises(IsthmusError, match=said):
        check_sharding(settings(train=train | {"sharding": True}), processes, resume)


def test_a_run_in_parts_can_go_on_with_one_process():
    check_sharding(settings(train={"sharding": True}), 1, resume=True)


def test_layers_that_processes_would_draw_apart_are_refused():
    texts = [sentence.text for sentence in scenes.generate("train", 8)]
    part = {"architecture": "bart", "options": {"decoder_layerdrop": 0.1}}
    model = build(settings(model={"decoder": part, "bridge": "embedding"}), texts)
    with pytest.raises(IsthmusError, match=r"decoder_layerdrop 0\.1"):
        divide(model, "cpu", 2)


def test_a_lost_process_takes_one_line(monkeypatch):
    with pytest.raises(IsthmusError, match="--resume") as found, naming_a_loss():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    assert "30 minutes (ISTHMUS_TIMEOUT)" in str(found.value)
    with pytest.raises(RuntimeError, match="shape"), naming_a_loss():
        raise RuntimeError("shape mismatch")
    monkeypatch.setenv("ISTHMUS_TIMEOUT", "soon")
    with pytest.raises(IsthmusError, match="ISTHMUS_TIMEOUT: got 'soon', expected minutes"):
        join()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(IsthmusError, match="--nproc-per-node 2"):
        join()
