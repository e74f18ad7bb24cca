"""The numbers of Optimus' own code (Li et al. 2020), by way of its checkpoints in every layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import isthmus
from isthmus.cli import main
from isthmus.models.optimus import OptimusModel
from isthmus.runs.bundle import read_run
from optimus_checkpoint import write_decoder_vocabulary, write_encoder_vocabulary

BRIDGES = {"embedding": "embedding", "memory": "memory", "both": "memory+embedding"}
LAYOUTS = {
    "parts": ["checkpoint-encoder-700", "checkpoint-decoder-700"],
    "full": [
        "checkpoint-full-700",
        "checkpoint-encoder-700/config.json",
        "checkpoint-decoder-700/config.json",
    ],
    "all": ["checkpoint-encoder-700", "checkpoint-decoder-700", "checkpoint-full-700"],
}


@pytest.fixture(scope="module")
def golden(shared_data) -> Path:
    folder = shared_data / "golden" / "optimus_tiny"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


@pytest.fixture(params=LAYOUTS)
def layout(golden, tmp_path, request) -> Path:
    """A checkpoint of the authors in one of its layouts, with vocabularies of its sizes."""
    for name in LAYOUTS[request.param]:
        target = tmp_path / "original" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (golden / name).is_dir():
            shutil.copytree(golden / name, target)
        else:
            shutil.copy(golden / name, target)
    write_encoder_vocabulary(tmp_path / "original", 120)
    write_decoder_vocabulary(tmp_path / "original", 100)
    return tmp_path / "original"


def imported(layout: Path, bridge: str) -> Path:
    run = layout.parent / "run"
    assert main(["import-optimus", str(layout), "--out", str(run), "--bridge", bridge]) == 0
    return run


@torch.no_grad()
@pytest.mark.parametrize("name", BRIDGES)
def test_logits_and_posterior(golden, layout, name):
    expected = load_file(golden / "expected.safetensors")
    run = imported(layout, BRIDGES[name])
    model = isthmus.load(run)
    posterior = model.posterior(
        {
            "input_ids": expected["encoder_input_ids"],
            "attention_mask": expected["encoder_attention_mask"],
        }
    )
    assert (posterior.mean - expected["mean"]).abs().max() < 1e-5
    assert (posterior.log_variance - expected["log_variance"]).abs().max() < 1e-5
    conditioning = model.bridge(expected["z"].unsqueeze(1))
    hidden = model.decoder.hidden(conditioning, expected["decoder_input_ids"])
    logits = model.decoder.logits(hidden)
    assert (logits - expected[f"logits_{name}"]).abs().max() < 1e-5
    # and z is felt: the other bridges' logits are far from these
    others = [expected[f"logits_{other}"] for other in BRIDGES if other != name]
    assert min((logits - other).abs().max() for other in others) > 1e-3


def test_every_tensor_goes_somewhere_and_none_is_missing(layout):
    run = imported(layout, "memory+embedding")
    _, found = OptimusModel.from_pretrained(run, output_loading_info=True)
    assert list(found["missing_keys"]) == list(found["unexpected_keys"]) == []
    assert list(found["mismatched_keys"]) == []
    whole = layout / "checkpoint-full-700"
    arguments = read_run(run)["imported"]["arguments"]
    assert arguments.get("latent_size") == (8 if whole.is_dir() else None)
