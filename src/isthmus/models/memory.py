"""How much to compute at a time: what suits a processor's cache, and more on a GPU."""

from __future__ import annotations

import torch

ON_A_GPU = 32
"""A GPU holds this many times more at a time (logits: 256 MiB)."""


def fit_on(device: torch.device, on_a_processor: int) -> int:
    """The number of rows, tokens or logits to hold at a time on a device."""
    return on_a_processor * (ON_A_GPU if device.type == "cuda" else 1)
