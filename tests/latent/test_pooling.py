"""Padding has no part in a pooled vector, on whichever side it stands."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.latent.pooling import AttentionPool, first_pool, last_pool, max_pool, mean_pool

SIZE = 3


def attention_pool():
    pool = AttentionPool(SIZE)
    with torch.no_grad():
        pool.query.weight.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
    return pool


POOLS = {
    "mean": mean_pool,
    "max": max_pool,
    "first": first_pool,
    "last": last_pool,
    "attention": attention_pool(),
}


@pytest.mark.parametrize("name", POOLS)
@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    extra=st.integers(0, 3),
    seed=st.integers(0, 2**20),
)
def test_padding_on_either_side_changes_nothing(name, lengths, extra, seed):
    generator = torch.Generator().manual_seed(seed)
    texts = [torch.randn(length, SIZE, generator=generator) - 3 for length in lengths]
    alone = torch.cat([POOLS[name](text[None], torch.ones(1, len(text))) for text in texts])
    longest = max(lengths) + extra
    for left in (True, False):
        # Large values in the padding: a leak cannot hide in a tolerance.
        hidden = torch.full((len(texts), longest, SIZE), 1e4)
        mask = torch.zeros(len(texts), longest, dtype=torch.int64)
        for row, text in enumerate(texts):
            place = slice(longest - len(text), None) if left else slice(len(text))
            hidden[row, place], mask[row, place] = text, 1
        torch.testing.assert_close(POOLS[name](hidden, mask), alone)


def test_known_values():
    hidden = torch.tensor([[[1.0, 0.0, 0.0], [3.0, -2.0, 0.0], [50.0, 50.0, 50.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert mean_pool(hidden, mask).tolist() == [[2.0, -1.0, 0.0]]
    assert max_pool(hidden, mask).tolist() == [[3.0, 0.0, 0.0]]
    assert first_pool(hidden, mask).tolist() == [[1.0, 0.0, 0.0]]
    assert first_pool(hidden, mask.flip(1)).tolist() == [[3.0, -2.0, 0.0]]
    weights = torch.tensor([0.5, 3.5]).softmax(0)  # scores w · h of the two tokens
    expected = weights[0] * hidden[0, 0] + weights[1] * hidden[0, 1]
    torch.testing.assert_close(attention_pool()(hidden, mask)[0], expected)


def test_attention_learns_from_real_tokens_only():
    pool = attention_pool()
    hidden = torch.randn(2, 4, SIZE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])
    pool(hidden, mask).square().sum().backward()
    assert (hidden.grad[mask == 0] == 0).all()
    assert (hidden.grad[mask == 1] != 0).all()
    assert pool.query.weight.grad.abs().sum() > 0
