"""Attribution by Bayes' rule and whether it can be believed: closed forms and planted cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from isthmus.evaluation.calibration import (
    brier_score,
    calibrated_error,
    expected_calibration_error,
    marginal,
    posterior,
    reliability,
)
from isthmus.evaluation.plots import reliability_plot


def log_likelihoods(count=6, codes=4, scale=30.0):
    generator = torch.Generator().manual_seed(0)
    return -200 + scale * torch.randn(count, codes, generator=generator, dtype=torch.double)


UNIFORM = torch.full((4,), -math.log(4))
EMPIRICAL = torch.tensor([0.70, 0.20, 0.08, 0.02]).log()


def drawn(count, sharpness=1.0):
    """Posteriors, and true codes drawn from them; the posteriors are then made sharper."""
    generator = torch.Generator().manual_seed(1)
    scores = 1.5 * torch.randn(count, 4, generator=generator, dtype=torch.double)
    truth = torch.multinomial(scores.softmax(-1), 1, generator=generator).squeeze(1)
    return (sharpness * scores).log_softmax(-1), truth


@pytest.mark.parametrize("prior", [UNIFORM, EMPIRICAL])
def test_bayes_rule(prior):
    scores = log_likelihoods()
    found = posterior(scores, prior)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(6, dtype=torch.double))
    joint = found + marginal(scores, prior).unsqueeze(-1)
    torch.testing.assert_close(joint, scores + prior.double())


def test_uniform_prior_ranks_as_perplexity_does():
    scores = log_likelihoods()
    perplexity = (-scores / 17).exp()
    assert torch.equal(posterior(scores, UNIFORM).argsort(-1), perplexity.argsort(-1).flip(-1))
    odds = posterior(scores, EMPIRICAL) - posterior(scores, UNIFORM)
    shift = odds - odds[:, :1] - (EMPIRICAL.double() - EMPIRICAL[0].double())
    torch.testing.assert_close(shift, torch.zeros_like(shift), atol=1e-9, rtol=0)


def test_texts_that_say_nothing_leave_the_prior():
    scores = torch.full((3, 4), -123.0)
    torch.testing.assert_close(
        posterior(scores, EMPIRICAL).exp(), EMPIRICAL.exp().double().expand(3, 4)
    )
    torch.testing.assert_close(
        marginal(scores, EMPIRICAL), torch.full((3,), -123.0).double(), atol=1e-6, rtol=0
    )


def test_marginal_sums_to_one_over_all_texts():
    """Two codes, texts of three letters: Σ_x Σ_c p(c) p(x|c) = 1."""
    letters = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).double().log()
    texts = torch.cartesian_prod(*[torch.arange(3)] * 3)
    scores = letters[:, texts].sum(-1).T  # [27 2]
    total = marginal(scores, torch.tensor([0.25, 0.75]).log()).exp().sum().item()
    assert total == pytest.approx(1)


def test_errors_by_hand():
    """Bins of 0.5: two texts at .25/.45 of which one is right, two at .8/.9, both right."""
    best = torch.tensor([0.45, 0.25 + 0.2, 0.8, 0.9]).double()
    rest = (1 - best) / 3
    log_posterior = torch.stack([best, rest, rest, rest], dim=1).log()
    truth = torch.tensor([0, 2, 0, 0])
    found = expected_calibration_error(log_posterior, truth, bins=2)
    assert found.value == pytest.approx((abs(1 - 0.9) + abs(2 - 1.7)) / 4)
    bins = reliability(log_posterior, truth, bins=2)
    assert bins.count.tolist() == [2, 2]
    assert bins.accuracy.tolist() == [0.5, 1.0]
    assert bins.confidence.tolist() == pytest.approx([0.45, 0.85])


@given(st.integers(1, 20), st.integers(1, 60))
def test_bins_add_up(bins, count):
    log_posterior, truth = drawn(count)
    found = reliability(log_posterior, truth, bins)
    weight, filled = found.count / count, found.count > 0
    gap = (weight * (found.accuracy - found.confidence).abs())[filled].sum().item()
    assert expected_calibration_error(log_posterior, truth, bins).value == pytest.approx(gap)
    accuracy = (log_posterior.argmax(-1) == truth).double().mean().item()
    assert (weight * found.accuracy)[filled].sum().item() == pytest.approx(accuracy)
    assert found.count.sum() == count


def test_a_sure_posterior_falls_into_the_last_bin():
    certain = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])
    assert reliability(certain, torch.tensor([0, 1]), 10).count.tolist() == [0] * 9 + [2]
    assert expected_calibration_error(certain, torch.tensor([0, 1])).value == 0
    assert expected_calibration_error(certain, torch.tensor([1, 0])).value == 1
    assert brier_score(certain, torch.tensor([1, 0])).value == 2


def test_a_calibrated_posterior_is_found_so_and_an_overconfident_one_not():
    log_posterior, truth = drawn(5000)
    found, chance = (
        expected_calibration_error(log_posterior, truth),
        calibrated_error(log_posterior),
    )
    assert abs(found.value - chance.value) < 3 * chance.standard_error
    sharp, truth = drawn(5000, sharpness=2.0)
    over, chance = expected_calibration_error(sharp, truth), calibrated_error(sharp)
    assert over.value > chance.value + 20 * chance.standard_error
    assert over.value > found.value + 10 * math.hypot(over.standard_error, found.standard_error)
    filled = (bins := reliability(sharp, truth)).count > 100
    assert (bins.accuracy < bins.confidence)[filled].all()


def markov_texts(codes, length):
    """A text of each of these sources, and its log p(x|c) under all four: exact."""
    generator = torch.Generator().manual_seed(2)
    start = torch.rand(4, 24, generator=generator, dtype=torch.double)
    step = torch.rand(4, 24, 24, generator=generator, dtype=torch.double) ** 2
    start, step = start / start.sum(-1, keepdim=True), step / step.sum(-1, keepdim=True)
    letter = torch.multinomial(start[codes], 1, generator=generator).squeeze(1)
    scores = start[:, letter].log()
    for _ in range(length - 1):
        following = torch.multinomial(step[codes, letter], 1, generator=generator).squeeze(1)
        scores = scores + step[:, letter, following].log()
        letter = following
    return scores.T


def test_exact_attribution_is_calibrated_under_the_prior_that_made_the_texts():
    """Short texts of four Markov sources, equally many of each."""
    codes = torch.arange(4).repeat(1000)
    scores = markov_texts(codes, 3)
    found, wrong = (posterior(scores, prior) for prior in (UNIFORM, EMPIRICAL))
    chance = calibrated_error(found)
    error = expected_calibration_error(found, codes)
    assert abs(error.value - chance.value) < 3 * chance.standard_error
    chance = calibrated_error(wrong)
    error = expected_calibration_error(wrong, codes)
    assert error.value > chance.value + 9 * chance.standard_error


def test_errors_of_opposite_sign_cancel_in_a_bin_but_not_in_the_brier_score():
    """Two codes, 9 to 1: a posterior of 0.5 that names each for half of the texts."""
    truth = torch.arange(1000) % 10 // 9  # 0 nine times, then 1
    even = torch.tensor([[0.500001, 0.499999], [0.499999, 0.500001]]).log()
    blind = even.repeat_interleave(500, dim=0)
    right = torch.tensor([[0.9, 0.1]]).log().expand(1000, 2)
    for log_posterior in (blind, right):
        assert expected_calibration_error(log_posterior, truth, bins=1).value < 1e-5
    assert brier_score(right, truth).value == pytest.approx(0.18)
    assert brier_score(blind, truth).value == pytest.approx(0.5, abs=1e-4)


def test_an_empirical_prior_draws_balanced_texts_to_the_large_code():
    """As the paper found, and took a uniform one."""
    codes = torch.arange(4).repeat(1000)
    scores = markov_texts(codes, 3)
    uniform, empirical = (posterior(scores, prior).argmax(-1) for prior in (UNIFORM, EMPIRICAL))
    assert (uniform == codes).double().mean() > (empirical == codes).double().mean() + 0.1
    assert (empirical == 0).double().mean() > 0.5 > 0.3 > (uniform == 0).double().mean()
    long = posterior(markov_texts(codes, 40), UNIFORM).argmax(-1)
    assert (long == codes).double().mean() > 0.98


def test_the_standard_error_is_that_of_repeated_data():
    """ECE of an overconfident posterior over 100 disjoint data sets of 400 texts."""
    log_posterior, truth = drawn(40_000, sharpness=3.0)
    parts = [
        expected_calibration_error(*part)
        for part in zip(log_posterior.split(400), truth.split(400), strict=True)
    ]
    spread = np.std([part.value for part in parts], ddof=1)
    told = np.mean([part.standard_error for part in parts])
    assert 0.75 < told / spread < 1.33  # the spread of 100 is known to 7 %


def test_brier_score_of_a_calibrated_posterior_is_its_own_expectation():
    """E Σ_c (p_c − [c = y])² = 1 − Σ_c p_c² where y is drawn from p."""
    log_posterior, truth = drawn(5000)
    found = brier_score(log_posterior, truth)
    expected = (1 - log_posterior.exp().square().sum(-1)).mean().item()
    assert found.value == pytest.approx(expected, abs=4 * found.standard_error)
    assert brier_score(*drawn(5000, sharpness=3.0)).value > found.value + 5 * found.standard_error


def test_the_same_numbers_again_and_none_from_one_text():
    log_posterior, truth = drawn(50)
    assert expected_calibration_error(log_posterior, truth) == (
        expected_calibration_error(log_posterior, truth)
    )
    assert expected_calibration_error(log_posterior[:1], truth[:1]).standard_error is None


def test_the_picture_follows_the_bins(tmp_path):
    pictures = []
    for name, sharpness in (("good", 1.0), ("sharp", 2.0), ("again", 1.0)):
        bins = reliability(*drawn(2000, sharpness))
        reliability_plot(bins, "attribution", tmp_path / f"{name}.png")
        pictures.append(imread(tmp_path / f"{name}.png"))
    assert np.array_equal(pictures[0], pictures[2])
    assert not np.array_equal(pictures[0], pictures[1])
