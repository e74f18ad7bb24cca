"""Kinds of prior p(z): each is a module, and calling it gives the distribution."""

from __future__ import annotations

import math
from typing import Final, final

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError
from isthmus.latent.autoregressive import AutoregressivePrior
from isthmus.latent.bits import UniformBitsPrior
from isthmus.latent.causal import CausalFlowPrior
from isthmus.latent.codebook import CodebookPrior
from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.flow_matching import FlowMatchingPrior
from isthmus.latent.flows import FlowPrior, GaussianPrior
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior_module import (
    Encode,
    PriorModule,
    PriorSizes,
    StandardNormalPrior,
)


@final
class Mixture(Prior):
    """Σ_c w_c q_c(z), of C distributions of one family.

    Args:
        components: the C distributions over latents [P] or [K P].
        log_weights: [C], log of weights that sum to 1.
    """

    def __init__(self, components: Posterior, log_weights: Tensor) -> None:
        self.components = components
        self.log_weights = log_weights

    def log_joint(self, z: Tensor) -> Tensor:
        """log w_c + log q_c(z), nats: z [... P] → [... C]; the largest is z's component."""
        each = z.unsqueeze(-self.components.mean.ndim)
        return self.components.log_prob(each) + self.log_weights

    def log_prob(self, z: Tensor) -> Tensor:
        """logsumexp_c (log w_c + log q_c(z)), nats."""
        return torch.logsumexp(self.log_joint(z), dim=-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """A component by its weight, then a draw from it."""
        weights = self.log_weights.detach().exp().cpu()
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        components = self.components.detach().cpu()[chosen]
        noise = torch.randn(components.mean.shape, generator=generator)
        return components.rsample(noise=noise.unsqueeze(0))[0]


@final
class MixturePrior(PriorModule):
    """A learned mixture of C diagonal Gaussians (Dilokthanakul et al. 2016, arXiv 1611.02648)."""

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.mean = nn.Parameter(torch.randn(sizes.components, *sizes.shape))
        self.log_variance = nn.Parameter(torch.zeros(sizes.components, *sizes.shape))
        self.logits = nn.Parameter(torch.zeros(sizes.components))

    def forward(self, encode: Encode) -> Mixture:
        """The mixture at the present parameters."""
        gaussians = DiagonalGaussian(self.mean, self.log_variance)
        return Mixture(gaussians, self.logits.log_softmax(0))

    @torch.no_grad()
    def start_from(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Put the C components on draws of the aggregate posterior.

        Each is narrower than the whole by C^(1/D), D the numbers of a latent, so that together
        they fill its volume.
        """
        noise = torch.randn(1, *posterior.mean.shape, generator=generator)
        z = posterior.rsample(noise=noise)[0]
        chosen = torch.randperm(len(z), generator=generator)[: len(self.mean)]
        self.mean[: len(chosen)] = z[chosen].to(self.mean)
        spread = z.var(0, correction=0).clamp_min(1e-4) / len(self.mean) ** (2 / z[0].numel())
        self.log_variance.copy_(spread.log().expand_as(self.log_variance))


@final
class VampPrior(PriorModule):
    """1/K Σ_k q(z|u_k) with learned pseudo-inputs u_k (Tomczak & Welling 2018, eq. 9).

    Pseudo-inputs of a text model are K sequences of L input embeddings, [K L E].
    """

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        if sizes.pseudo_inputs is None:
            raise IsthmusError("prior: vamp needs an encoder of one kind of data; choose another")
        self.pseudo_inputs = nn.Parameter(sizes.pseudo_inputs(sizes.components))

    def forward(self, encode: Encode) -> Mixture:
        """The mixture of the posteriors of the pseudo-inputs."""
        components = encode(self.pseudo_inputs)
        count = len(self.pseudo_inputs)
        weights = torch.full((count,), -math.log(count), device=components.mean.device)
        return Mixture(components, weights)


PRIORS: Final[dict[str, type[PriorModule]]] = {
    "standard": StandardNormalPrior,
    "gaussian": GaussianPrior,
    "mixture": MixturePrior,
    "vamp": VampPrior,
    "flow": FlowPrior,
    "flow-matching": FlowMatchingPrior,
    "recurrent": AutoregressivePrior,
    "codebook": CodebookPrior,
    "calm": CausalFlowPrior,
    "bits": UniformBitsPrior,
}
"""Every kind of prior, by the name it has in settings and in saved configurations."""
