"""The two distributions of a latent: the prior p(z) and the posterior q(z|x)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self, final, overload

import torch
from torch import Tensor

from isthmus.latent.shown import posterior_html

LOG_TWO_PI = math.log(2 * math.pi)

_ROWS_AT_ONCE, _EXAMPLES_AT_ONCE = 512, 2**12
"""Points and distributions whose densities are held at a time, 16 MiB: however many there are,
they take no more memory."""
_VALUES_AT_ONCE = 2**24
"""Values of z_m − mean_n held at a time by a family without a shorter way to all pairs."""


class Prior(ABC):
    """p(z) over latents of a given shape."""

    @property
    def is_standard_normal(self) -> bool:
        """Whether it is N(0, I), to which every family has a closed form of the KL."""
        return False

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats: z [... P] → [...]."""

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw [count P]; a generator makes it repeatable."""


class Posterior(ABC):
    """q(z|x), one distribution for each of N examples.

    A family supplies its parameters as tensors, how many numbers an encoder predicts for them,
    mean, marginal variances, the map from noise to draws, density and entropy. Everything else
    follows.

    Args:
        tensors: the parameters, [N ...] each and free of constraints, so that gradient steps can
            move them. They are kept in float32 or better, because a KL summed in bf16 is wrong
            in its second digit.
    """

    takes_grids: ClassVar[bool] = False
    """Whether a latent may be a grid [K P]."""
    is_discrete: ClassVar[bool] = False
    """Whether z takes separate values: it has probabilities in the place of densities, a prior of
    its own, and no gradient step improves a posterior."""
    varies: ClassVar[bool] = True
    """Whether draws differ, so that more of them say more."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tuple(map(precise, tensors))

    @staticmethod
    @abstractmethod
    def numbers(size: int) -> int:
        """How many numbers describe one posterior over P = size dimensions."""

    @classmethod
    @abstractmethod
    def from_numbers(cls, numbers: Tensor, shape: tuple[int, ...]) -> Self:
        """Build posteriors from what an encoder predicts.

        Args:
            numbers: [N numbers(P)], the first P of them the means. All zeros are N(0, I).
            shape: of a latent, (P,) or (K, P).
        """

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[z], [N P] (or [N K P])."""

    @property
    @abstractmethod
    def log_variance(self) -> Tensor:
        """log Var(z_j) of each dimension by itself, the shape of the mean."""

    @abstractmethod
    def transform(self, noise: Tensor) -> Tensor:
        """Draws z [S N P] from standard normal noise of the same shape, differentiable."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) in nats: z [... N P] → [... N]; an N of 1 in z broadcasts."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """−E_q[log q(z|x)] in nats, [N]."""

    def __len__(self) -> int:
        return len(self.tensors[0])

    @overload
    def __getitem__(self, rows: int) -> Single: ...

    @overload
    def __getitem__(self, rows: slice | Tensor | list[int]) -> Self: ...

    def __getitem__(self, rows: int | slice | Tensor | list[int]) -> Self | Single:
        """The posteriors of some examples; for a number that of one."""
        if isinstance(rows, int):
            place = range(len(self))[rows]  # an IndexError ends a loop over all
            return Single(self._each(lambda tensor: tensor[place : place + 1]))
        return self._each(lambda tensor: tensor[rows])

    def latents(self, rows: slice) -> Self:
        """The posteriors of some of K latents, [N K P]; of a family that takes grids."""
        return self._each(lambda tensor: tensor[:, rows])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(N={len(self)}, latent={tuple(self.mean.shape[1:])})"

    def _repr_html_(self) -> str:
        size = " × ".join(map(str, self.mean.shape[1:]))
        examples = f"{len(self):,} example{'' if len(self) == 1 else 's'}"
        title = f"q(z|x) of {examples}, {size} dimensions ({type(self).__name__})"
        if self.is_discrete:
            return f"<div><b>{title}</b></div>"
        kl = self.kl_to_standard_normal().flatten(1).sum(1)
        mean, deviation = (part.flatten(1) for part in (self.mean, self.standard_deviation))
        return posterior_html(title, mean, deviation, kl)

    def _each(self, function: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(*map(function, self.tensors))

    def detach(self) -> Self:
        """The same distribution without gradient."""
        return self._each(Tensor.detach)

    def to(self, device: torch.device) -> Self:
        """The same distribution on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def cpu(self) -> Self:
        """The same distribution in main memory."""
        return self._each(Tensor.cpu)

    def double(self) -> Self:
        """The same distribution in float64."""
        return self._each(Tensor.double)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The posteriors of several batches as one."""
        columns = zip(*(part.tensors for part in parts), strict=True)
        return type(parts[0])(*map(torch.cat, columns))

    @property
    def standard_deviation(self) -> Tensor:
        """exp(log_variance / 2), the shape of the mean."""
        return torch.exp(0.5 * self.log_variance)

    def rsample(self, samples: int = 1, noise: Tensor | None = None) -> Tensor:
        """Draw z with gradient (reparameterised).

        Args:
            samples: S, draws for every example.
            noise: ε, standard normal [S N P]; drawn from torch's generator if absent. Given noise
                makes the draw a pure function, which evaluation and resumed runs rely on.

        Returns:
            z [S N P] (or [S N K P]).

        Raises:
            ValueError: the noise is not [S N P].
        """
        shape = self.mean.shape
        if noise is None:
            noise = torch.randn(samples, *shape, device=self.mean.device)
        # A smaller noise would broadcast, and examples would share their draws unseen.
        if noise.shape[1:] != shape:
            raise ValueError(
                f"noise must have the shape [S, {', '.join(map(str, shape))}], "
                f"got {list(noise.shape)}"
            )
        return self.transform(noise.to(self.mean))

    def kl(self, prior: Prior, z: Tensor | None = None) -> Tensor:
        """KL(q(z|x) ‖ p(z)) in nats for every example.

        Against a standard normal it is exact for most families. Other priors have no closed form:
        there it is the average over draws of log q(z|x) − log p(z), in one undivided column.

        Args:
            prior: p(z).
            z: the draws [S N P] for priors without a closed form; one fresh draw if absent.

        Returns:
            [N P] (or [N K P]) where it is exact and splits over dimensions, else [N 1].
        """
        if self.has_exact_kl(prior):
            return self.exact_kl(prior)
        draws = self.rsample() if z is None else z
        return (self.log_prob(draws) - prior.log_prob(draws)).mean(0).unsqueeze(-1)

    def has_exact_kl(self, prior: Prior) -> bool:
        """Whether :meth:`kl` is exact, and no average over draws."""
        return prior.is_standard_normal

    def exact_kl(self, prior: Prior) -> Tensor:
        """KL(q(z|x) ‖ p(z)) where :meth:`has_exact_kl`."""
        return self.kl_to_standard_normal()

    def kl_to_standard_normal(self) -> Tensor:
        """−H(q) − E_q[log N(z; 0, I)], exact, in one column [N 1] unless a family can split it."""
        cross_entropy = 0.5 * (self.mean.square() + self.log_variance.exp() + LOG_TWO_PI)
        return (cross_entropy.flatten(1).sum(1) - self.entropy()).unsqueeze(-1)

    def log_prob_of_each(self, z: Tensor) -> Tensor:
        """log q(z_m|x_n) for all pairs: z [M P] → [M N], nats."""
        at_once = max(1, _VALUES_AT_ONCE // max(1, self.mean.numel()))
        return torch.cat([self.log_prob(rows.unsqueeze(1)) for rows in z.split(at_once)])

    def log_aggregate(self, z: Tensor) -> Tensor:
        """log q(z) = log 1/N Σ_n q(z|x_n), the density of the aggregate posterior.

        Args:
            z: points [M P].

        Returns:
            [M], nats, in float64.
        """
        points = z.double().split(_ROWS_AT_ONCE)
        firsts = range(0, len(self), _EXAMPLES_AT_ONCE)
        # Filled in place: what is kept between large blocks would keep their memory apart.
        parts = points[0].new_empty(len(firsts), len(z))
        for part, first in zip(parts, firsts, strict=True):
            some = self[first : first + _EXAMPLES_AT_ONCE].double()
            for place, rows in zip(part.split(_ROWS_AT_ONCE), points, strict=True):
                place[:] = torch.logsumexp(some.log_prob_of_each(rows), dim=1)
        return torch.logsumexp(parts, dim=0) - math.log(len(self))


@final
class Single:
    """q(z|x) of one example: its mean is [P], where that of N examples is [N P].

    Args:
        posterior: Of that example, N = 1.
    """

    def __init__(self, posterior: Posterior) -> None:
        self.posterior = posterior

    @property
    def mean(self) -> Tensor:
        """E[z], [P] (or [K P])."""
        return self.posterior.mean[0]

    @property
    def log_variance(self) -> Tensor:
        """log Var(z_j), the shape of the mean."""
        return self.posterior.log_variance[0]

    @property
    def standard_deviation(self) -> Tensor:
        """exp(log_variance / 2), the shape of the mean."""
        return self.posterior.standard_deviation[0]

    def rsample(self, samples: int = 1, noise: Tensor | None = None) -> Tensor:
        """Draw z [S P], see :meth:`Posterior.rsample`; noise [S P]."""
        own = None if noise is None else noise.unsqueeze(1)
        return self.posterior.rsample(samples, own).squeeze(1)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) in nats: z [... P] → [...]."""
        return self.posterior.log_prob(z.unsqueeze(z.ndim - self.mean.ndim)).squeeze(-1)

    def entropy(self) -> Tensor:
        """−E_q[log q(z|x)] in nats, a scalar."""
        return self.posterior.entropy()[0]

    def kl(self, prior: Prior, z: Tensor | None = None) -> Tensor:
        """KL(q(z|x) ‖ p(z)) in nats, [P] or [1], see :meth:`Posterior.kl`; draws z [S P]."""
        return self.posterior.kl(prior, None if z is None else z.unsqueeze(1))[0]

    def __repr__(self) -> str:
        return f"{type(self.posterior).__name__}(latent={tuple(self.mean.shape)})"

    def _repr_html_(self) -> str:
        return self.posterior._repr_html_()


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float32 or better."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
