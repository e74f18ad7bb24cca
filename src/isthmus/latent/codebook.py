"""Vector quantisation: latents that are entries of a codebook, and their exact rate.

Each of K latents is the entry nearest to a point that the encoder predicts (van den Oord et al.
2017, arXiv 1711.00937). q(z|x) has all its mass there, so the bound is exact without sampling:

    log p(x) ≥ log p(x|z) + log p(z),    KL = −log p(c_1 … c_K), the rate in nats

The rate has no gradient for the encoder: a code costs ln C nats at most.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self, final

import torch
from torch import Tensor, nn

from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.prior_module import Encode, PriorModule, PriorSizes

COMMITMENT = 0.25
"""Weight of moving points to entries, beside entries to points (van den Oord et al. 2017)."""
_LEAST = 1e-9
"""Share of an entry whose logarithm is taken."""


@final
class Codebook(nn.Module):
    """C entries of P numbers: [C P].

    Args:
        entries: C.
        size: P.
    """

    def __init__(self, entries: int, size: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.randn(entries, size))

    def forward(self, codes: Tensor) -> Tensor:
        """The entries of codes [...], [... P]."""
        return nn.functional.embedding(codes, self.entries)

    def distances(self, points: Tensor) -> Tensor:
        """‖h − e_c‖² of points [... P], [... C]; the gradient goes to the points alone."""
        entries = self.entries.detach()
        rows = points.reshape(-1, entries.shape[1]).to(entries)
        products = rows @ entries.T
        found = rows.square().sum(-1, keepdim=True) - 2 * products + entries.square().sum(-1)
        return found.view(*points.shape[:-1], -1)

    def codes(self, points: Tensor) -> Tensor:
        """The number of the entry nearest to each point: [... P] → [...]."""
        return self.distances(points.detach()).argmin(-1)

    def nearest(self, points: Tensor) -> Tensor:
        """The entry nearest to each point: [... P] → [... P]."""
        found: Tensor = self(self.codes(points))
        return found

    def loss(self, posterior: Quantised) -> Tensor:
        """What keeps entries and points together, and all entries in use, [N].

            Σ (sg[h] − e)² + ¼ Σ (h − sg[e])² + Σ_k KL(q̄_k ‖ uniform),
            q̄_k = mean over the batch of softmax_c(−‖h_k − e_c‖²)

        sg[·] passes no gradient. The first two are van den Oord et al. (2017, eq. 3). Nothing else
        holds the points where the entries are: without the third, which Yu et al. (2023, arXiv
        2310.05737) have too, all points drift to one entry before the decoder reads any. It is no
        part of the bound.
        """
        entries, points = posterior.tensors
        moves = (points.detach() - entries).square()
        moves = moves + COMMITMENT * (points - entries.detach()).square()
        used = (-self.distances(points)).softmax(-1).mean(0)  # [K C], or [C] where K = 1
        uneven = (used * (used.clamp_min(_LEAST).log() + math.log(used.shape[-1]))).sum()
        return moves.flatten(1).sum(1) + uneven


@final
class Quantised(Posterior):
    """q(z|x) = 1 at entries of a codebook, 0 elsewhere.

    Draws are the entries; in the backward pass the gradient goes to the points as if these were
    the draws (straight through; Bengio et al. 2013, arXiv 1308.3432).

    Args:
        entries: of the codebook, [N P] or [N K P].
        points: what the encoder predicts, the same shape.
    """

    takes_grids = is_discrete = True
    varies = False

    def __init__(self, entries: Tensor, points: Tensor) -> None:
        super().__init__(entries, points)

    @staticmethod
    def numbers(size: int) -> int:
        """A point."""
        return size

    @classmethod
    def from_numbers(cls, numbers: Tensor, shape: tuple[int, ...]) -> Self:
        """Points that are not on a codebook yet; see :meth:`on`."""
        points = numbers.unflatten(-1, shape)
        return cls(points, points)

    def on(self, codebook: Codebook) -> Self:
        """The same points, and the entries of a codebook that are nearest to them."""
        return type(self)(codebook.nearest(self.tensors[1]), self.tensors[1])

    @property
    def mean(self) -> Tensor:
        """The entries."""
        return self.tensors[0]

    @property
    def log_variance(self) -> Tensor:
        """−∞: nothing varies."""
        return torch.full_like(self.mean, -math.inf)

    def transform(self, noise: Tensor) -> Tensor:
        """The entries, S times; noise changes nothing."""
        entries, points = self.tensors
        passed = entries.detach() + (points - points.detach())
        return passed.expand(noise.shape)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x): 0 at the entries, −∞ elsewhere. z [... N P] → [... N]."""
        first = z.ndim - self.mean.ndim + 1
        here = (z == self.mean).flatten(start_dim=first).all(-1)
        return torch.zeros(here.shape, device=z.device).masked_fill(~here, -math.inf).to(z.dtype)

    def entropy(self) -> Tensor:
        """0: there is one possible value."""
        return self.mean.new_zeros(len(self))


