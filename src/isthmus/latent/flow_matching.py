"""Flow matching: a prior whose bijection is the flow of a learned velocity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior
from isthmus.latent.flows import Bijection, Pushforward, Whitening
from isthmus.latent.prior_module import Encode, PriorModule, PriorSizes

END = math.pi / 2
"""The time of the data; that of the base is 0."""
TOLERANCE = 0.01
"""Nats: twice the steps must change no held-out log p(z) by more."""
STEPS = (4, 8, 16, 32, 64, 128)
"""Numbers of Runge–Kutta steps to choose from."""
_FREQUENCIES = 8
_TIME_SIZE = 64
_CONDITIONED_SIZE = 128


class _Modulation(NamedTuple):
    """What the time does to the hidden units [H] and to the result [D]."""

    inner_scale: Tensor
    inner_shift: Tensor
    middle_scale: Tensor
    middle_shift: Tensor
    outer_scale: Tensor
    outer_shift: Tensor


@final
class Velocity(nn.Module):
    """v(y, τ), a network of two hidden layers whose divergence is as cheap as itself, and exact.

    v = C (s₃ ∘ a(s₂ ∘ B a(s₁ ∘ A y + b₁) + b₂)) + b₃, with a = SiLU; the scales s and the shifts b
    are functions of the time τ alone. So the trace of its Jacobian is a bilinear form of the
    slopes of the two layers,

        div v = Σ_ij (s₃ s₂ a′₂)_i M_ij (s₁ a′₁)_j,    M_ij = B_ij (A C)_ji,

    where M depends neither on y nor on τ. A third hidden layer, or attention over the K latents,
    would need D products with the Jacobian instead of one.

    Args:
        size: D.
        hidden_size: H.
        condition_size: C of a vector that the scales and shifts depend on as well; 0 for none.
    """

    def __init__(self, size: int, hidden_size: int, condition_size: int = 0) -> None:
        super().__init__()
        self.size, self.hidden_size = size, hidden_size
        self.inner = nn.Linear(size, hidden_size, bias=False)
        self.middle = nn.Linear(hidden_size, hidden_size, bias=False)
        self.outer = nn.Linear(hidden_size, size, bias=False)
        nn.init.normal_(self.inner.weight, std=size**-0.5)
        nn.init.normal_(self.middle.weight, std=(hidden_size / 2) ** -0.5)
        nn.init.zeros_(self.outer.weight)
        inside = _CONDITIONED_SIZE if condition_size else _TIME_SIZE
        by_time = nn.Linear(inside, 5 * hidden_size + size)
        nn.init.zeros_(by_time.weight)
        nn.init.zeros_(by_time.bias)
        self.time = nn.Sequential(nn.Linear(2 * _FREQUENCIES, inside), nn.SiLU(), by_time)
        self.condition = nn.Linear(condition_size, inside) if condition_size else None

    def forward(self, y: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        """The velocity at points [N D] and times [N], under conditions [N C]."""
        return self._run(y, self._modulation(time, condition))[0]

    def with_divergence(
        self, y: Tensor, time: float, trace: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Velocity [N D] and divergence [N] at points [N D] and one time; see :meth:`trace`."""
        by_time = self._modulation(self.outer.weight.new_tensor([time]), condition)
        velocity, first, second = self._run(y, by_time)
        left = by_time.outer_scale * by_time.middle_scale * _slope(second)
        right = by_time.inner_scale * _slope(first)
        return velocity, (left * (right @ trace.T)).sum(-1)

    def trace(self) -> Tensor:
        """M, [H H]."""
        return self.middle.weight * (self.inner.weight @ self.outer.weight).T

    def _modulation(self, time: Tensor, condition: Tensor | None) -> _Modulation:
        turns = time.unsqueeze(-1) * torch.arange(1, _FREQUENCIES + 1, device=time.device)
        entry, activation, by_time = self.time
        inside = entry(torch.cat([turns.sin(), turns.cos()], -1))
        if self.condition is not None and condition is not None:
            inside = inside + self.condition(condition)
        found = by_time(activation(inside))
        one, two, three, four, five, last = found.split([self.hidden_size] * 5 + [self.size], -1)
        return _Modulation(1 + one, two, 1 + three, four, 1 + five, last)

    def _run(self, y: Tensor, by_time: _Modulation) -> tuple[Tensor, Tensor, Tensor]:
        """The velocity, and what enters the two activations."""
        first = by_time.inner_scale * self.inner(y) + by_time.inner_shift
        second = by_time.middle_scale * self.middle(silu(first)) + by_time.middle_shift
        velocity = self.outer(by_time.outer_scale * silu(second)) + by_time.outer_shift
        return velocity, first, second


def _slope(x: Tensor) -> Tensor:
    """SiLU′."""
    gate = x.sigmoid()
    return gate * (1 + x * (1 - gate))


