"""``--train.gradient-checkpointing``: the same run, layers computed twice."""

import torch


def test_a_run_ends_with_the_same_weights(make, tmp_path):
    usual = make(tmp_path / "usual", train={"steps": 4})
    other = make(tmp_path / "other", train={"steps": 4, "gradient_checkpointing": True})
    layers = [module for module in other.model.modules() if hasattr(module, "attn")]
    assert layers
    assert all(layer.gradient_checkpointing for layer in layers)
    for name, weight in usual.model.named_parameters():
        torch.testing.assert_close(other.model.get_parameter(name), weight, rtol=1e-4, atol=1e-6)
