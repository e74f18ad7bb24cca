"""Gradient checkpointing: less is kept for the backward pass, and every number stays."""

import copy

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.models.text_model import TextModel
from tiny import TEXT_SYSTEMS, TEXTS, make

SYSTEMS = [
    *("gpt2-memory+embedding", "gpt2-prefix+memory", "gpt2-prefix+cross", "llama-gqa", "qwen2"),
    *("gemma2", "opt", "bloom", "gpt_neox", "t5", "t5-all", "bart-memory+cross", "gpt2-aligned"),
    *("llama-summary", "labels", "codes-memory", "vamp"),
]


def step(model: TextModel) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Terms, gradients, and bytes that the forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = model.codec.prepare(TEXTS * 8).collate(range(48), noise_shape=model.latent_shape)
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = model.train()(**batch).terms
    terms.negative_elbo.mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return terms.negative_elbo.detach(), gradients, sum(kept.values())


def recomputed(model: TextModel) -> TextModel:
    other = copy.deepcopy(model)
    other.recompute()
    return other


@pytest.mark.parametrize("name", SYSTEMS)
def test_numbers_stay_with_every_bridge(name):
    model = TEXT_SYSTEMS[name]()
    usual, other = step(model), step(recomputed(model))
    torch.testing.assert_close(other[0], usual[0], rtol=1e-5, atol=1e-5)
    assert usual[1].keys() == other[1].keys()
    for place, gradient in usual[1].items():
        torch.testing.assert_close(other[1][place], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("architecture", "bridge"), [("gpt2", "memory"), ("llama", "prefix")])
def test_less_is_kept_and_dropout_is_drawn_alike(architecture, bridge):
    model = make(architecture, bridge, dropout=0.1)
    usual, other = step(model), step(recomputed(model))
    assert torch.equal(usual[0], other[0])
    for place, gradient in usual[1].items():
        torch.testing.assert_close(other[1][place], gradient, rtol=1e-4, atol=1e-5)
    assert other[2] < 0.7 * usual[2]


def test_a_model_without_layers_to_recompute_is_refused():
    with pytest.raises(IsthmusError, match="transformers' ctrl cannot be recomputed; leave out"):
        TEXT_SYSTEMS["codes-ctrl"]().recompute()
