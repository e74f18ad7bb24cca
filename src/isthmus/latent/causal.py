"""A language model of latents: a causal Transformer, and noise carried along a velocity.

CALM (Shao et al. 2025, arXiv 2510.27688) models texts by the latents of their chunks and reports
no likelihood. Here the head is a flow whose density is exact, so that the stack has a bound:

    log p(x) ≥ E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)),    p(z) = Π_k p(z_k|z_<k).
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.fit import draw
from isthmus.latent.flow_matching import (
    Flow,
    Velocity,
    choose_steps,
    regression_error,
)
from isthmus.latent.flows import Pushforward, Whitening
from isthmus.latent.prior_module import Encode, PriorModule, PriorSizes, StandardNormal

HEAD_SIZE = 32
"""Width of an attention head."""
LAYERS = 2
_END_STEPS, _END_TEXTS, _END_RATE = 400, 256, 1e-2


@final
class CausalFlow(Prior):
    """Π_k p(z_k|z_<k): see :class:`CausalFlowPrior`."""

    def __init__(self, module: CausalFlowPrior) -> None:
        self.module = module

    def log_prob(self, z: Tensor) -> Tensor:
        """Σ_k log p(z_k|z_<k), nats: z [... K P] → [...]."""
        module = self.module
        rows = z.reshape(-1, *module.grid).to(module.whitening.shift)
        with torch.autocast(z.device.type, enabled=False):
            going = ~module.ended(rows)
            each = StandardNormal(module.grid[1]).log_prob(rows)  # [N K]
            flow = module.flow(module.states(rows, going))
            each = each.masked_scatter(going, flow.log_prob(rows[going]))
        return each.sum(-1).view(z.shape[: z.ndim - len(module.shape)])

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """One latent after the other."""
        module = self.module
        latents, size = module.grid
        z = torch.randn(count, latents, size, generator=generator).to(module.whitening.shift)
        for place in range(latents):
            here = torch.arange(latents, device=z.device) == place
            z = self.following(z, z, here)
        return z.view(count, *module.shape)

    @torch.no_grad()
    def following(self, z: Tensor, noise: Tensor, chosen: Tensor | None = None) -> Tensor:
        """A draw of every z_k given the latents before it: z and noise [N K P] → [N K P].

        Behind the end of a text, and at places that are not chosen [K], it is the noise.
        """
        going = ~self.module.ended(z)
        if chosen is not None:
            going = going & chosen
        flow = self.module.flow(self.module.states(z, going))
        return noise.masked_scatter(going.unsqueeze(-1), flow.from_base(noise[going]))


@final
class CausalFlowPrior(PriorModule):
    """Π_k p(z_k|z_<k), by a causal Transformer over the latents before and flow matching.

    The state h_k of the Transformer, which has read z_<k, enters the velocity beside the time; its
    divergence stays exact (:class:`isthmus.latent.flow_matching.Velocity`), and so does the
    density. All z_k share a whitening.

    Latents behind the end of a text are N(0, I) under q(z|x), and they are so here: a small
    network reads off each latent whether the text ends in it, learned from the posteriors at the
    start of the fit and fixed from then on. That is a function of z_<k, so p(z) stays a density;
    where the function errs, the bound is lower and still a bound.
    """

    learning_rate: ClassVar[float] = 2e-3
    batch_size: ClassVar[int] = 128

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.shape = sizes.shape
        self.grid = (sizes.shape[0] if len(sizes.shape) > 1 else 1, sizes.shape[-1])
        latents, size = self.grid
        width = max(HEAD_SIZE, sizes.hidden_size // HEAD_SIZE * HEAD_SIZE)
        self.whitening = Whitening(size).requires_grad_(False)
        last = nn.Linear(2 * size, 1)
        nn.init.constant_(last.bias, -10.0)  # nothing ends before a fit
        self.end = nn.Sequential(nn.Linear(size, 2 * size), nn.SiLU(), last).requires_grad_(False)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(latents, width))
        self.entry = nn.Sequential(
            nn.Linear(size, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        # one at a time: nn.TransformerEncoder makes copies of one initialisation
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                *(width, width // HEAD_SIZE, 4 * width),
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(width)
        self.velocity = Velocity(size, 2 * width, width)
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(8))

    def states(self, z: Tensor, wanted: Tensor) -> Tensor:
        """h_k, which has read z_<k, at the M wanted places: z [N K P], wanted [N K] → [M H]."""
        size = self.grid[1]
        latents = int(wanted.any(0).nonzero().max()) + 1 if wanted.any() else 1
        z, wanted = z[:, :latents], wanted[:, :latents]
        white = self.whitening.to_base(z[:, :-1].reshape(-1, size))[0]
        read = self.entry(white.view(len(z), latents - 1, size))
        hidden = torch.cat([self.start.expand(len(z), -1, -1), read], 1) + self.places[:latents]
        mask = nn.Transformer.generate_square_subsequent_mask(latents, device=z.device)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask, is_causal=True)
        return self.norm(hidden[wanted])

    def ended(self, z: Tensor) -> Tensor:
        """Whether the text ends before latent k: [N K P] → [N K]."""
        ends = self.end(z[:, :-1]).squeeze(-1) > 0
        return nn.functional.pad(ends, (1, 0), value=False).cummax(1).values

    def flow(self, states: Tensor) -> Pushforward:
        """The laws of M latents, each given its state [M H]."""
        flow = Flow(self.velocity, int(self.steps), states)
        return Pushforward((self.grid[1],), [self.whitening, flow], self.whitening.shift)

    def start_from(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Whiten the latents that hold something, and learn where texts end."""
        size = self.grid[1]
        columns = [one.reshape(-1, size) for one in posterior.tensors]
        used = (columns[0] != 0).any(-1)
        self.whitening.fit(type(posterior)(*(one[used] for one in columns)), generator)
        used = used.view(len(posterior), -1)
        if not used.all():
            self._learn_ends(posterior, used, generator)

    def _learn_ends(self, posterior: Posterior, used: Tensor, generator: torch.Generator) -> None:
        """Fit the network that tells the last latent of a text: logistic regression."""
        last = used & ~nn.functional.pad(used[:, 1:], (0, 1), value=False)
        self.end.requires_grad_(True)
        parameters = [*self.end.parameters()]
        nn.init.zeros_(parameters[-1])
        optimiser = torch.optim.Adam(parameters, lr=_END_RATE)
        for step in range(_END_STEPS):
            optimiser.param_groups[0]["lr"] = _END_RATE * (1 - step / _END_STEPS)
            chosen = torch.randint(len(posterior), (_END_TEXTS,), generator=generator)
            there = used[chosen]
            z = draw(posterior[chosen], generator)[there].to(self.start)
            loss = nn.functional.binary_cross_entropy_with_logits(
                self.end(z).squeeze(-1), last[chosen][there].to(z)
            )
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()
        self.end.requires_grad_(False)

    def loss(self, z: Tensor, encode: Encode, generator: torch.Generator) -> Tensor:
        """Squared error of the velocity at a random time, per number of a latent that is used."""
        rows = z.reshape(-1, *self.grid)
        going = ~self.ended(rows)
        x = self.whitening.to_base(rows[going])[0]
        return regression_error(self.velocity, x, generator, self.states(rows, going))

    @torch.no_grad()
    def finish(self, z: Tensor) -> None:
        """Choose the number of steps of the solver."""
        choose_steps(self.steps, lambda: CausalFlow(self).log_prob(z))

    def forward(self, encode: Encode) -> CausalFlow:
        """The density at the present parameters."""
        return CausalFlow(self)
