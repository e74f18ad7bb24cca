"""What tests of foreign weights share: small models, and llama2.c's forward pass."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from isthmus.errors import IsthmusError
from isthmus.models.foreign.plain import write
from isthmus.models.foreign.sources import read_foreign
from tiny import loud, make

IDS = torch.tensor([[1, 5, 6, 7, 3], [2, 2, 4, 7, 0]])


def convert(source, out: Path, **given: str) -> Path:
    write(read_foreign(str(source), **given), out)
    return out


def refusal(source, out: Path, **given: str) -> str:
    with pytest.raises(IsthmusError) as caught:
        convert(source, out, **given)
    assert not out.exists()
    line = str(caught.value)
    assert "\n" not in line
    return line


def gpt2(**options) -> GPT2LMHeadModel:
    sizes = {"vocab_size": 8, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    return loud(GPT2LMHeadModel(GPT2Config(**sizes, **ids, **options))).eval()


def words():
    return make("gpt2", "embedding").codec.decoder_tokenizer


def turned(x: Tensor) -> Tensor:
    """llama2.c's rotary embedding of [T heads size]: neighbours turn together."""
    size = x.shape[-1]
    angle = torch.arange(len(x))[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
    turn = torch.polar(torch.ones_like(angle), angle).unsqueeze(1)
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)


def llama2c_logits(w: dict[str, Tensor], ids: Tensor, heads: int, eps: float = 1e-5) -> Tensor:
    """The forward pass of run.c (and of glassllm) for a text [T], over all positions at once."""

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return weight * x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()

    x = w["embed"][ids]
    future = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
    for layer in range(len(w["wq"])):
        h = norm(x, w["attention_norm"][layer])
        q, k, v = (
            (h @ w[name][layer].T).unflatten(-1, (-1, x.shape[-1] // heads))
            for name in ("wq", "wk", "wv")
        )
        k, v = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (turned(k), v))
        score = torch.einsum("shd,thd->hst", turned(q), k) / math.sqrt(q.shape[-1])
        weight = score.masked_fill(future, -torch.inf).softmax(-1)
        x = x + torch.einsum("hst,thd->shd", weight, v).flatten(1) @ w["wo"][layer].T
        h = norm(x, w["ffn_norm"][layer])
        gate = functional.silu(h @ w["w1"][layer].T) * (h @ w["w3"][layer].T)
        x = x + gate @ w["w2"][layer].T
    return norm(x, w["norm"]) @ w.get("output", w["embed"]).T


def llama2c_weights(vocabulary: int, shared: bool = True) -> dict[str, Tensor]:
    """Two layers of width 16, 4 heads, 2 of keys."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "embed": (vocabulary, 16), "attention_norm": (2, 16), "wq": (2, 16, 16),
        "wk": (2, 8, 16), "wv": (2, 8, 16), "wo": (2, 16, 16), "ffn_norm": (2, 16),
        "w1": (2, 20, 16), "w2": (2, 16, 20), "w3": (2, 20, 16), "norm": (16,),
        "output": (vocabulary, 16),
    }  # fmt: skip
    found = {
        name: torch.randn(shape, generator=generator) / 2 + ("norm" in name)
        for name, shape in shapes.items()
    }
    if shared:
        del found["output"]
    return found
