"""Losses whose inputs are too many to hold: in chunks, with their gradient made on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Losses = Callable[[Tensor, Tensor], Tensor]
"""From states [R H] and targets [R] to a loss of each row, [R]; a row depends on its own alone."""


def chunked(
    losses: Losses, states: Tensor, targets: Tensor, rows: int, parameters: Sequence[Tensor]
) -> Tensor:
    """Losses [M] of states [M H] and targets [M], computed ``rows`` at a time.

    The gradient is exact, and one chunk of logits is alive at a time. Recomputing logits in the
    backward pass would do the same at the cost of one more product with the vocabulary. Here the
    forward pass keeps what the gradient needs, ∂ loss_m / ∂ state_m and Σ_m ∂ loss_m / ∂ θ.
    The latter serves where the backward pass weighs all losses alike, as a sum or a mean does;
    under other weights the chunks are computed again.

    Args:
        losses: what to compute.
        states: [M H].
        targets: [M].
        rows: M of a chunk.
        parameters: θ, what else the losses depend on.
    """
    if not torch.is_grad_enabled():
        chunks = zip(states.split(rows), targets.split(rows), strict=True)
        return torch.cat([losses(*chunk) for chunk in chunks])
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return _Chunked.apply(losses, rows, targets, states, *trained)


@final
class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, losses: Losses, rows: int, targets: Tensor, states: Tensor, *parameters: Tensor
    ) -> Tensor:
        ones = torch.ones(len(states), device=states.device)
        found, slopes, totals = _gradients(losses, rows, targets, states, parameters, ones)
        ctx.save_for_backward(targets, states, slopes, *totals)
        ctx.losses, ctx.rows, ctx.parameters = losses, rows, parameters
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        targets, states, slopes, *totals = ctx.saved_tensors
        if totals and (weights != weights[0]).any():
            rest = ctx.losses, ctx.rows, targets, states, ctx.parameters
            _, slopes, totals = _gradients(*rest, weights)
        else:
            slopes = slopes * weights.to(slopes.dtype).unsqueeze(1)
            totals = [total * weights[0] for total in totals]
        return None, None, None, slopes, *totals


def _gradients(
    losses: Losses,
    rows: int,
    targets: Tensor,
    states: Tensor,
    parameters: Sequence[Tensor],
    weights: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Losses [M], and the gradients of Σ_m weight_m loss_m for the states and the parameters."""
    found, slopes = [], []
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    for some, some_targets, some_weights in zip(
        *(part.split(rows) for part in (states, targets, weights)), strict=True
    ):
        some = some.detach().requires_grad_()
        with torch.enable_grad():
            values = losses(some, some_targets)
        slope, *gradients = torch.autograd.grad(values, [some, *parameters], some_weights)
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient
        found.append(values.detach())
        slopes.append(slope)
    return torch.cat(found), torch.cat(slopes), totals
