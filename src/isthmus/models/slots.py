"""Slots of attention that leave a pretrained decoder as it is, in closed form.

A slot with the vector s, key and value at once, takes the share σ(q·s/√d − L(q)) of the attention
of a query q, where exp L(q) is the sum over the keys of the text. The output is changed by that
share of s − o(q), where o(q) is the output without the slot. Queries of a layer have directions in
common: most of them find the first token. So a linear map of q can be far below L(q) for all of
them, also for those of other texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

MARGINS: Final = tuple(range(16))
"""How far q·s/√d is meant to be below L(q)."""
RIDGES: Final = (1.0, 0.1, 0.01, 0.001)
"""Of its regression, in units of the queries' mean square."""
SHARES: Final = (1e-30, 1 - 1e-6)
"""Shares of attention beyond which L(q) cannot be told."""


@final
class QuietSlots(TorchFunctionMode):
    """Inside the block, attention finds quiet slots in place of those at hand.

    They are set layer by layer in one pass: a layer is read behind the quiet slots of those before
    it.

    Args:
        layers: (key heads, head size) of every layer of the decoder's cache.
        slots: their number.
        change: what they may change, see :func:`loudest`.
        read: 1 for what stands in the text or before it, 0 for padding, [N T].
    """

    def __init__(
        self, layers: Sequence[tuple[int, int]], slots: int, change: float, read: Tensor
    ) -> None:
        super().__init__()
        self.layers, self.slots, self.change, self.read = layers, slots, change, read
        self.found: list[Tensor] = []
        """Of every layer that was met, [heads size]."""

    @property
    def row(self) -> Tensor | None:
        """The vectors of all layers in a row; None if this decoder's attention was not met."""
        if [tuple(found.shape) for found in self.found] != [*self.layers]:
            return None
        return torch.cat([found.flatten() for found in self.found])

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Attention behind quiet slots; all other functions as they are."""
        given = kwargs or {}
        if func is scaled_dot_product_attention and len(self.found) < len(self.layers):
            query, key, value = args
            if key.shape[-2] == self.slots + query.shape[-2]:
                args = query, *self._quiet(query, key, value, given)
        return func(*args, **given)

    def _quiet(
        self, query: Tensor, key: Tensor, value: Tensor, given: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [N heads slots+T size] with the slots that suit these queries."""
        heads, size = self.layers[len(self.found)]
        key, value, inside = key.clone(), value.clone(), torch.zeros_like(value)
        slots = (..., slice(self.slots), slice(None))
        key[slots], value[slots], inside[slots] = 0, 0, 1
        share = scaled_dot_product_attention(query, key, inside, **given)[..., :1].float()
        share = share.clamp(*SHARES)
        output = scaled_dot_product_attention(query, key, value, **given).float() / (1 - share)
        scale = given.get("scale") or 1 / math.sqrt(size)

        def of_heads(values: Tensor) -> Tensor:  # [N queries' heads T …] → [H M …]
            rows = values.transpose(1, 2)[self.read].unflatten(1, (heads, -1))
            return rows.transpose(0, 1).flatten(1, 2)

        free = of_heads((1 / share - 1).log()).squeeze(-1)  # L(q) − log slots
        found = loudest(of_heads(query.float() * scale), free, of_heads(output), self.change)
        self.found.append(found)
        row = found.repeat_interleave(key.shape[1] // heads, 0).unsqueeze(1).to(key)
        key[slots], value[slots] = row, row
        return key, value


def loudest(queries: Tensor, free: Tensor, output: Tensor, change: float) -> Tensor:
    """The slot of each of H heads that takes most attention of those that change little.

    Candidates are the ridge regressions of L(q) − log slots − margin on the queries.

    Args:
        queries: q/√d, [H M d].
        free: L(q) − log slots, [H M].
        output: o(q), [H M d].
        change: mean square of what the slots may change, over that of the output.

    Returns:
        [H d]; where every candidate changes more, the one that changes least.
    """
    values, vectors = torch.linalg.eigh(queries.mT @ queries)
    wanted = free - torch.tensor(MARGINS).to(free)[:, None, None]  # [G H M]
    sides = torch.einsum("ghm,hmd,hde->ghe", wanted, queries, vectors)
    ridges = torch.tensor(RIDGES).to(free)[:, None, None] * values.mean(-1, keepdim=True)
    solved = sides / (values + ridges).unsqueeze(1)  # [R G H d]
    slots = torch.einsum("che,hde->chd", solved.flatten(0, 1), vectors)
    shares = (torch.einsum("chd,hmd->chm", slots, queries) - free).sigmoid()
    apart = slots.square().sum(-1, keepdim=True) + output.square().sum(-1)
    apart = apart - 2 * torch.einsum("chd,hmd->chm", slots, output)
    changes = (shares.square() * apart).mean(-1)
    changes = changes / output.square().sum(-1).mean(-1).clamp_min(1e-12)
    allowed = changes <= change
    loud = torch.where(allowed, shares.mean(-1), -1).argmax(0)
    best = torch.where(allowed.any(0), loud, changes.argmin(0))
    return slots[best, torch.arange(len(best), device=best.device)]
