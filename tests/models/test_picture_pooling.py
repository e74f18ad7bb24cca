"""Stochastic pooling and unpooling: which places are drawn, how often, and their gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from isthmus.models.pictures.pooling import (
    TEMPERATURE,
    StochasticPool,
    StochasticUnpool,
    blocks,
    places,
    unblocked,
)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)


def loud(layer: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_()
    return layer.double()


@pytest.mark.parametrize("size", [2, 3])
def test_blocks_are_those_of_a_loop_and_are_undone(size):
    x = noise(2, 3, 4, 5)
    found = blocks(x, size)
    height, width = -(-4 // size), -(-5 // size)
    assert found.shape == (size**2, 2, 3, height, width)
    for i in range(height):
        for j in range(width):
            part = x[..., i * size : (i + 1) * size, j * size : (j + 1) * size]
            whole = torch.zeros(2, 3, size, size).double()
            whole[..., : part.shape[-2], : part.shape[-1]] = part
            assert torch.equal(found[..., i, j], whole.flatten(-2).movedim(-1, 0))
    back = unblocked(found, size)
    assert torch.equal(back[..., :4, :5], x)
    assert (back != 0).sum() == x.numel()


def test_the_expected_pool_is_that_of_all_places_enumerated():
    x, layer = noise(1, 1, 2, 2), loud(StochasticPool(2)).eval()
    probability = layer.logits(x.view(4, 1)).flatten().softmax(0)
    by_hand = sum(probability[i] * x.flatten()[i] for i in range(4))
    torch.testing.assert_close(layer(x).squeeze(), by_hand)


def test_the_expected_unpool_is_that_of_all_places_enumerated():
    x, layer = noise(1, 3, 1, 1), loud(StochasticUnpool(3, 2, 2, 2)).eval()
    probability = layer.logits(x).view(4, 3).softmax(0).T
    by_hand = torch.zeros(3, 4).double()
    for i in range(4):  # a drawn place holds the whole value, the others nothing
        by_hand[:, i] += probability[:, i] * x.flatten()
    torch.testing.assert_close(layer(x), by_hand.view(1, 3, 2, 2))


@pytest.mark.parametrize("kind", ["pool", "unpool"])
def test_places_are_drawn_with_their_probability(kind):
    torch.manual_seed(1)
    count = 4000
    logits = torch.tensor([0.3, -1.0, 1.1, 0.0])
    drawn = places(logits.unsqueeze(1).expand(4, count), training=True).T
    if kind == "unpool":  # through the layer: where the value 1 comes to stand
        layer = StochasticUnpool(1, 2, 2, 2).train()
        with torch.no_grad():
            layer.logits.weight.zero_()
            layer.logits.bias.copy_(logits)
        drawn = layer(torch.ones(count, 1, 1, 1)).flatten(1)
    expected = count * logits.softmax(-1)
    squares = ((drawn.sum(0) - expected).square() / expected).sum()
    assert squares < 16.3  # χ² of 3 degrees of freedom, p = 0.001


def test_unpooling_puts_exactly_one_value_into_a_block():
    x = noise(4, 3, 3, 2)
    layer = loud(StochasticUnpool(3, 6, 4, 2)).train()
    parts = blocks(layer(x), 2)
    assert ((parts != 0).sum(0) == 1).all()
    torch.testing.assert_close(parts.sum(0), x)
    cut = StochasticUnpool(3, 5, 3, 2).double().train()(x)
    assert cut.shape == (4, 3, 5, 3)


def test_pooling_keeps_one_value_of_a_block_and_unpooling_there_restores_it():
    x, layer = noise(4, 3, 6, 4), loud(StochasticPool(2)).train()
    kept = layer(x)
    assert torch.isclose(blocks(x, 2), kept).any(0).all()
    drawn = places(noise(4, 4, 3, 3, 2), training=True)
    back = unblocked(drawn * (drawn * blocks(x, 2)).sum(0), 2)
    chosen = unblocked(drawn, 2).round() == 1
    torch.testing.assert_close(back, torch.where(chosen, x, torch.zeros_like(x)))
    assert (chosen.sum() * 4) == x.numel()


@pytest.mark.parametrize("kind", ["pool", "unpool"])
def test_gradients_outside_of_training_are_those_of_differences(kind):
    layer = loud(StochasticPool(2) if kind == "pool" else StochasticUnpool(2, 3, 5, 2)).eval()
    x = noise(2, 2, 3, 5) if kind == "pool" else noise(2, 2, 2, 3)
    weights = list(layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x.requires_grad_(), *weights))


def test_a_draw_has_the_gradient_of_its_relaxed_one():
    logits, weight = noise(4, 5).requires_grad_(), noise(4, 5)
    torch.manual_seed(3)
    [ours] = torch.autograd.grad((places(logits, training=True) * weight).sum(), logits)
    torch.manual_seed(3)
    gumbel = -(-torch.rand_like(logits).log()).log()
    relaxed = ((logits + gumbel) / TEMPERATURE).softmax(0)
    [theirs] = torch.autograd.grad((relaxed * weight).sum(), logits)
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().min() > 0
