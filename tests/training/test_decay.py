"""Weight decay: which parameters it shrinks, by what it does to them."""

from __future__ import annotations

import pytest
import torch

from trainers import weights

MAMBA = {
    "lm_head.weight",  # the embeddings again, as T5's three are one
    "backbone.embeddings.weight",
    *(f"backbone.layers.0.mixer.{name}.weight" for name in ("conv1d", "dt_proj", "in_proj")),
    *(f"backbone.layers.0.mixer.{name}.weight" for name in ("out_proj", "x_proj")),
}
T5 = {
    *(f"{name}.weight" for name in ("shared", "decoder.embed_tokens", "lm_head")),
    *(f"decoder.block.0.layer.0.SelfAttention.{name}.weight" for name in "qkvo"),
    *(f"decoder.block.0.layer.1.EncDecAttention.{name}.weight" for name in "qkvo"),
    *(f"decoder.block.0.layer.2.DenseReluDense.{name}.weight" for name in ("wi", "wo")),
}


@pytest.mark.parametrize(
    ("architecture", "bridge", "prior", "expected"),
    [("mamba", "embedding", "vamp", MAMBA), ("t5", "cross-attention", "mixture", T5)],
)
def test_decay_shrinks_matrices_and_nothing_else(
    make, tmp_path, architecture, bridge, prior, expected
):
    """The norms of T5 and Mamba are classes of their own; a prior is no weight of a network."""
    groups = {
        "model": {"prior": prior, "bridge": bridge, "decoder": {"architecture": architecture}},
        "objective": {"schedule": "constant"},  # at β = 0 no gradient reaches a prior
    }
    runs = []
    for decay in (0.0, 0.5):
        train = {"steps": 1, "weight_decay": decay, "warmup": 0.0}
        runs.append(weights(make(tmp_path / str(decay), count=16, train=train, **groups)))
    shrunk = {name for name in runs[0] if not torch.equal(runs[0][name], runs[1][name])}
    assert not {name for name in shrunk if name.startswith("prior_module")}
    start = "decoder.model."
    assert {name.removeprefix(start) for name in shrunk if name.startswith(start)} == expected
    others = {name for name in shrunk if not name.startswith(start)}
    assert others >= {"encoder.head.weight", "bridge.linear.weight"}
    assert all(runs[0][name].ndim > 1 and "LayerNorm" not in name for name in others)


@pytest.mark.parametrize("architecture", ["gpt2", "lstm", "dilated-cnn", "t5"])
def test_adaptive_softmax_trains_in_bf16(make, tmp_path, architecture):
    bridge = {"lstm": "state+input", "dilated-cnn": "input"}.get(architecture, "embedding")
    decoder = {"architecture": architecture, "output": "adaptive"}
    losses = []
    for precision in ("float32", "bf16"):
        trainer = make(
            tmp_path / precision,
            count=16,
            model={"bridge": bridge, "decoder": decoder},
            train={"precision": precision, "steps": 2, "log_every": 1},
        )
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert losses[1] != losses[0]
