"""A prior that reads K latents in their order, as a language model reads words."""

from __future__ import annotations

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from isthmus.latent.distribution import LOG_TWO_PI, Posterior, Prior
from isthmus.latent.fit import draw
from isthmus.latent.prior_module import Encode, PriorModule, PriorSizes

_CANDIDATES = 8
"""Latents that are looked at for each component of the start."""


@final
class AutoregressiveMixture(Prior):
    """Π_k Σ_m w_m(z_<k) N(z_k; c_m, diag v_m): see :class:`AutoregressivePrior`."""

    def __init__(self, module: AutoregressivePrior) -> None:
        self.module = module

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_k log p(z_k|z_<k), nats: z [... K P] → [...]."""
        shape = self.module.shape
        rows = z.reshape(-1, *shape[-2:]) if len(shape) > 1 else z.reshape(-1, 1, *shape)
        before = nn.functional.pad(rows[:, :-1], (0, 0, 1, 0))
        log_weights = self.module.log_weights(self.module.network(before)[0])
        parts = log_weights + self.module.log_components(rows)
        return torch.logsumexp(parts, -1).sum(-1).view(z.shape[: z.ndim - len(shape)])

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """One latent after another: a component by its weight, then a draw from it."""
        module = self.module
        latents = math.prod(module.shape[:-1])
        mean = module.mean
        last, state, drawn = mean.new_zeros(count, 1, module.shape[-1]), None, []
        for _ in range(latents):
            hidden, state = module.network(last, state)
            weights = module.log_weights(hidden[:, 0]).exp().cpu()
            chosen = torch.multinomial(weights, 1, generator=generator)[:, 0].to(mean.device)
            noise = torch.randn(count, module.shape[-1], generator=generator).to(mean)
            last = mean[chosen] + (0.5 * module.log_variance[chosen]).exp() * noise
            drawn.append(last)
            last = last.unsqueeze(1)
        return torch.stack(drawn, 1).view(count, *module.shape)


@final
class AutoregressivePrior(PriorModule):
    """Π_k Σ_m w_m(z_<k) N(z_k; c_m, diag v_m).

    M Gaussians that all K latents share stand for what a latent can be; a GRU (Cho et al. 2014)
    over the latents before gives their weights. Where a latent stands for a token this is a
    language model of the codes. Mixture density networks are from Bishop (1994).
    """

    learning_rate: ClassVar[float] = 2e-3
    batch_size: ClassVar[int] = 64

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.shape = sizes.shape
        size = sizes.shape[-1]
        self.mean = nn.Parameter(torch.randn(sizes.components, size))
        self.log_variance = nn.Parameter(torch.zeros(sizes.components, size))
        self.network = nn.GRU(size, sizes.hidden_size, batch_first=True)
        self.logits = nn.Linear(sizes.hidden_size, sizes.components)
        nn.init.zeros_(self.logits.weight)

    def log_weights(self, hidden: Tensor) -> Tensor:
        """log w of states [... H], [... M]."""
        return self.logits(hidden).log_softmax(-1)

    def log_components(self, z: Tensor) -> Tensor:
        """log N(z; c_m, diag v_m) of rows [... P], [... M]: two matrix products."""
        precision = torch.exp(-self.log_variance)
        scaled = self.mean * precision
        constant = (self.mean * scaled + self.log_variance).sum(-1) + z.shape[-1] * LOG_TWO_PI
        return -0.5 * (z.square() @ precision.T - 2 * z @ scaled.T + constant)

    def forward(self, encode: Encode) -> AutoregressiveMixture:
        """The distribution at the present parameters."""
        return AutoregressiveMixture(self)

    @torch.no_grad()
    def start_from(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Spread the components over the latents of the posterior.

        Each is the latent that is farthest from all before it (Gonzalez 1985), so that rare codes
        have one too; variances are those about the nearest, weights its frequency.
        """
        size, count = self.shape[-1], len(self.mean)
        rows = draw(posterior, generator).reshape(-1, size)
        means = posterior.mean.reshape(-1, size)
        some = torch.randperm(len(rows), generator=generator)[: _CANDIDATES * count]
        means, rows = means[some].to(self.mean), rows[some].to(self.mean)
        chosen = [0]
        distance = (means - means[0]).square().sum(-1)
        for _ in range(min(count, len(means)) - 1):
            chosen.append(int(distance.argmax()))
            distance = torch.minimum(distance, (means - means[chosen[-1]]).square().sum(-1))
        centres = means[chosen]
        self.mean[: len(chosen)] = centres
        nearest = torch.cdist(means, centres).argmin(-1)
        spread = (rows - centres[nearest]).square().mean(0).clamp_min(1e-4)
        self.log_variance.copy_(spread.log().expand_as(self.log_variance))
        self.logits.bias.copy_((torch.bincount(nearest, minlength=count) + 0.1).log())
