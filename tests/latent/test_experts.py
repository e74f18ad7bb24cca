"""The product of Gaussian experts against the algebra of Gaussian densities."""

import torch
from torch.distributions import Normal

from isthmus.latent.experts import product
from isthmus.latent.posterior import DiagonalGaussian

CPU = torch.device("cpu")


def expert(count: int, seed: int) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(2, count, 3, generator=generator, dtype=torch.double)
    return DiagonalGaussian(draw[0], draw[1])


def test_log_density_is_that_of_the_factors_up_to_one_constant():
    first, second = expert(2, 0), expert(2, 1)
    rows = torch.arange(2)
    whole = product([(rows, first), (rows, second)], 2, 3, CPU)
    z = torch.randn(50, 2, 3, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    factors = Normal(0.0, 1.0).log_prob(z)
    for one in (first, second):
        factors = factors + Normal(one.mean, one.standard_deviation).log_prob(z)
    difference = Normal(whole.mean, whole.standard_deviation).log_prob(z) - factors
    assert difference.std(0).max() < 1e-12


def test_an_example_of_which_nobody_speaks_keeps_the_prior():
    whole = product([(torch.tensor([2, 0]), expert(2, 0))], 3, 3, CPU)
    assert (whole.mean[1] == 0).all()
    assert (whole.log_variance[1] == 0).all()
    assert (whole.log_variance[[0, 2]] < 0).all()


def test_the_order_of_experts_and_of_rows_changes_nothing():
    first, second = expert(2, 0), expert(3, 1)
    ahead = product([(torch.tensor([0, 2]), first), (torch.arange(3), second)], 3, 3, CPU)
    behind = product([(torch.arange(3), second), (torch.tensor([2, 0]), first[[1, 0]])], 3, 3, CPU)
    torch.testing.assert_close(ahead.mean, behind.mean)
    torch.testing.assert_close(ahead.log_variance, behind.log_variance)


def test_no_expert_at_all():
    whole = product([], 2, 3, CPU)
    assert whole.mean.shape == (2, 3)
    assert not whole.mean.any()
    assert not whole.log_variance.any()