@final
class Flow(Bijection):
    """The solution of dy/dτ = v(y, τ) from 0 to π/2, by Runge–Kutta steps of order 4.

    Args:
        velocity: v.
        steps: their number.
        condition: of each of N points, [N C], if the velocity has one.
    """

    def __init__(self, velocity: Velocity, steps: int, condition: Tensor | None = None) -> None:
        self.velocity, self.steps, self.condition = velocity, steps, condition

    def to_base(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Backwards in time; d log |det| / dτ is the divergence on the way."""
        trace = self.velocity.trace()
        return self._solve(z, END, 0.0, trace)

    def from_base(self, base: Tensor) -> Tensor:
        """Forwards in time."""
        return self._solve(base, 0.0, END, self.velocity.trace())[0]

    def _solve(self, y: Tensor, start: float, end: float, trace: Tensor) -> tuple[Tensor, Tensor]:
        step, log_det = (end - start) / self.steps, y.new_zeros(len(y))
        for place in range(self.steps):
            time = start + place * step
            slope, grown = self.velocity.with_divergence(y, time, trace, self.condition)
            total, more = slope, grown
            for weight, part in ((2, 0.5), (2, 0.5), (1, 1.0)):
                at = y + part * step * slope
                slope, grown = self.velocity.with_divergence(
                    at, time + part * step, trace, self.condition
                )
                total, more = total + weight * slope, more + weight * grown
            y, log_det = y + step / 6 * total, log_det + step / 6 * more
        return y, log_det


def regression_error(
    velocity: Velocity, x: Tensor, generator: torch.Generator, condition: Tensor | None = None
) -> Tensor:
    """Squared error of the velocity of the path from noise to whitened x [N D], per number."""
    noise = torch.randn(x.shape, generator=generator).to(x)
    # One time from each of N equal parts, in random order: less noise than free draws.
    places = torch.randperm(len(x), generator=generator)
    time = END * ((places + torch.rand(len(x), generator=generator)) / len(x)).to(x)
    cos, sin = time.cos().unsqueeze(1), time.sin().unsqueeze(1)
    error = velocity(cos * noise + sin * x, time, condition) - (cos * x - sin * noise)
    return error.square().mean()


def choose_steps(steps: Tensor, log_prob: Callable[[], Tensor]) -> None:
    """Set the number of steps of a solver: twice as many change no log p(z) by ``TOLERANCE``.

    Raises:
        IsthmusError: the velocity changes too fast for the largest number.
    """
    before, change = torch.full((), math.inf), math.inf
    for count in STEPS:
        steps.fill_(count)
        found = log_prob()
        change = (found - before).abs().max().item()
        if change < TOLERANCE:
            return
        before = found
    raise IsthmusError(
        f"flow-matching: {STEPS[-1]} steps of the solver still change log p(z) by "
        f"{change:.2g} nats, so that it would be no density; fit another kind"
    )


@final
class FlowMatchingPrior(PriorModule):
    """Noise carried along a velocity that is learned by regression (Lipman et al. 2023).

    Their optimal-transport path x_t = (1 − t) ε + t x, divided by its scale √(t² + (1 − t)²), is
    y_τ = cos τ ε + sin τ x with tan τ = t / (1 − t): the same map from noise to data, with a
    velocity that is zero where the whitened data are Gaussian. A fit regresses
    v(y_τ, τ) on dy/dτ = cos τ x − sin τ ε.

    The density has to be normalised, or the importance-weighted bound would bound nothing. A
    stochastic estimate of the divergence (Hutchinson) is unbiased for log p(z), but its
    exponential, and with it the weights, is too large on average. So the divergence here is exact,
    see :class:`Velocity`, and what is left is the error of the solver. :meth:`finish` takes so
    many steps that half as many change no held-out log p(z) by more than ``TOLERANCE``; the error
    of a method of order 4 is then about a fifteenth of that.
    """

    learning_rate: ClassVar[float] = 4e-3

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__(sizes)
        self.shape = sizes.shape
        numbers = math.prod(sizes.shape)
        self.whitening = Whitening(numbers).requires_grad_(False)
        self.velocity = Velocity(numbers, sizes.hidden_size)
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(8))

    def start_from(self, posterior: Posterior, generator: torch.Generator) -> None:
        """Whiten: the flow that does nothing is then the best Gaussian.

        The first layer begins with the posterior means of random examples, so that it looks where
        examples differ: of a space with many idle numbers, whitened, most is noise.
        """
        self.whitening.fit(posterior, generator)
        inner = self.velocity.inner.weight
        chosen = torch.randint(len(posterior), (len(inner),), generator=generator)
        with torch.no_grad():
            means = self.whitening.to_base(posterior.mean[chosen].flatten(1).to(inner))[0]
            inner.copy_(means / means.norm(dim=1, keepdim=True).clamp_min(1e-6))

    def loss(self, z: Tensor, encode: Encode, generator: torch.Generator) -> Tensor:
        """Squared error of the velocity at a random time, per number."""
        return regression_error(self.velocity, self.whitening.to_base(z.flatten(1))[0], generator)

    @torch.no_grad()
    def finish(self, z: Tensor) -> None:
        """Choose the number of steps.

        Raises:
            IsthmusError: the velocity changes too fast for the largest number.
        """
        choose_steps(self.steps, lambda: self._distribution().log_prob(z))

    def forward(self, encode: Encode) -> Pushforward:
        """The density at the present parameters."""
        return self._distribution()

    def _distribution(self) -> Pushforward:
        flow = Flow(self.velocity, int(self.steps))
        return Pushforward(self.shape, [self.whitening, flow], self.whitening.shift)
