"""Codes of signs from a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.signs.inscriptions import Signs
from isthmus.signs.networks import SignNetwork
from isthmus.signs.pseudo import PseudoLabels, state_chances
from isthmus.signs.reading import padded
from isthmus.signs.settings import TrainingSettings
from isthmus.signs.training import Training, picture_codes, prepare

Codes = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Coder:
    """From pictures and their order to a code for each picture.

    With a reading a code is Σ over states of p(state | picture) times the state's profile, so
    pictures of one state are alike and states with the same neighbours are close. Otherwise it is
    the mean of q(z|x) and, if the network has a context, the mean over the picture's tokens of the
    code from their surroundings.
    """

    settings: TrainingSettings
    network: SignNetwork
    labels: PseudoLabels | None = None
    """Of the reading; None without one."""

    @classmethod
    def of(cls, training: Training) -> Coder:
        """The coder of a finished training."""
        reading = training.settings.pseudo == "reading"
        network = training.network.eval()
        return cls(training.settings, network, training.labels if reading else None)

    def encode(self, signs: Signs) -> Codes:
        """Codes of the pictures of any signs, [M F]; their states follow from their looks."""
        own = picture_codes(self.network, prepare(signs, self.settings))
        if self.labels is not None:
            return state_chances(own, self.labels) @ self.labels.features[0].double().numpy()
        if self.network.context is None:
            return own
        return np.concatenate([own, around_codes(self.network, own, signs.order)], axis=1)

    def encode_trained(self, signs: Signs) -> Codes:
        """Codes of the training pictures: the reading uses their order as well."""
        if self.labels is None:
            return self.encode(signs)
        return (self.labels.targets[0] @ self.labels.features[0]).double().numpy()


@torch.no_grad()
def around_codes(network: SignNetwork, own: Codes, order: Sequence[NDArray[np.int64]]) -> Codes:
    """Mean over each picture's tokens of the code from their surroundings, [M P].

    Zeros, the mean of the prior, for pictures without surroundings.
    """
    assert network.context is not None
    pictures, there = padded(order)
    mask = torch.from_numpy(there)
    z = torch.from_numpy(own).float()[pictures] * mask[..., None]
    total = torch.zeros(len(own), own.shape[1])
    count = torch.zeros(len(own))
    for rows in range(0, len(z), 64):
        part = slice(rows, rows + 64)
        known = network.context.known(mask[part])
        which = torch.from_numpy(pictures[part])[known]
        total.index_add_(0, which, network.context_of(z[part], mask[part]).mean[known])
        count.index_add_(0, which, torch.ones(len(which)))
    return (total / count.clamp_min(1)[:, None]).double().numpy()
