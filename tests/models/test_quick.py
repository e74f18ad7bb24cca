"""Kernels for training on a CPU: the same mathematics as torch's and transformers'."""

import math

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.activations import NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from isthmus.models.quick import SHORT, attention, dropped, quicken


@pytest.mark.parametrize("p", [0.1, 0.5, 3 * 2**-16])
def test_dropout_has_its_probability_and_keeps_the_mean(p):
    torch.manual_seed(0)
    count = 2_000_003  # no multiple of the four masks that come from one number
    values = torch.ones(count, requires_grad=True)
    found = dropped(values, p)
    share = round(p * 2**16) / 2**16
    zeros = found == 0
    assert abs(zeros.sum().item() - share * count) < 4 * math.sqrt(count * share * (1 - share))
    torch.testing.assert_close(found[~zeros].unique(), torch.tensor([1 / (1 - share)]))
    (gradient,) = torch.autograd.grad(found.sum(), values)
    torch.testing.assert_close(gradient, found)
    # Neighbours, which share random bits, are dropped independently.
    for apart in (1, 2, 3, 4):
        both = (zeros[apart:] & zeros[:-apart]).double().mean().item()
        assert abs(both - share**2) < 5 * share / math.sqrt(count)


def test_dropout_of_nothing_and_of_everything():
    values = torch.ones(7)
    assert dropped(values, 0.0).equal(values)
    assert dropped(values, 1.0).equal(torch.zeros(7))


def small_gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 50, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(**sizes))


def test_a_model_computes_what_it_did():
    usual, quick = small_gpt2().eval(), small_gpt2().eval()
    quicken(quick)
    assert not any(type(part) in (nn.Dropout, NewGELUActivation) for part in quick.modules())
    ids = torch.arange(24).view(2, 12)
    ours, theirs = quick(ids).logits, usual(ids).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert quick.config.to_dict() == usual.config.to_dict()
    assert quick.state_dict().keys() == usual.state_dict().keys()


def test_a_model_that_asks_for_the_name_of_its_attention_keeps_it():
    """It hides keys that its indexer leaves out from "sdpa", and from no other name."""
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("deepseek_v32", **sizes))
    quicken(model)
    assert model.config._attn_implementation == "sdpa"
    usual = small_gpt2()
    quicken(usual)
    assert usual.config._attn_implementation == SHORT


def test_dropout_is_on_in_training_and_off_in_evaluation():
    model, ids = small_gpt2(), torch.arange(24).view(2, 12)
    quicken(model)
    model.train()
    assert not model(ids).logits.equal(model(ids).logits)
    model.eval()
    assert model(ids).logits.equal(model(ids).logits)


MASK = torch.ones(2, 1, 5, 7).tril(2).bool()
BIAS = torch.linspace(-1, 1, 4 * 5 * 7).view(1, 4, 5, 7).double()


@pytest.mark.parametrize("keys", [5, 7])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("mask", [None, MASK, torch.where(MASK, 0.0, -1e9).double()])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_and_its_gradient_are_those_of_torch(keys, biased, mask, causal):
    torch.manual_seed(0)
    layer = nn.Module()
    layer.num_key_value_groups, layer.is_causal = 2, causal
    query = torch.randn(2, 4, 5, 3, dtype=torch.double, requires_grad=True)
    key, value = (
        torch.randn(2, 2, keys, 3, dtype=torch.double, requires_grad=True) for _ in range(2)
    )
    bias = BIAS[..., :keys] if biased else None
    mask = None if mask is None else mask[..., :keys]
    both = []
    for form in (attention, sdpa_attention_forward):
        found, _ = form(layer, query, key, value, mask, scaling=0.4, position_bias=bias)
        both.append([found, *torch.autograd.grad(found.sin().sum(), (query, key, value))])
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("mask", [None, MASK[:, :, :1]])
@torch.no_grad()
def test_one_query_in_bf16_rounds_the_result_alone(mask):
    torch.manual_seed(0)
    layer = nn.Module()
    layer.num_key_value_groups, layer.is_causal = 2, True
    query, key, value = (
        torch.randn(2, heads, size, 64) for heads, size in ((4, 1), (2, 7), (2, 7))
    )
    rounded = [part.bfloat16() for part in (query, key, value)]
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = attention(layer, *rounded, mask, scaling=0.4)
    exact, _ = sdpa_attention_forward(
        layer, *(part.float() for part in rounded), mask, scaling=0.4
    )
    assert torch.equal(found, exact.bfloat16())
