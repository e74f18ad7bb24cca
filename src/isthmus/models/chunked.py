"""A cross-entropy whose logits are too many to hold: in chunks, its gradient made on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from isthmus.latent.distribution import precise

Logits = Callable[[Tensor], Tensor]
"""From states [R H] to logits [R V]; a row depends on its own alone."""


def chunked(
    logits: Logits, states: Tensor, targets: Tensor, rows: int, parameters: Sequence[Tensor]
) -> Tensor:
    """−log softmax(logits)_target [M] of states [M H] and targets [M], ``rows`` at a time.

    The gradient is exact, and one chunk of logits is alive at a time. Recomputing logits in the
    backward pass would do the same at the cost of one more product with the vocabulary. Here the
    forward pass keeps what the gradient needs, ∂ loss_m / ∂ state_m and Σ_m ∂ loss_m / ∂ θ.
    The latter serves where the backward pass weighs all losses alike, as a sum or a mean does;
    under other weights the chunks are computed again.

    Args:
        logits: of the vocabulary.
        states: [M H].
        targets: [M].
        rows: M of a chunk.
        parameters: θ, what else the logits depend on.
    """
    if not torch.is_grad_enabled():
        chunks = zip(states.split(rows), targets.split(rows), strict=True)
        return torch.cat(
            [
                functional.cross_entropy(precise(logits(some)), some_targets, reduction="none")
                for some, some_targets in chunks
            ]
        )
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return _Chunked.apply(logits, rows, targets, states, *trained)


@final
class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Logits, rows: int, targets: Tensor, states: Tensor, *parameters: Tensor
    ) -> Tensor:
        ones = torch.ones(len(states), device=states.device)
        found, slopes, totals = _gradients(logits, rows, targets, states, parameters, ones)
        ctx.save_for_backward(targets, states, slopes, *totals)
        ctx.logits, ctx.rows, ctx.parameters = logits, rows, parameters
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        targets, states, slopes, *totals = ctx.saved_tensors
        if totals and (weights != weights[0]).any():
            rest = ctx.logits, ctx.rows, targets, states, ctx.parameters
            _, slopes, totals = _gradients(*rest, weights)
        else:
            slopes = slopes * weights.to(slopes.dtype).unsqueeze(1)
            totals = [total * weights[0] for total in totals]
        return None, None, None, slopes, *totals


def _gradients(
    logits: Logits,
    rows: int,
    targets: Tensor,
    states: Tensor,
    parameters: Sequence[Tensor],
    weights: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Losses [M], and the gradients of Σ_m weight_m loss_m for the states and the parameters."""
    found, slopes, buffer = [], [], None
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    for some, some_targets, some_weights in zip(
        *(part.split(rows) for part in (states, targets, weights)), strict=True
    ):
        some = some.detach().requires_grad_()
        with torch.enable_grad():
            values = logits(some)
        if buffer is None:  # fresh memory for each chunk would take longer than the softmax
            buffer = torch.empty_like(precise(values.detach()))
        losses, slope_of_logits = _cross_entropy(
            values.detach(), some_targets, some_weights, buffer[: len(some)]
        )
        slope, *gradients = torch.autograd.grad(values, [some, *parameters], slope_of_logits)
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient
        found.append(losses)
        slopes.append(slope)
    return torch.cat(found), torch.cat(slopes), totals


def _cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, buffer: Tensor
) -> tuple[Tensor, Tensor]:
    """Losses [R] and weight_r (p_rv − 1 where v is the target), [R V], at one exponential a logit.

    The largest probability of a row is 1 / Σ_v e^(l_v − max l), which gives the denominator.

    Args:
        logits: [R V].
        targets: [R].
        weights: [R].
        buffer: [R V], in float32 or better; overwritten.
    """
    p, places = buffer.copy_(logits), targets.unsqueeze(1)
    largest, own = p.amax(1), p.gather(1, places).squeeze(1)
    torch.softmax(p, 1, out=p)
    losses = largest - own - p.amax(1).log()
    p.scatter_add_(1, places, p.new_tensor(-1.0).expand(places.shape))
    if (weights != 1).any():
        p *= weights.unsqueeze(1)
    return losses, p.to(logits.dtype)