@final
class CodebookDistribution(Prior):
    """p(c_1 … c_K) = Π_k p(c_k|c_<k) over entries of a codebook; see :class:`CodebookPrior`."""

    def __init__(self, module: CodebookPrior) -> None:
        self.module = module

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_k log p(c_k|c_<k), nats: z [... K P] → [...].

        c are the entries nearest to z. No gradient goes to z: the rate has none for points.
        """
        rows = self.module.rows(z)
        return -self.rates(rows).sum(-1).view(z.shape[: z.ndim - len(self.module.shape)])

    def rates(self, z: Tensor) -> Tensor:
        """−log p(c_k|c_<k), nats: z [N K P] → [N K]."""
        module = self.module
        codes = module.codebook.codes(z)
        first, state = module.begin(len(z))
        before = torch.cat([first, module.codebook(codes[:, :-1]).detach()], dim=1)
        log_p = module.log_p(module.network(before, state)[0])
        return -log_p.gather(-1, codes.unsqueeze(-1)).squeeze(-1)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Entries, one latent after another: [count K P]."""
        module, entries, drawn = self.module, self.module.codebook.entries, []
        last, state = module.begin(count)
        for _ in range(math.prod(module.shape[:-1])):
            hidden, state = module.network(last, state)
            p = module.log_p(hidden[:, 0]).exp().cpu()
            code = torch.multinomial(p, 1, generator=generator)[:, 0].to(entries.device)
            drawn.append(entries[code])
            last = entries[code].unsqueeze(1)
        return torch.stack(drawn, 1).view(count, *module.shape)


@final
class CodebookPrior(PriorModule):
    """p(c_1 … c_K) = Π_k p(c_k|c_<k), and the codebook itself, for the posterior quantised.

    A GRU (Cho et al. 2014) over the entries before predicts each code. It learns beside encoder
    and decoder from the first step on: −log p is the KL.
    """

    learning_rate: ClassVar[float] = 2e-3

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.shape = sizes.shape
        size = sizes.shape[-1]
        self.codebook = Codebook(sizes.components, size)
        self.network = nn.GRU(size, sizes.hidden_size, batch_first=True)
        self.first = nn.Parameter(torch.randn(size))
        self.state = nn.Parameter(0.1 * torch.randn(sizes.hidden_size))
        self.logits = nn.Linear(sizes.hidden_size, sizes.components)

    def rows(self, z: Tensor) -> Tensor:
        """Latents [... K P], or [... P] where K = 1, as [N K P]."""
        return z.reshape(-1, math.prod(self.shape[:-1]), self.shape[-1])

    def begin(self, count: int) -> tuple[Tensor, Tensor]:
        """What stands before the first latent, [N 1 P], and the network's state there, [1 N H]."""
        return self.first.expand(count, 1, -1), self.state.expand(1, count, -1).contiguous()

    def log_p(self, hidden: Tensor) -> Tensor:
        """log p of each entry under states [... H], [... C]."""
        return self.logits(hidden).float().log_softmax(-1)

    def forward(self, encode: Encode) -> CodebookDistribution:
        """The distribution at the present parameters."""
        return CodebookDistribution(self)
