"""The product of Gaussian experts against the algebra of Gaussian densities."""

import torch
from torch.distributions import Normal

from isthmus.latent.experts import log_overlap, product
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


def test_the_overlap_is_the_integral_and_the_ratio_of_probabilities_of_a_linear_model():
    """By sums over a grid; and where p(x|z) is Gaussian, log p(b|a) / p(b)."""
    wide = (expert(2, 0), expert(3, 1))
    one, other = (
        product(
            [(torch.arange(len(q)), DiagonalGaussian(q.mean[:, :1], q.log_variance[:, :1]))],
            len(q),
            1,
            CPU,
        )
        for q in wide
    )
    grid = torch.linspace(-15, 15, 60_001, dtype=torch.double)
    for i in range(2):
        for j in range(3):
            density = Normal(one.mean[i], one.standard_deviation[i]).log_prob(grid)
            density = density + Normal(other.mean[j], other.standard_deviation[j]).log_prob(grid)
            density = density - Normal(0.0, 1.0).log_prob(grid)
            exact = torch.logsumexp(density, 0) + (grid[1] - grid[0]).log()
            torch.testing.assert_close(log_overlap(one, other)[i, j], exact)
    # x_a = z + noise, x_b = z + noise, variances of 0.5 and 2
    a, b = torch.tensor([0.7, -1.2]), torch.tensor([1.5])
    of_a, of_b = (
        product([(torch.arange(len(x)), DiagonalGaussian(x[:, None], v))], len(x), 1, CPU)
        for x, v in ((a, torch.full((2, 1), 0.5).log()), (b, torch.full((1, 1), 2.0).log()))
    )
    given = Normal(of_a.mean[:, 0], (of_a.standard_deviation[:, 0].square() + 2).sqrt())
    ratio = given.log_prob(b) - Normal(0.0, 3**0.5).log_prob(b)
    torch.testing.assert_close(log_overlap(of_a, of_b)[:, 0].float(), ratio)
