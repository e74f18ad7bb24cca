"""Details that still fit a summary that was moved: so arithmetic changes only what it must."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.models.base import LatentModel, evaluating, to_device
from isthmus.models.optimus import OptimusModel


@torch.no_grad()
def refitted(
    model: LatentModel, texts: Sequence[str], z: Tensor, moved: Tensor, nats: Sequence[float]
) -> list[Tensor]:
    """Latents with another summary, whose details stay where their tokens are still likely.

    A summary predicts which words a text has. A detail is hidden where the move makes its token
    less likely by more than some nats; there the decoder writes what fits the new summary.

    Args:
        model: with two levels; for others ``moved`` is what is returned.
        texts: N texts.
        z: theirs, [N K P].
        moved: other latents, [N K P], of which the summaries count.
        nats: that log p of a token may fall by.

    Returns:
        [N K P] for each of ``nats``.
    """
    if not isinstance(model, OptimusModel) or not model.config.summary:
        return [moved] * len(nats)
    summary, block = model.config.summary, model.config.bridge_length
    examples = model.codec.prepare(texts)
    batch = to_device(examples.collate(range(len(texts))), model.device)
    with evaluating(model):
        lost = model.log_words(z.to(model.device)) - model.log_words(moved.to(model.device))
    targets = batch["targets"]
    fall = lost.gather(1, targets.clamp_min(0)).masked_fill(targets < 0, -torch.inf)
    details = z.shape[1] - summary
    missing = details * block - fall.shape[1]
    fall = nn.functional.pad(fall, (0, missing), value=-torch.inf).cpu()
    worst = fall.unflatten(1, (details, block)).amax(-1, keepdim=True)
    own = z[:, summary:]
    return [
        torch.cat([moved[:, :summary], own.masked_fill(worst > most, 0)], dim=1) for most in nats
    ]
