"""Training a network of signs, resumable to the bit."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from isthmus.errors import IsthmusError
from isthmus.signs.augment import Augmentation, augment
from isthmus.signs.inscriptions import Signs
from isthmus.signs.networks import SignNetwork
from isthmus.signs.normalise import normalise
from isthmus.signs.pseudo import (
    PseudoLabels,
    cluster_labels,
    pseudo_label_loss,
    reading_labels,
)
from isthmus.signs.reading import padded
from isthmus.signs.settings import TrainingSettings

Losses = dict[str, float]
"""Means of a step, nats per token: the picture from its own code and from its context, with the
unweighted KL; the pseudo-labels. Terms that a step lacks have no entry."""


@final
class Training:
    """A network, its optimiser and its pseudo-labels between two steps.

    Everything random in a step is drawn from (seed, step), so a run that is resumed from a
    checkpoint equals one that was never stopped.

    Args:
        signs: Pictures and order.
        settings: Of the run.

    Raises:
        IsthmusError: Impossible settings, or signs without an order.
    """

    def __init__(self, signs: Signs, settings: TrainingSettings) -> None:
        settings.check()
        if not len(signs.tokens):
            raise IsthmusError(f"{signs.source}: no tokens; training needs signs in their order")
        self.signs, self.settings = signs, settings
        self.pictures = prepare(signs, settings)
        # Every (sequence, token) that a row of a batch may begin with; all but the last tokens.
        self.starts = [
            (sequence, token)
            for sequence, row in enumerate(signs.order)
            for token in range(max(1, len(row) - 1))
        ]
        torch.manual_seed(settings.seed)
        self.network = SignNetwork(settings.network)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.labels: PseudoLabels | None = None
        self.step = 0

    def advance(self) -> Losses:
        """Make one step.

        Raises:
            IsthmusError: The loss is not finite.
        """
        settings = self.settings
        seed = 1_000_003 * settings.seed + self.step
        if self.step in self._refreshes():
            self.labels = self._make_labels(seed)
        generator = torch.Generator().manual_seed(seed)
        pictures, mask = self._batch(generator)
        target = self.pictures[pictures]
        seen = target
        if settings.augmentation:
            flat = augment(target.flatten(0, 1), Augmentation(), generator)
            seen = flat.view_as(target)
        noise = torch.randn(2, *mask.shape, settings.network.latent_size, generator=generator)
        own, around = self.network(seen, target, mask, noise)
        loss = (own.reconstruction + settings.kl * own.kl).mean()
        losses = {"picture": (own.reconstruction + own.kl).mean().item()}
        if around is not None and len(around.kl):
            loss = loss + (around.reconstruction + settings.kl * around.kl).mean()
            losses["from context"] = (around.reconstruction + around.kl).mean().item()
        if self.labels is not None:
            pull = pseudo_label_loss(own.z, pictures[mask], self.labels, settings.pseudo).mean()
            loss = loss + settings.weight * pull
            losses["pseudo-labels"] = pull.item()
        if not torch.isfinite(loss):
            raise IsthmusError(
                f"step {self.step + 1}: the loss is not finite; lower --train.learning-rate"
            )
        self._descend(loss)
        self.step += 1
        return losses

    def _refreshes(self) -> list[int]:
        """Steps before which labels are made."""
        times = self.settings.refreshes if self.settings.pseudo != "off" else 0
        return [self.settings.steps * k // (times + 1) for k in range(1, times + 1)]

    def _make_labels(self, seed: int) -> PseudoLabels:
        settings, counts = self.settings, self.signs.counts
        codes = picture_codes(self.network, self.pictures)
        if settings.pseudo == "reading":
            return reading_labels(codes, counts, self.signs.order, settings.states, seed)
        return cluster_labels(codes, counts, settings.clusters, settings.trials, seed)

    def _descend(self, loss: Tensor) -> None:
        settings = self.settings
        late = max(0.0, 2 * self.step / settings.steps - 1)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * (0.5 + 0.5 * np.cos(np.pi * late))
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimiser.step()

    def _batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures [N T] and mask [N T] of sequences that begin at random tokens."""
        settings = self.settings
        chosen = torch.randint(len(self.starts), (settings.sequences,), generator=generator)
        starts = [self.starts[place] for place in chosen.tolist()]
        rows = [self.signs.order[row][first : first + settings.length] for row, first in starts]
        pictures, mask = padded(rows, settings.length)
        return torch.from_numpy(pictures), torch.from_numpy(mask)


def prepare(signs: Signs, settings: TrainingSettings) -> Tensor:
    """Pictures as the network sees them, normalised and small, [M S S]."""
    alike = normalise(signs.pictures, settings.deslant)
    side = settings.network.side
    small = functional.interpolate(torch.from_numpy(alike)[:, None], (side, side), mode="area")
    return small[:, 0]


@torch.no_grad()
def picture_codes(network: SignNetwork, pictures: Tensor) -> NDArray[np.float64]:
    """Means of q(z|x), [M P]; each depends on its own picture alone."""
    means = [network.posterior(part).mean for part in pictures.split(256)]
    return torch.cat(means).double().numpy()
