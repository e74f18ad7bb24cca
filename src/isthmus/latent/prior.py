"""Kinds of prior p(z): each is a module, and calling it gives the distribution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import LOG_TWO_PI, Posterior, Prior
from isthmus.latent.posterior import DiagonalGaussian

Encode = Callable[[Tensor], Posterior]
"""What a VampPrior needs from its model: pseudo-inputs [K L E] → their posteriors."""


@final
class StandardNormal(Prior):
    """N(0, I) over latents of shape ``[P]`` or ``[K P]``."""

    is_standard_normal = True

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_j −½ (log 2π + z_j²), nats."""
        density = -0.5 * (LOG_TWO_PI + z.square())
        return density.flatten(start_dim=z.ndim - len(self.shape)).sum(-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal draws, on the CPU so that a seed means the same on every machine."""
        return torch.randn(count, *self.shape, generator=generator)


@final
class Mixture(Prior):
    """Σ_k w_k q_k(z), of K distributions of one family.

    Args:
        components: the K distributions over latents [P].
        log_weights: [K], log of weights that sum to 1.
    """

    def __init__(self, components: Posterior, log_weights: Tensor) -> None:
        self.components = components
        self.log_weights = log_weights

    def log_joint(self, z: Tensor) -> Tensor:
        """log w_k + log q_k(z), nats: z [... P] → [... K]; the largest is z's component."""
        return self.components.log_prob(z.unsqueeze(-2)) + self.log_weights

    def log_prob(self, z: Tensor) -> Tensor:
        """logsumexp_k (log w_k + log q_k(z)), nats."""
        return torch.logsumexp(self.log_joint(z), dim=-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """A component by its weight, then a draw from it."""
        weights = self.log_weights.detach().exp().cpu()
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        components = self.components.detach().cpu()[chosen]
        noise = torch.randn(components.mean.shape, generator=generator)
        return components.rsample(noise=noise.unsqueeze(0))[0]


@final
class FlowDistribution(Prior):
    """The density of a normalising flow (zuko) at its present parameters."""

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) by the change of variables, nats."""
        return self.distribution.log_prob(z)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Base noise carried through the inverse of the flow."""
        base = self.distribution.base
        noise = torch.randn(count, *base.event_shape, generator=generator)
        with torch.no_grad():
            return self.distribution.transform.inv(noise.to(base.mean.device))


@final
@dataclass(frozen=True)
class PriorSizes:
    """What a prior is built from; each kind uses what it needs.

    Args:
        shape: of a latent, (P,), or (K, P) for a grid of K latents.
        components: Gaussians of the mixture, or pseudo-inputs of VampPrior.
        transforms: of the flow.
        hidden_size: width of the flow's networks.
        pseudo_inputs: makes K inputs [K L E] of the encoder, where VampPrior starts; absent for
            a model without an encoder of one kind of data.
    """

    shape: tuple[int, ...]
    components: int = 64
    transforms: int = 3
    hidden_size: int = 64
    pseudo_inputs: Callable[[int], Tensor] | None = None


class PriorModule(nn.Module, ABC):
    """A prior with parameters: calling it gives the distribution at their present values."""

    takes_grids: ClassVar[bool] = False
    """Whether latents may be a grid [K P]."""

    @abstractmethod
    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__()

    def start_from(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Move the parameters to where a fit to an aggregate posterior begins, if it matters."""

    @abstractmethod
    def forward(self, encode: Encode) -> Prior:
        """The prior; ``encode`` is used by priors that are made of posteriors."""


@final
class StandardNormalPrior(PriorModule):
    """N(0, I), without parameters."""

    takes_grids = True

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.shape = sizes.shape

    def forward(self, encode: Encode) -> StandardNormal:
        """The standard normal over latents of that shape."""
        return StandardNormal(*self.shape)


@final
class MixturePrior(PriorModule):
    """A learned mixture of K diagonal Gaussians (Dilokthanakul et al. 2016, arXiv 1611.02648)."""

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
        """Put the K components on draws of the aggregate posterior.

        Each is narrower than the whole by K^(1/P), so that together they fill its volume.
        """
        noise = torch.randn(1, *posterior.mean.shape, generator=generator)
        z = posterior.rsample(noise=noise)[0]
        chosen = torch.randperm(len(z), generator=generator)[: len(self.mean)]
        self.mean[: len(chosen)] = z[chosen].to(self.mean)
        spread = z.var(0, correction=0).clamp_min(1e-4) / len(self.mean) ** (2 / z.shape[-1])
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


@final
class FlowPrior(PriorModule):
    """A neural spline flow over z (Durkan et al. 2019), from zuko."""

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        try:
            from zuko.flows import NSF
        except ImportError as error:
            raise IsthmusError(
                "the flow prior needs the package zuko, which is not installed; "
                "run: pip install 'isthmus[flows]'"
            ) from error
        # transformers builds a model that it loads without storage, and zuko's masks need some.
        with torch.device("cpu"):
            self.flow = NSF(
                *sizes.shape,
                transforms=sizes.transforms,
                hidden_features=[sizes.hidden_size] * 2,
            )

    def forward(self, encode: Encode) -> FlowDistribution:
        """The density at the present parameters."""
        return FlowDistribution(self.flow())


PRIORS: Final[dict[str, type[PriorModule]]] = {
    "standard": StandardNormalPrior,
    "mixture": MixturePrior,
    "vamp": VampPrior,
    "flow": FlowPrior,
}
"""Every kind of prior, by the name it has in settings and in saved configurations."""


def fit_prior(
    module: PriorModule,
    posterior: Posterior,
    encode: Encode,
    *,
    steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> list[float]:
    """Fit a prior to the aggregate posterior of a trained model: maximise E_x E_q(z|x) log p(z).

    That is the whole dependence of the ELBO on the prior, so the bound can only rise on the
    examples it is fitted to (Tomczak & Welling 2018, section 2).

    Args:
        module: the prior, changed in place.
        posterior: q(z|x) of the training examples, [N P].
        encode: the model's encoder for VampPrior; its weights stay as they are.
        steps: Adam steps, learning rate falling to zero by a cosine.
        batch_size: examples per step.
        learning_rate: at the start.
        seed: of the draws.

    Returns:
        −log p(z) of every step's batch, nats.
    """
    parameters = list(module.parameters())
    if not parameters:
        raise ValueError("this prior has no parameters, so there is nothing to fit")
    generator = torch.Generator().manual_seed(seed)
    module.start_from(posterior, generator)
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(posterior), (batch_size,), generator=generator)
        noise = torch.randn(1, batch_size, posterior.mean.shape[-1], generator=generator)
        z = posterior[rows].rsample(noise=noise)[0].to(parameters[0])
        loss = -module(encode).log_prob(z).mean()
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        decay.step()
        losses.append(loss.item())
    return losses
