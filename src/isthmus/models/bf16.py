"""Whether bf16 pays on a device: measured, because no library says so.

A processor without instructions for it (AVX2) computes products in bf16 as well, but takes ten
times as long as in float32, and more.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Final

import torch

_ROWS, _WIDTH, _ROUNDS = 64, 384, 3
WORTH: Final = 0.8
"""Gain of a product below which a user hears of it; a little less is an error of measurement."""


def product_gain(device: torch.device) -> float:
    """By how many times a product of two matrices is faster in bf16 than in float32.

    It takes some hundredths of a second. Where bf16 has units of its own the gain of a model
    is smaller; where it has none, no model gains.
    """
    seconds = {dtype: list[float]() for dtype in (torch.float32, torch.bfloat16)}
    for _ in range(_ROUNDS + 1):
        for dtype, found in seconds.items():
            one = torch.ones(_ROWS, _WIDTH, dtype=dtype, device=device)
            other = torch.ones(_WIDTH, _WIDTH, dtype=dtype, device=device)
            begun = time.perf_counter()
            (one @ other).sum().item()
            found.append(time.perf_counter() - begun)
    exact, rounded = (median(found[1:]) for found in seconds.values())  # the first sets up
    return exact / rounded


def slow_bf16(device: torch.device) -> str:
    """A line for those who ask for bf16 where it only costs time; empty elsewhere."""
    gain = product_gain(device)
    if gain > WORTH:
        return ""
    return (
        f"products in bf16 take {1 / gain:.1f} times as long as in float32 on this "
        f"{'processor' if device.type == 'cpu' else 'device'}; choose float32"
    )
