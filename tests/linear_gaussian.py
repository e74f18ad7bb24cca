"""A model whose log p(x) is known: p(z) = N(0, I), p(x|z) = N(Wz + b, σ²I), q(z|x) = N(Ax + c, v).

Everything runs in float64, so that identities can be told from approximations.
"""

import math

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from torch.distributions import MultivariateNormal

from isthmus.latent.posterior import DiagonalGaussian, FullGaussian
from isthmus.models.base import LatentModel
from isthmus.models.codec import Examples
from isthmus.models.config import LatentConfig, build_prior


@strict
class LinearGaussianConfig(LatentConfig):
    """Nothing but the latent."""


class Vectors(Examples):
    """Vectors [N D]; what each costs in a batch is free, so that batches mix their order."""

    def __init__(self, x, costs=None):
        self.x = x
        self.costs = np.full(len(x), x.shape[1]) if costs is None else np.asarray(costs)

    @property
    def lengths(self):
        return self.costs

    def collate(self, indices, *, seed=0, epoch=0, noise_shape=None, denoising=None):
        return {"targets": self.x[indices]}


class LinearGaussian(LatentModel):
    """The model; ``seen`` counts the decoder's elements of every call, S · N · D."""

    config_class = LinearGaussianConfig

    def __init__(self, weight, offset, noise_variance, config=None):
        shape = {"latent_size": weight.shape[1]}
        super().__init__(config or LinearGaussianConfig(**shape))
        self.weight = torch.nn.Parameter(weight)  # [D P]
        self.offset, self.noise_variance = offset, noise_variance
        self.prior_module = build_prior(self.config)
        self.seen = []
        self.true_posterior()

    def set_posterior(self, slope, shift, log_variance):
        """q(z|x) = N(slope x + shift, diag exp(log_variance))."""
        self.slope, self.shift, self.log_variance = slope, shift, log_variance

    def true_posterior(self):
        """Make q(z|x) = p(z|x), which is diagonal because the columns of W are orthogonal."""
        weight = self.weight.detach()
        precision = 1 + weight.square().sum(0) / self.noise_variance  # [P]
        slope = weight.T / self.noise_variance / precision.unsqueeze(1)
        self.set_posterior(slope, -slope @ self.offset, -precision.log())

    def log_evidence(self, x):
        """Log p(x) = log N(x; b, WWᵀ + σ²I), exactly, [N]."""
        weight = self.weight.detach()
        covariance = weight @ weight.T + self.noise_variance * torch.eye(len(weight)).double()
        return MultivariateNormal(self.offset, covariance).log_prob(x)

    def exact_terms(self, x, posterior=None):
        """E_q[−log p(x|z)] and KL in closed form, [N] each; q is the encoder's if not given."""
        posterior = self.posterior({"targets": x}) if posterior is None else posterior
        variance = posterior.log_variance.exp()
        error = x - self.offset - posterior.mean @ self.weight.detach().T
        spread = (variance @ self.weight.detach().square().T).sum(1)
        size = x.shape[1]
        reconstruction = 0.5 * (
            size * math.log(2 * math.pi * self.noise_variance)
            + (error.square().sum(1) + spread) / self.noise_variance
        )
        kl = 0.5 * (posterior.mean.square() + variance - posterior.log_variance - 1).sum(1)
        return reconstruction, kl

    def freeze(self):
        """Every weight is trained."""

    def posterior(self, batch):
        mean = batch["targets"] @ self.slope.T + self.shift
        return DiagonalGaussian(mean, self.log_variance.expand_as(mean))

    def reconstruction(self, z, batch):
        self.seen.append(z.shape[0] * batch["targets"].numel())
        error = batch["targets"] - self.offset - z @ self.weight.T
        density = -0.5 * (
            math.log(2 * math.pi * self.noise_variance) + error.square() / self.noise_variance
        )
        return -density.sum(-1)

    def draw(self, z, generation):
        return [" ".join(f"{value:.3f}" for value in row) for row in z.tolist()]

    def pseudo_posterior(self, pseudo_inputs):
        raise AssertionError("no prior of this model is made of posteriors")


class CorrelatedGaussian(LinearGaussian):
    """The same with any W: p(z|x) is N(Ax + c, S) with a full covariance S."""

    family = FullGaussian

    def true_posterior(self):
        weight = self.weight.detach()
        precision = torch.eye(weight.shape[1]).double() + weight.T @ weight / self.noise_variance
        self.covariance = precision.inverse()
        self.slope = self.covariance @ weight.T / self.noise_variance
        self.shift = -self.slope @ self.offset

    def posterior(self, batch):
        mean = batch["targets"] @ self.slope.T + self.shift
        factor = torch.linalg.cholesky(self.covariance)
        below = factor.tril(-1) + factor.diagonal().log().diag()
        rows, columns = torch.tril_indices(*factor.shape)
        return FullGaussian(mean, below[rows, columns].expand(len(mean), -1))


def correlated_model():
    """D = 4, P = 2, and two columns of W that point nearly the same way."""
    weight = torch.tensor([[1.0, 1.2], [1, 0.8], [-2, -1.5], [0, 0.3]]).double()
    return CorrelatedGaussian(weight, torch.tensor([0.5, -1, 0, 2]).double(), 0.5)


def example_model(config=None):
    """D = 4, P = 2, and x drawn from the model by :func:`draw_from`."""
    weight = torch.tensor([[1.0, 1], [1, -1], [-2, 0.5], [0, 0]]).double()
    weight[:, 1] -= weight[:, 0] * (weight[:, 0] @ weight[:, 1]) / weight[:, 0].square().sum()
    offset = torch.tensor([0.5, -1, 0, 2]).double()
    return LinearGaussian(weight, offset, 0.5, config)


def draw_from(model, count, seed=0):
    """x [N D] from p(x)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, model.weight.shape[1], generator=generator).double()
    noise = torch.randn(count, len(model.weight), generator=generator).double()
    mean = z @ model.weight.detach().T + model.offset
    return mean + model.noise_variance**0.5 * noise


def unit_model():
    """p(z) = N(0, 1), p(x|z) = N(z, 1): the case with golden values."""
    return LinearGaussian(torch.ones(1, 1).double(), torch.zeros(1).double(), 1.0)
