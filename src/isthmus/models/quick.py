"""What networks compute in training on a CPU, in less time and with the same mathematics."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from isthmus.latent.distribution import precise

SHORT = "isthmus-sdpa"
"""transformers' name of :func:`attention`."""
LONGEST = 128
"""Keys up to which attention is written out in training: all scores are held until its backward
pass, and of longer texts they would take more memory than the rest of the layer."""


def quicken(model: PreTrainedModel) -> None:
    """Exchange, in place, what a CPU computes slowly: dropout, GPT-2's GELU and attention.

    Weights, names and the saved configuration stay as they are.
    """
    for module in model.modules():
        if type(module) in _QUICKER:
            module.__class__ = _QUICKER[type(module)]
    if model.config._attn_implementation == "sdpa" and _takes_any(model):
        model.set_attn_implementation(SHORT)


def _takes_any(model: PreTrainedModel) -> bool:
    """Whether a model looks its attention up by name, and does nothing else with the name.

    DeepSeek-V3.2, for example, hides keys from torch's attention alone. transformers as well
    reads the source where it has to know.
    """
    try:
        source = inspect.getsource(sys.modules[type(model).__module__])
    except (OSError, TypeError):
        return False
    return "ALL_ATTENTION_FUNCTIONS.get_interface(" in source and '"sdpa"' not in source


@final
class Dropout(nn.Dropout):
    """torch's, by :func:`dropped`."""

    def forward(self, input: Tensor) -> Tensor:
        """In training zero with probability p, else divided by 1 − p."""
        return dropped(input, self.p) if self.training else input


@final
class TanhGELU(NewGELUActivation):
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), by one kernel in the place of eight."""

    def forward(self, input: Tensor) -> Tensor:
        """As in the formula."""
        return functional.gelu(input, approximate="tanh")


_QUICKER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: Dropout,
    NewGELUActivation: TanhGELU,
}


def dropped(values: Tensor, p: float) -> Tensor:
    """Values, each zero with probability p and else divided by 1 − p.

    On a CPU four masks come from 64 random bits: p is rounded to a multiple of 2⁻¹⁶, and the
    others are divided by exactly their share.
    """
    zeros, count = round(p * 2**16), values.numel()
    if values.device.type != "cpu" or not 0 < zeros < 2**16:
        return functional.dropout(values, p)
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[:count].view(values.shape) >= zeros - 2**15
    return values * kept.to(values.dtype).mul_(2**16 / (2**16 - zeros))


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """softmax(q kᵀ · scaling + bias) v; on a CPU written out for short texts in training.

    Torch's kernels take several times as long there in bf16, and 1.4 times with dropout. For one
    query, as in decoding, its kernel for bf16 takes twice as long as that for float32.

    Args:
        module: the layer.
        query: [N H T C].
        key: [N G S C]; each of G heads serves H/G of the query's.
        value: as the keys.
        attention_mask: [N 1 T S], True or 0 where a query sees a key; None for all, or for all
            that are not later.
        dropout: of weights.
        scaling: 1/√C if absent.
        is_causal: what None means in the mask; the layer knows it if absent.
        position_bias: to add to the scores, [1 H T S].
        given: what other kernels want to know.

    Returns:
        [N T H C], and None in the place of weights.
    """
    learns, narrow = torch.is_grad_enabled(), query.dtype.itemsize < torch.float32.itemsize
    if narrow and not learns and query.shape[2] == 1 and query.device.type == "cpu":
        bias = None if position_bias is None else precise(position_bias)
        exact = precise(query), precise(key), precise(value)
        with torch.autocast("cpu", enabled=False):
            found, _ = attention(
                module, *exact, attention_mask, dropout, scaling, is_causal, bias, **given
            )
        return found.to(value.dtype), None
    slow = dropout or (learns and query.dtype != torch.float32)
    if not slow or query.device.type != "cpu" or key.shape[2] > LONGEST or given.get("softcap"):
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            position_bias=position_bias,
            **given,
        )
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if attention_mask is None and causal and query.shape[2] > 1:
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    scaling = query.shape[3] ** -0.5 if scaling is None else scaling
    found = written_out(query * scaling, key, value, (position_bias, attention_mask), dropout)
    return found.transpose(1, 2).contiguous(), None


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    biases: Iterable[Tensor | None],
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q kᵀ + biases) v: q [N H T C], k and v [N H S C] → [N H T C].

    In float32 or better, as torch's kernel: only the result is rounded.

    Args:
        query: scaled.
        key: for every head.
        value: likewise.
        biases: each to add to the scores, or boolean: True where a query sees a key.
        dropout: of weights.
    """
    with torch.autocast("cpu", enabled=False):
        scores = precise(query) @ precise(key).transpose(2, 3)
        for bias in biases:
            if bias is not None and bias.dtype == torch.bool:
                scores = scores.masked_fill(~bias, torch.finfo(scores.dtype).min)
            elif bias is not None:
                scores = scores + bias
        weights = scores.softmax(-1)
        if dropout:
            weights = dropped(weights, dropout)
        return (weights @ precise(value)).to(value.dtype)


AttentionInterface.register(SHORT, attention)
AttentionMaskInterface.register(SHORT, sdpa_mask)
