"""Losses in chunks: the same values and gradients as all at once, and no chunk computed twice."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.models.chunked import chunked

M, H, V = 11, 4, 7


def problem(bias: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_()

    targets = torch.randint(V, (M,), generator=draw)
    return leaf(M, H), targets, [leaf(V, H), *([leaf(V)] if bias else [])]


class Capped:
    """Logits that are capped, which no closed form of ours knows of."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters, self.rows = parameters, 0

    def __call__(self, states: Tensor) -> Tensor:
        self.rows += len(states)
        return 2 * torch.tanh(functional.linear(states, *self.parameters) / 2)

    def losses(self, states: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(self(states), targets, reduction="none")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("weights", ["equal", "of each row", "one is zero"])
@pytest.mark.parametrize("rows", [1, 3, 11, 50])
def test_value_and_gradients_are_those_of_all_at_once(rows: int, weights: str, bias: bool) -> None:
    states, targets, parameters = problem(bias)
    scale = {
        "equal": torch.full((M,), 0.25),
        "of each row": torch.linspace(-1, 2, M),
        "one is zero": (torch.arange(M) > 0).float(),
    }[weights].double()
    logits = Capped(parameters)
    whole = logits.losses(states, targets)
    expected = torch.autograd.grad(whole, [states, *parameters], scale)
    logits.rows = 0
    found = chunked(logits, states, targets, rows, parameters)
    torch.testing.assert_close(found, whole, atol=1e-12, rtol=0)
    for one, other in zip(
        torch.autograd.grad(found, [states, *parameters], scale), expected, strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    assert logits.rows == (M if weights == "equal" else 2 * M)


@pytest.mark.parametrize("frozen", ["the states", "the parameters"])
def test_what_is_frozen_has_no_gradient(frozen: str) -> None:
    states, targets, parameters = problem(bias=False)
    given = parameters if frozen == "the parameters" else [states]
    for tensor in given:
        tensor.requires_grad_(False)
    logits = Capped(parameters)
    weights = torch.linspace(-1, 2, M).double()
    (weights * chunked(logits, states, targets, 3, parameters)).sum().backward()
    gradients = [tensor.grad is None for tensor in (states, *parameters)]
    assert gradients == [frozen == "the states", frozen == "the parameters"]
    # Without parameters to train each row's gradient is scaled, and nothing is computed again.
    assert logits.rows == (2 * M if frozen == "the states" else M)


def test_nothing_is_kept_where_no_gradient_is_asked_for() -> None:
    states, targets, parameters = problem(bias=False)
    logits = Capped(parameters)
    with torch.no_grad():
        found = chunked(logits, states, targets, 3, parameters)
    assert not found.requires_grad
    torch.testing.assert_close(found, logits.losses(states, targets).detach(), atol=1e-12, rtol=0)


def test_a_target_that_is_all_but_certain_or_impossible_keeps_its_digits() -> None:
    targets = torch.tensor([0, 1, 0, 0])
    states = torch.tensor([[0.0, -16.0], [0.0, -16.0], [0.0, -300.0], [-300.0, 0.0]])
    states.requires_grad_()
    expected = functional.cross_entropy(states, targets, reduction="none")
    (slope,) = torch.autograd.grad(expected.sum(), states)
    found = chunked(lambda rows: rows * 1, states, targets, 3, [])
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), states)[0], slope, atol=1e-7, rtol=1e-6
    )
