"""Quiet slots: attention goes by them if its queries have a direction in common."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from isthmus.models.slots import QuietSlots

HEADS, GROUP, SIZE, SLOTS = 2, 3, 16, 5


def attended(seed, count=8, length=20):
    """Queries [N HG T d] around a direction of each head, keys and values behind empty slots."""
    once = torch.Generator().manual_seed(0)
    of_head = 2 * torch.randn(HEADS, 1, 1, SIZE, generator=once)
    draw = torch.Generator().manual_seed(seed)
    query = torch.randn(count, HEADS, GROUP, length, SIZE, generator=draw) + of_head
    key, value = torch.randn(2, count, HEADS, length, SIZE, generator=draw)
    key[:, :, :1] += 0.5 * of_head[:, 0]  # the first token is what they find
    return query.flatten(1, 2), *(pad(each, (0, 0, SLOTS, 0)) for each in (key, value))


def causal(length=20):
    text = torch.ones(length, length, dtype=torch.bool).tril()
    return pad(text, (SLOTS, 0), value=True)


def by_hand(query, key, value, mask):
    """What all slots take of each query's attention [N HG T], and the output [N HG T d]."""
    key, value = (each.repeat_interleave(GROUP, 1) for each in (key, value))
    logits = query @ key.mT / SIZE**0.5
    weights = logits.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights[..., :SLOTS].sum(-1), weights @ value


def quieted(query, key, value, read, change, **options):
    """Attention inside the block, and the row that was found."""
    with QuietSlots([(HEADS, SIZE)], SLOTS, change, read) as slots:
        out = scaled_dot_product_attention(query, key, value, enable_gqa=True, **options)
    return out, slots.row


def placed(values, row):
    """Keys or values with a row in all slots."""
    slots = row.view(1, HEADS, 1, SIZE).expand(len(values), -1, SLOTS, -1)
    return torch.cat([slots, values[:, :, SLOTS:]], 2)


@pytest.mark.parametrize("change", [1e-2, 1e-4])
def test_slots_change_as_much_as_they_may(change):
    query, key, value = attended(1)
    mask = causal()
    out, row = quieted(query, key, value, torch.ones(8, 20) > 0, change, attn_mask=mask)
    changes, shares = {}, {}
    for seed in (1, 2):  # the queries that set the slots, and others
        fresh, keys, values = attended(seed)
        _, own = by_hand(fresh, keys, values, mask & (torch.arange(SLOTS + 20) >= SLOTS))
        shares[seed], found = by_hand(fresh, placed(keys, row), placed(values, row), mask)
        changes[seed] = ((found - own).square().mean() / own.square().mean()).item()
        if seed == 1:
            torch.testing.assert_close(out, found, atol=1e-5, rtol=1e-4)
    assert 0.1 * change < changes[1] < change
    assert changes[2] < 3 * change
    assert shares[1].mean() > 0.1 * change**0.5  # z is heard


def test_padding_and_the_scale_are_heeded():
    query, key, value = attended(3)
    read, mask = torch.arange(20).expand(8, -1) < 15, causal()
    _, row = quieted(query, key, value, read, 1e-3, attn_mask=mask)
    query[:, :, 15:] *= -9
    _, again = quieted(query, key, value, read, 1e-3, attn_mask=mask)
    torch.testing.assert_close(again, row)
    times = SIZE**0.5
    _, scaled = quieted(query * times, key, value, read, 1e-3, attn_mask=mask, scale=1 / SIZE)
    torch.testing.assert_close(scaled, row, atol=1e-3, rtol=1e-3)


def test_attention_of_another_shape_is_left_alone():
    """Cross-attention, and layers beyond those of the cache."""
    query, key, value = attended(4)
    fewer, options = (key[:, :, 1:], value[:, :, 1:]), {"attn_mask": causal(), "enable_gqa": True}
    with QuietSlots([(HEADS, SIZE)] * 2, SLOTS, 1e-3, torch.ones(8, 20) > 0) as slots:
        other = scaled_dot_product_attention(query, *fewer, enable_gqa=True)
        scaled_dot_product_attention(query, key, value, **options)
        assert slots.row is None  # one of two layers
        scaled_dot_product_attention(query, key, value, **options)
    assert torch.equal(other, scaled_dot_product_attention(query, *fewer, enable_gqa=True))
    assert slots.row.shape == (2 * HEADS * SIZE,)
