"""Weights that are not trained, held in bf16: half the memory, nearly the same numbers."""

import copy

import pytest
import torch
from transformers import AutoModel

from isthmus.models.base import LatentModel
from isthmus.models.checks import awake
from isthmus.models.generation import Generation
from isthmus.models.optimus import OptimusModel
from isthmus.models.text_model import TextModel
from isthmus.runs.bundle import load, save
from tiny import TEXT_SYSTEMS, TEXTS

NAMES = ["gpt2-memory+embedding", "gpt2-prefix+cross", "llama-gqa", "t5", "vamp"]


def tuned(name: str, tuning: str) -> TextModel:
    """A system as it starts, its encoder and decoder kept fixed but for that tuning."""
    full = TEXT_SYSTEMS[name]()
    config = copy.deepcopy(full.config)
    config.encoder_tuning = config.decoder_tuning = tuning
    config.lora_rank = 2
    return OptimusModel(config, codec=full.codec).eval()


def held(model: TextModel) -> TextModel:
    other = copy.deepcopy(model)
    other.config.frozen_dtype = "bfloat16"
    other.hold_frozen()
    return other


def stock_bytes(model: LatentModel, updates: bool) -> int:
    parts = (model.encoder.model, model.decoder.model)
    named = [pair for part in parts for pair in part.named_parameters()]
    return sum(p.numel() * p.element_size() for name, p in named if ("lora_" in name) == updates)


@pytest.mark.parametrize(
    ("name", "tuning"), [*((name, "frozen") for name in [*NAMES, "lstm"]), ("llama-gqa", "lora")]
)
def test_the_terms_stay_within_two_per_cent(name, tuning):
    exact = awake(tuned(name, tuning))
    half = held(exact)
    assert stock_bytes(half, updates=False) * 2 == stock_bytes(exact, updates=False)
    assert stock_bytes(half, updates=True) == stock_bytes(exact, updates=True)
    before, after = exact.terms(TEXTS), half.terms(TEXTS)
    assert after.reconstruction.dtype == torch.float32
    torch.testing.assert_close(after.reconstruction, before.reconstruction, rtol=0.02, atol=0.05)
    torch.testing.assert_close(after.kl_total, before.kl_total, rtol=0.02, atol=0.05)
    assert not torch.equal(after.reconstruction, before.reconstruction)


def gradient(model: TextModel, autocast: bool) -> torch.Tensor:
    """Of everything that is trained, which must be in float32."""
    model.zero_grad()
    batch = model.codec.prepare(TEXTS).collate(range(6), noise_shape=model.latent_shape)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(**batch)
    output.terms.negative_elbo.mean().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.dtype == torch.float32 for p in trained)
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    return torch.cat([p.grad.flatten() for p in trained if p.grad is not None])


@pytest.mark.parametrize("name", ["gpt2-memory+embedding", "llama-gqa", "t5"])
def test_the_gradient_stays_within_three_per_cent(name):
    exact = tuned(name, "lora")
    half = held(exact)
    reference = gradient(exact, autocast=False)
    for autocast in (False, True):
        assert (gradient(half, autocast) - reference).norm() < 0.03 * reference.norm()


@pytest.mark.parametrize(
    ("name", "tuning"),
    [("gpt2-memory+embedding", "lora"), ("t5", "frozen"), ("llama-summary", "frozen")],
)
def test_a_saved_run_is_read_as_it_was_written(name, tuning, tmp_path):
    model = held(awake(tuned(name, tuning)))
    save(model, tmp_path, {})
    read = load(tmp_path)
    types = {name: p.dtype for name, p in model.named_parameters()}
    assert types == {name: p.dtype for name, p in read.named_parameters()}
    assert set(types.values()) == {torch.float32, torch.bfloat16}
    assert torch.equal(model.terms(TEXTS).reconstruction, read.terms(TEXTS).reconstruction)
    other = AutoModel.from_pretrained(tmp_path).eval()
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    z, settings = model.encode(TEXTS).mean, Generation(max_new_tokens=5)
    assert load(tmp_path, only="decoder").decode(z, settings) == model.decode(z, settings)
