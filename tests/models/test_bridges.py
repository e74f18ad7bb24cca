"""Bridges: one table names them, and what does not go together is refused in one line."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import DynamicCache

from isthmus.errors import IsthmusError
from isthmus.models.bridges import BRIDGES, Bridge, LinearBridge, build_bridge
from isthmus.models.conditioning import Conditioning, DecoderShape
from isthmus.settings import choices
from tiny import TEXTS, make

SHAPE = DecoderShape(
    5, ((2, 3), (1, 4)), context_size=6, state_size=7, input_size=8, output_size=9, layers=2
)


class Scaled(LinearBridge):
    """Adds a scaled vector to every token embedding."""

    field = "embedding"


def test_every_bridge_fills_a_field_of_its_own_and_is_in_the_help():
    filled = []
    for name in BRIDGES:
        given = build_bridge(name, 2, 4, SHAPE, 3)(torch.randn(6, 2, 4))
        filled += [field for field, value in vars(given).items() if value is not None]
        doubled = given.repeat(2)
        value = getattr(doubled, filled[-1])
        rows = value[0] if isinstance(value, tuple) else value
        assert len(rows) == 12
        assert torch.equal(rows[0], rows[1])
    assert len(set(filled)) == len(filled) == len(BRIDGES)
    summaries = choices.summaries("isthmus.models.bridges", "BRIDGES")
    assert summaries.keys() == BRIDGES.keys()
    assert all(summaries.values())


def test_bridges_that_fill_the_same_field_are_refused(monkeypatch):
    monkeypatch.setitem(BRIDGES, "scaled", Scaled)
    combined = build_bridge("embedding+memory+scaled", 1, 4, SHAPE)
    with pytest.raises(
        IsthmusError, match=r"bridge: embedding and scaled both set the embedding .* leave out one"
    ):
        combined(torch.zeros(1, 1, 4))


@torch.no_grad()
def test_every_layer_reads_its_own_slots_as_keys_and_as_values():
    """The stock model over a cache of its own that holds them before the text."""
    model = make("gpt2", "memory")
    given = model.conditioning(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
    given = replace(given, memory=tuple(100 * slots for slots in given.memory))
    ids = torch.tensor([[1, 5, 6, 7], [1, 7, 5, 5]])
    cache = DynamicCache()
    for layer, slots in enumerate(given.memory):
        cache.update(slots, slots, layer)
    stock = model.decoder.model(input_ids=ids, past_key_values=cache).logits
    ours = model.decoder.logits(model.decoder.hidden(given, ids))
    torch.testing.assert_close(ours, stock)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("memory+memory", "got 'memory\\+memory', which repeats memory; name it once"),
        ("memory+memroy", "got 'memroy', expected memory, embedding, .*, or several joined by"),
        ("", "got '', expected memory"),
    ],
)
def test_names_that_are_no_bridges_are_refused(name, message):
    with pytest.raises(IsthmusError, match=message) as caught:
        build_bridge(name, 1, 4, SHAPE)
    assert "\n" not in str(caught.value)


def test_a_new_bridge_is_a_class_and_a_line_of_the_table(monkeypatch):
    class Toy(Bridge):
        """Adds z, repeated to the width of the embeddings."""

        def __init__(self, latents, latent_size, decoder, length):
            super().__init__(latents, latent_size, decoder, length)
            self.width = decoder.embedding_size
            self.gain = nn.Parameter(torch.ones(1, 1))

        def forward(self, z):
            flat = z.flatten(1)
            times = -(-self.width // flat.shape[1])
            return Conditioning(embedding=self.gain * flat.repeat(1, times)[:, : self.width])

    monkeypatch.setitem(BRIDGES, "toy", Toy)
    for name in ("toy", "memory+toy"):
        model = make("gpt2", name)
        batch = model.codec.prepare(TEXTS).collate(range(len(TEXTS)))
        z = torch.stack([torch.zeros(len(TEXTS), 3), torch.randn(len(TEXTS), 3)])
        near, far = model.reconstruction(z, batch)
        assert ((far - near).abs() > 1e-3).all(), "the decoder does not read z"
        assert len(model.decode(z[0])) == len(TEXTS)
