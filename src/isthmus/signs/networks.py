"""A convolutional VAE of signs in their order: VAE, VAE+Neighbor, VAE+LSTM, VAE+Transformer.

Born et al. (2023), CAWL, 2023.cawl-1.11. A picture has a code z; its surroundings give a second
code (:mod:`isthmus.signs.context`); the same decoder reconstructs the picture from either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior_module import StandardNormal
from isthmus.models.pictures.networks import Sizes, networks
from isthmus.signs.context import make_context
from isthmus.signs.settings import NetworkSettings


@final
@dataclass(frozen=True)
class Path:
    """A code, and the loss of reconstructing the picture from it; C tokens."""

    posterior: DiagonalGaussian
    z: Tensor
    """[C P]."""
    reconstruction: Tensor
    """[C] cross-entropy of the pixels, nats; not −log p for grey ones, see SignNetwork."""
    kl: Tensor
    """[C] nats."""


@final
class SignNetwork(nn.Module):
    """Encoder, context, decoder.

    The loss of a pixel is the cross-entropy −x ln p − (1 − x) ln(1 − p) with the grey value x, as
    published. For a grey pixel it is not a log-probability, but it is smallest where p = x.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        size = settings.latent_size
        sizes = Sizes(1, settings.side, settings.side, size, settings.hidden_size, 3, 1)
        self.encoder, self.decoder = networks("conv", sizes)
        self.context = make_context(settings.context, size)
        self.context_posterior = nn.Linear(size, 2 * size) if self.context else None

    def posterior(self, pictures: Tensor) -> DiagonalGaussian:
        """q(z|x) of [... S S] in [0, 1]."""
        mean, log_variance = self.encoder(2 * pictures.flatten(-2) - 1).chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_variance)

    def context_of(self, z: Tensor, mask: Tensor) -> DiagonalGaussian:
        """The code from the surroundings, [N T P]; requires a context."""
        assert self.context is not None
        assert self.context_posterior is not None
        found = self.context_posterior(self.context(z, mask))
        return DiagonalGaussian(*found.chunk(2, dim=-1))

    def forward(
        self, seen: Tensor, target: Tensor, mask: Tensor, noise: Tensor
    ) -> tuple[Path, Path | None]:
        """Reconstruct each picture from both codes.

        Args:
            seen: [N T S S] pictures to encode, augmented or not.
            target: [N T S S] pictures to reconstruct.
            mask: [N T] True for tokens; padding has no loss and no effect.
            noise: [2 N T P] standard normal, of the two codes.

        Returns:
            From the pictures' own codes, C = the tokens in the mask; from their surroundings,
            C = those of them that have any.
        """
        own = self.posterior(seen[mask])
        z = own.rsample(noise=noise[0][mask][None])[0]
        drawn = self._path(own, z, target[mask])
        if self.context is None:
            return drawn, None
        places = torch.zeros_like(noise[0])
        places[mask] = z
        known = self.context.known(mask)
        around = self.context_of(places, mask)
        there = DiagonalGaussian(around.mean[known], around.log_variance[known])
        return drawn, self._path(
            there, there.rsample(noise=noise[1][known][None])[0], target[known]
        )

    def _path(self, posterior: DiagonalGaussian, z: Tensor, target: Tensor) -> Path:
        logits = self.decoder(z)
        loss = functional.binary_cross_entropy_with_logits(
            logits, target.flatten(-2), reduction="none"
        )
        kl = posterior.kl(StandardNormal(self.settings.latent_size)).sum(-1)
        return Path(posterior, z, loss.sum(-1), kl)
