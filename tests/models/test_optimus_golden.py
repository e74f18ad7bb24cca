"""The numbers of Optimus' own code (Li et al. 2020), by stock transformers models and a bridge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertConfig, GPT2Config

from isthmus.models.optimus import OptimusConfig, OptimusModel

BRIDGES = {"embedding": "embedding", "memory": "memory", "both": "memory+embedding"}


@pytest.fixture(scope="module")
def golden(shared_data) -> Path:
    folder = shared_data / "golden" / "optimus_tiny"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


def read(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    return json.loads((folder / "config.json").read_text()), weights


def original(golden: Path, bridge: str) -> OptimusModel:
    """Our model with the authors' weights: every one of them goes somewhere, none is missing."""
    encoder_config, encoder = read(golden / "checkpoint-encoder-700")
    decoder_config, decoder = read(golden / "checkpoint-decoder-700")
    config = OptimusConfig(
        encoder=BertConfig(**encoder_config),
        decoder=GPT2Config(**decoder_config),
        latent_size=8,
        bridge=bridge,
        pooling="pooler",
    )
    model = OptimusModel(config).eval()
    weights = {f"encoder.model.{name}": value for name, value in encoder.items()}
    weights["encoder.head.weight"] = weights.pop("encoder.model.linear.weight")
    weights |= {
        f"decoder.model.{name}": value
        for name, value in decoder.items()
        if not name.endswith(".attn.bias")  # the causal mask, a buffer of the old code
    }
    maps = {
        "memory": weights.pop("decoder.model.transformer.linear.weight"),
        "embedding": weights.pop("decoder.model.transformer.linear_emb.weight"),
    }
    names = bridge.split("+")
    if len(names) == 1:
        weights["bridge.linear.weight"] = maps[bridge]
    else:
        weights |= {f"bridge.parts.{name}.linear.weight": maps[name] for name in names}
    model.load_state_dict(weights, strict=True)
    return model


@torch.no_grad()
def test_posterior(golden):
    expected = load_file(golden / "expected.safetensors")
    posterior = original(golden, "memory").posterior(
        {
            "input_ids": expected["encoder_input_ids"],
            "attention_mask": expected["encoder_attention_mask"],
        }
    )
    assert (posterior.mean - expected["mean"]).abs().max() < 1e-5
    assert (posterior.log_variance - expected["log_variance"]).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", BRIDGES)
def test_logits(golden, name):
    expected = load_file(golden / "expected.safetensors")
    model = original(golden, BRIDGES[name])
    conditioning = model.bridge(expected["z"].unsqueeze(1))
    hidden = model.decoder.hidden(conditioning, expected["decoder_input_ids"])
    logits = expected[f"logits_{name}"]
    assert (model.decoder.logits(hidden) - logits).abs().max() < 1e-5
    # and z is felt: the other bridges' logits are far from these
    others = [expected[f"logits_{other}"] for other in BRIDGES if other != name]
    assert min((logits - other).abs().max() for other in others) > 1e-3
