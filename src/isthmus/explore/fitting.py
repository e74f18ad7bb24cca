"""Details that still fit a summary that was moved: so arithmetic changes only what it must."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.models.base import LatentModel, evaluating, to_device
from isthmus.models.optimus import OptimusModel


@torch.no_grad()
def refitted(
    model: LatentModel, texts: Sequence[str], z: Tensor, moved: Tensor, nats: float
) -> Tensor:
    """Latents with another summary, whose details stay where their tokens are still likely.

    A summary predicts which words a text has. A detail is hidden where the move makes its token
    less likely by more than that many nats; there the decoder writes what fits the new summary.

    Args:
        model: with two levels; for others ``moved`` is returned.
        texts: N texts.
        z: theirs, [N K P].
        moved: other latents, [N K P], of which the summaries count.
        nats: that log p of a token may fall by.
    """
    if not isinstance(model, OptimusModel) or not model.config.summary:
        return moved
    summary, block = model.config.summary, model.config.bridge_length
    examples = model.codec.prepare(texts)
    batch = to_device(examples.collate(range(len(texts))), model.device)
    with evaluating(model):
        lost = model.log_words(z.to(model.device)) - model.log_words(moved.to(model.device))
    targets = batch["targets"]
    unfit = (lost.gather(1, targets.clamp_min(0)) > nats) & (targets >= 0)
    details = z.shape[1] - summary
    unfit = nn.functional.pad(unfit, (0, details * block - unfit.shape[1])).cpu()
    hidden = unfit.unflatten(1, (details, block)).any(-1, keepdim=True)
    return torch.cat([moved[:, :summary], z[:, summary:].masked_fill(hidden, 0)], dim=1)
