"""The populated part of a space, and coordinates in which it is round."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

from isthmus.latent.distribution import Prior

DRAWS: Final = 4_000
"""Draws of the prior that show where the space is populated."""
OUTSIDE: Final = 0.01
"""Share of them that count as outside: those with the lowest density."""
_PLACES: Final = 8
"""On the way back, where it is looked whether they are inside."""
_AT_ONCE: Final = 500


@final
class Region:
    """The latents whose density under the prior is that of its own draws.

    A latent is inside if log p(z) is at least what 99 of 100 draws of the prior reach. Where the
    prior is fitted to the posteriors of the training texts (``isthmus prior``), that is where
    these are. Coordinates u, with z = m + L u, have mean 0 and covariance I over the draws.

    Args:
        prior: p(z).
        seed: of its draws.
        device: that it lives on.
    """

    def __init__(self, prior: Prior, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.prior, self.device = prior, device
        draws = self.draw(DRAWS, torch.Generator().manual_seed(seed))
        self.shape = draws.shape[1:]
        density = self.density(draws).double()
        self.lowest, self.densest = float(density.quantile(OUTSIDE)), draws[density.argmax()]
        flat = draws.flatten(1).double()
        self.centre = flat.mean(0)
        covariance = torch.atleast_2d(flat.T.cov())
        floor = 1e-6 * covariance.diagonal().mean() * torch.eye(len(covariance))
        self.axes = torch.linalg.cholesky(covariance + floor)

    @property
    def size(self) -> int:
        """D, the numbers of a latent."""
        return len(self.centre)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Latents from the prior, [N P] (or [N K P]), in main memory."""
        return self.prior.sample(count, generator).detach().float().cpu()

    @torch.no_grad()
    def density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, [N], in main memory."""
        parts = [self.prior.log_prob(part.to(self.device)).cpu() for part in z.split(_AT_ONCE)]
        return torch.cat(parts)

    def holds(self, z: Tensor) -> Tensor:
        """Whether latents [N P] are inside, [N]."""
        return self.density(z) >= self.lowest

    def pulled(self, z: Tensor, towards: Tensor) -> Tensor:
        """Latents that are outside, moved back on a straight line until they are inside.

        Args:
            z: [N P].
            towards: a latent inside, [P].

        Returns:
            [N P]; those inside as they were.
        """
        shares = torch.linspace(0, 1, _PLACES + 1)
        along = shares.view(-1, *[1] * z.ndim) * (z - towards) + towards
        # One pass for all places: those of a flow take as long for one latent as for hundreds.
        inside = self.holds(along.flatten(0, 1)).unflatten(0, along.shape[:2])
        inside[0] = True
        furthest = (inside * torch.arange(1, _PLACES + 2).unsqueeze(1)).argmax(0)
        found = along[furthest, torch.arange(len(z))]
        found[furthest == _PLACES] = z[furthest == _PLACES]
        return found

    def coordinates(self, z: Tensor) -> Tensor:
        """u of latents [N P], [N D], float64."""
        away = (z.flatten(1).double() - self.centre).T
        return torch.linalg.solve_triangular(self.axes, away, upper=False).T

    def latents(self, coordinates: Tensor) -> Tensor:
        """z of coordinates [N D], [N P]."""
        return (self.centre + coordinates.double() @ self.axes.T).float().unflatten(1, self.shape)
