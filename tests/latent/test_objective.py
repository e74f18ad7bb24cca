"""Weights and floors on the KL: values, gradients, and that nothing else is touched."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from isthmus.latent.objective import (
    Objective,
    Terms,
    batch_mean_free_bits,
    clamp_free_bits,
    latent_threshold,
    mask_free_bits,
    total_threshold,
)
from isthmus.latent.schedule import Schedule

rows = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(0, 3), min_size=width, max_size=width), min_size=1, max_size=5
    )
)


def gradient(floor, kl, free_bits):
    leaf = kl.clone().requires_grad_()
    floor(leaf, free_bits).sum().backward()
    return leaf.grad


def test_mask_and_clamp_golden_values():
    kl = torch.tensor([[0.5, 0.153]])
    assert mask_free_bits(kl, 0.5).item() == 0
    assert clamp_free_bits(kl, 0.5).item() == 1
    assert mask_free_bits(kl, 0.1).item() == pytest.approx(0.653)


@settings(deadline=None)
@given(rows, st.floats(0.01, 2))
def test_mask_and_clamp_share_their_gradient_and_differ_by_the_masked(kl, free_bits):
    kl = torch.tensor(kl, dtype=torch.float64)
    assume(not (kl == free_bits).any())
    masked = (kl < free_bits).sum(1)
    difference = clamp_free_bits(kl, free_bits) - mask_free_bits(kl, free_bits)
    torch.testing.assert_close(difference, free_bits * masked.double())
    of_mask = gradient(mask_free_bits, kl, free_bits)
    assert torch.equal(of_mask, gradient(clamp_free_bits, kl, free_bits))
    assert torch.equal(of_mask, (kl > free_bits).double())
    assert (clamp_free_bits(kl, free_bits) >= kl.sum(1) - 1e-12).all()


@settings(deadline=None)
@given(rows, st.floats(0.01, 2))
def test_batch_mean_floors_the_mean_of_the_batch(kl, free_bits):
    kl = torch.tensor(kl, dtype=torch.float64)
    means = kl.mean(0)
    assume(not (means == free_bits).any())
    expected = means.clamp_min(free_bits).sum()
    torch.testing.assert_close(batch_mean_free_bits(kl, free_bits).mean(), expected)
    torch.testing.assert_close(
        gradient(batch_mean_free_bits, kl, free_bits),
        (means > free_bits).double().expand_as(kl).contiguous(),
    )


def test_batch_mean_lets_single_examples_below_the_floor():
    kl = torch.tensor([[0.0, 0.1], [2.0, 0.1]])
    assert batch_mean_free_bits(kl, 0.5).tolist() == [0.5, 2.5]


def test_a_floor_for_each_latent_is_on_the_sum_of_its_dimensions():
    kl = torch.tensor([[[0.1, 0.2], [1.0, 2.0], [0.0, 0.0]], [[0.6, 0.1], [0.2, 0.2], [4.0, 0.0]]])
    assert latent_threshold(kl, 0.5).tolist() == pytest.approx([0.5 + 3.0 + 0.5, 0.7 + 0.5 + 4.0])
    moved = gradient(latent_threshold, kl, 0.5).tolist()
    assert moved == [[[0, 0], [1, 1], [0, 0]], [[1, 1], [0, 0], [1, 1]]]
    single = torch.tensor([[0.1, 0.2], [0.5, 2.0]])
    assert torch.equal(latent_threshold(single, 0.5), total_threshold(single, 0.5))


def test_total_is_a_floor_on_the_sum():
    kl = torch.tensor([[0.2, 0.2], [2.0, 0.5]])
    assert total_threshold(kl, 1.0).tolist() == pytest.approx([1.0, 2.5])
    assert gradient(total_threshold, kl, 1.0).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    "floor", [mask_free_bits, clamp_free_bits, batch_mean_free_bits, total_threshold]
)
def test_a_grid_of_latents_is_its_dimensions_unrolled(floor):
    kl = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(floor(kl, 0.4), floor(kl.flatten(1), 0.4))


def test_terms_are_what_they_say():
    terms = Terms(torch.tensor([3.0, 4.0]), torch.tensor([[1.0, 0.5], [0.0, 2.0]]))
    assert terms.kl_total.tolist() == [1.5, 2.0]
    assert terms.negative_elbo.tolist() == [4.5, 6.0]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("mask", [3 + 0.25 * 1.0, 4 + 0.25 * 2.0]),
        ("clamp", [3 + 0.25 * 1.6, 4 + 0.25 * 2.6]),
        ("batch-mean", [3 + 0.25 * 1.6, 4 + 0.25 * 2.6]),
        ("total", [3 + 0.25 * 1.5, 4 + 0.25 * 2.0]),
    ],
)
def test_loss_of_every_form(form, expected):
    terms = Terms(torch.tensor([3.0, 4.0]), torch.tensor([[1.0, 0.5], [2.0, 0.0]]))
    objective = Objective(Schedule.linear(0.5, ramp=1.0), 10, free_bits=0.6, form=form)
    loss = objective(terms, 5)  # β = 0.25
    assert loss.tolist() == pytest.approx(expected)
    # Whatever training floors and weighs, the terms remain those of the true bound.
    assert terms.negative_elbo.tolist() == [4.5, 6.0]


def test_without_free_bits_the_loss_is_the_weighted_bound():
    terms = Terms(torch.tensor([3.0]), torch.tensor([[1.0, 0.5]]))
    assert Objective(Schedule.constant(2.0), 10)(terms, 0).item() == 6.0
    assert Objective(Schedule.constant(), 10)(terms, 0).item() == terms.negative_elbo.item()


def test_at_beta_zero_the_kl_is_not_in_the_graph():
    reconstruction = torch.tensor([3.0], requires_grad=True)
    kl = torch.tensor([[math.inf]], requires_grad=True)  # 0 · ∞ would be NaN
    objective = Objective(Schedule.zero_ramp(), 100, free_bits=0.5, form="total")
    assert objective.beta(10) == 0
    loss = objective(Terms(reconstruction, kl), 10)
    loss.sum().backward()
    assert loss.item() == 3
    assert kl.grad is None
    assert reconstruction.grad.item() == 1


@pytest.mark.parametrize("form", ["mask", "clamp", "batch-mean"])
def test_free_bits_per_dimension_need_dimensions(form):
    undivided = Terms(torch.tensor([3.0]), torch.tensor([[1.0]]))
    with pytest.raises(ValueError, match="use form 'total'"):
        Objective(Schedule.constant(), 10, free_bits=0.5, form=form)(undivided, 0)
    assert Objective(Schedule.constant(), 10, 0.5, "total")(undivided, 0).item() == 4
    assert Objective(Schedule.constant(), 10, 0.0, form)(undivided, 0).item() == 4


@pytest.mark.parametrize("bad", [{"free_bits": -0.1}, {"free_bits": math.nan}, {"form": "soft"}])
def test_impossible_objectives_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        Objective(Schedule.constant(), 10, **bad)


def test_the_loss_of_a_label_by_hand():
    """One text with its label (−log p = 1.4), one without (KL = 0.2 nats)."""
    terms = Terms(
        reconstruction=torch.tensor([3.0, 4.0]),
        kl=torch.tensor([[1.0], [2.0]]),
        label=torch.tensor([1.4, 0.2]),
        extra={
            "classification": torch.tensor([0.7, 0.0]),
            "balance": torch.tensor([0.1, 0.1]),
        },
    )
    assert terms.negative_elbo.tolist() == pytest.approx([5.4, 6.2])
    half = Schedule.constant(0.5)
    weights = {"classification": 10.0, "balance": 2.0}
    loss = Objective(half, 10, weights=weights)(terms, 0)
    assert loss.tolist() == pytest.approx([3 + 0.5 * 2.4 + 7 + 0.2, 4 + 0.5 * 2.2 + 0.2])
    held = Objective(half, 10, label_nats=0.9, weights=weights)(terms, 0)
    assert held.tolist() == pytest.approx([3 + 0.5 * 1.5 + 7 + 0.2, 4 + 0.5 * 2.7 + 0.2])
    # β = 0 charges neither z nor y; the classifier still learns.
    free = Objective(Schedule.constant(0.0), 10, weights=weights)(terms, 0)
    assert free.tolist() == pytest.approx([10.2, 4.2])


@pytest.mark.parametrize(("nats", "gradient"), [(0.0, 1.0), (0.1, 1.0), (0.3, -1.0)])
def test_a_label_is_held_at_its_nats(nats, gradient):
    label = torch.tensor([0.2], requires_grad=True)
    terms = Terms(torch.ones(1), torch.ones(1, 1), label)
    Objective(Schedule.constant(), 10, label_nats=nats)(terms, 0).sum().backward()
    assert label.grad.item() == gradient


@pytest.mark.parametrize(
    ("name", "bad"), [("label_nats", {"label_nats": -1.0}), ("toy", {"weights": {"toy": -1.0}})]
)
def test_negative_weights_are_refused(name, bad):
    with pytest.raises(ValueError, match=f"{name} must be a number ≥ 0, got -1"):
        Objective(Schedule.constant(), 10, **bad)


def test_a_share_has_its_weight_in_all_and_an_extra_term_is_added():
    terms = Terms(
        torch.tensor([5.0]),
        torch.tensor([[1.0]]),
        shares={"half": torch.tensor([2.0])},
        extra={"toy": torch.tensor([0.5])},
    )
    assert terms.named.keys() == {"half", "toy"}
    assert terms.negative_elbo.item() == 6
    weights = {"half": 4.0, "toy": 10.0, "absent": 3.0}
    assert Objective(Schedule.constant(), 10, weights=weights)(terms, 0).item() == 6 + 6 + 5


def test_a_term_without_a_weight_is_refused():
    terms = Terms(torch.ones(1), torch.ones(1, 1), extra={"toy": torch.ones(1)})
    with pytest.raises(ValueError, match="toy has none"):
        Objective(Schedule.constant(), 10)(terms, 0)
