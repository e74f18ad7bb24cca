"""Latents that stand for their own tokens: what they read, who reads them, the copying start."""

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.latent.pooling import QueryPool, block_pool, has_tokens
from isthmus.models.base import encode_examples
from isthmus.models.build import build
from isthmus.models.generation import Generation
from tiny import LABELS, TEXTS, make, settings

# 40 words, so that a guess is right once in 40 tokens.
WORDS = [f"w{number}" for number in range(40)]
LINES = [" ".join(WORDS[(7 * i + 3 * j) % 40] for j in range(1 + i % 9)) for i in range(60)]


def blocks(architecture="llama", bridge="aligned", **more):
    return make(architecture, bridge, pooling="blocks", latents=6, **more)


def test_a_latent_reads_the_tokens_of_its_block_and_nothing_else():
    hidden = torch.arange(2 * 6 * 2.0).view(2, 6, 2)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    rows = block_pool(hidden, mask, latents=4, length=2)
    assert rows[0].tolist() == [[2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 0, 0], [0, 0, 0, 0]]
    assert rows[1].tolist() == [[14, 15, 16, 17], *[[0, 0, 0, 0]] * 3]
    assert has_tokens(mask, 4, 2).tolist() == [[True, True, True, False], [True, *[False] * 3]]


def test_a_query_reads_the_hidden_state_that_it_points_to():
    pool = QueryPool(2, 3)
    with torch.no_grad():
        pool.queries.copy_(torch.eye(3)[:2] * 300)
    hidden = torch.eye(3).unsqueeze(0).repeat(2, 1, 1)
    mask = torch.tensor([[1, 1, 1], [0, 1, 1]])
    found = pool(hidden, mask)
    torch.testing.assert_close(found[0], torch.eye(3)[:2])
    assert found[1, 0, 0] == 0, "a query never reads padding"


@torch.no_grad()
def test_latents_beyond_the_end_of_a_text_cost_nothing_and_are_the_prior():
    model = blocks()
    posterior = encode_examples(model, model.read(["a b", "b b a c a b c a"]))
    kl = posterior.kl(model.prior).sum(-1)  # [N K]; 2 and 5 latents: the end is a token too
    assert (kl[0, :2] > 0).all()
    assert (kl[0, 2:] == 0).all()
    assert (kl[1, :5] > 0).all()
    assert kl[1, 5] == 0


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_decoder_reads_each_latent_first_where_it_stands(architecture):
    model = blocks(architecture)
    batch = model.codec.prepare(["b b a c a b c a"]).collate([0])
    z = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0))
    before = model.token_losses(z, None, batch)[0]
    for latent in range(4):
        other = z.clone()
        other[:, latent] += 1
        changed = (model.token_losses(other, None, batch)[0] - before).abs() > 1e-6
        assert not changed[: 2 * latent].any()
        assert changed[2 * latent]


@torch.no_grad()
def test_generation_reads_the_same_places_as_one_pass():
    model = blocks("gpt2")
    z = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(1))
    ids = torch.full((5, 1), model.config.decoder_start)
    for _ in range(11):
        hidden = model.decoder.hidden(model.conditioning(z), ids)
        ids = torch.cat([ids, model.decoder.logits(hidden[:, -1]).argmax(-1, keepdim=True)], 1)
    end = model.config.decoder_end
    rows = [row[: row.index(end)] if end in row else row for row in ids[:, 1:].tolist()]
    assert model.decode(z, Generation(max_new_tokens=11)) == model.codec.text(rows)


@torch.no_grad()
def test_a_fresh_model_copies_its_texts_before_any_training():
    recipe = settings("llama", "aligned", pooling="blocks", encoder="modernbert", latents=6)
    shares = {}
    for start in ("fresh", "copy"):
        model = build(_wide(recipe, start), LINES)
        examples = model.read(LINES)
        z = encode_examples(model, examples).mean
        batch = examples.collate(range(len(LINES)))
        hidden = model.decoder.hidden(model.conditioning(z), batch["decoder_input_ids"])
        wanted = batch["targets"] >= 0
        right = model.decoder.logits(hidden).argmax(-1)[wanted] == batch["targets"][wanted]
        shares[start] = right.double().mean().item()
    assert shares["fresh"] < 0.2
    assert shares["copy"] > 0.9


def _wide(recipe, start):
    """32 dimensions for two tokens, and a vocabulary that holds all words."""
    from dataclasses import replace

    model, data = recipe.model, recipe.data
    model = replace(model, latent_size=32, start=start)
    wide = {"hidden_size": 32}
    model = replace(
        model, encoder=replace(model.encoder, **wide), decoder=replace(model.decoder, **wide)
    )
    return replace(recipe, model=model, data=replace(data, vocabulary_size=60))


@pytest.mark.parametrize(
    "other",
    [
        {"pooling": "mean"},
        {"bridge": "memory", "pooling": "blocks"},
        {"pooling": "blocks", "output": "adaptive"},
    ],
)
def test_a_start_that_cannot_copy_is_refused_in_one_line(other):
    given = {"bridge": "aligned", "latents": 6, **other}
    with pytest.raises(
        IsthmusError, match=r"model\.start: got copy, expected .* aligned"
    ) as caught:
        build(settings("llama", start="copy", **given), TEXTS, LABELS)
    assert "\n" not in str(caught.value)


@torch.no_grad()
@pytest.mark.parametrize("texts", [5, 6])
def test_a_kl_in_one_column_is_charged_whole(texts):
    # 6 texts and 6 latents: shapes that would broadcast unseen.
    model = blocks(prior="mixture", latent_dropout=0.9)
    batch = model.codec.prepare(TEXTS[:texts]).collate(range(texts), noise_shape=(6, 4))
    plain = model(**batch)
    torch.manual_seed(0)
    hidden = model.train()(**batch)
    torch.testing.assert_close(hidden.kl, plain.kl)
    assert (hidden.reconstruction - plain.reconstruction).abs().max() > 1e-3


def test_hidden_latents_cost_nothing_and_only_in_training():
    model = blocks(latent_dropout=0.9)
    batch = model.codec.prepare(TEXTS).collate(range(len(TEXTS)), noise_shape=(6, 4))
    plain = model(**batch)
    model.train()
    torch.manual_seed(0)
    hidden = model(**batch)
    free = hidden.kl.sum(-1) == 0
    torch.testing.assert_close(hidden.kl[~free], plain.kl[~free])
    assert (plain.kl.sum(-1)[free] > 0).any(), "some latents with nats were hidden"
    assert (hidden.reconstruction - plain.reconstruction).abs().max() > 1e-3
    labelled = blocks(latent_dropout=0.9, labels="given").train()
    labelled_batch = labelled.codec.prepare(TEXTS, LABELS).collate(range(6), noise_shape=(6, 4))
    torch.manual_seed(0)
    hidden_there = labelled(**labelled_batch)
    labelled.config.latent_dropout = 0.0
    there = labelled(**labelled_batch)
    assert (hidden_there.reconstruction - there.reconstruction).abs().max() > 1e-3
    assert (hidden_there.kl.sum() < there.kl.sum()).item()
    model.config.latent_dropout = 0.0
    torch.testing.assert_close(model(**batch).reconstruction, plain.reconstruction)
