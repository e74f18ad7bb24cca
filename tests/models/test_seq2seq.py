"""T5 and BART: the slot of self-attention, pretrained halves, what is trained and what is not.

What holds for every system is in test_systems.py; here is what an injection into an
encoder–decoder model can get wrong (which check of T5-VAE it belongs to: test_t5_vae.py).
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from functools import cache, partial

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    DynamicCache,
    EncoderDecoderCache,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

import isthmus
from isthmus.models.bridges import MemoryBridge
from isthmus.models.build import build
from isthmus.models.conditioning import Conditioning
from isthmus.models.generation import Generation, SpecialTokens
from isthmus.models.stock import fresh_config
from isthmus.models.tuning import fixed_parts
from isthmus.runs import bundle
from isthmus.settings import DecoderSettings, EncoderSettings, StockSettings
from tiny import TEXTS, loud, make, settings

LAYERS = 3
BRIDGES = ["memory", "embedding", "prefix", "cross-attention", "memory+cross-attention"]
DECODERS = {"t5": {"num_decoder_layers": LAYERS}, "bart": {"decoder_layers": LAYERS}}


@cache
def deep(architecture: str, bridge: str):
    """A decoder of three layers, which no batch of 2 or 8 can be cut into; shared by tests."""
    return make(architecture, bridge, encoder=architecture, **DECODERS[architecture])


def layers_of(stack) -> torch.nn.ModuleList:
    return stack.block if hasattr(stack, "block") else stack.layers


def inside(model, z: Tensor, ids: Tensor) -> Tensor:
    """The output of every decoder layer, and the logits' hidden states last, [L+1 N T H]."""
    seen = []
    handles = [
        layer.register_forward_hook(
            lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
        for layer in layers_of(model.decoder.stack)
    ]
    try:
        last = model.decoder.hidden(model.conditioning(z), ids)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([hidden[:, -last.shape[1] :] for hidden in [*seen, last]])


def influence(model, count: int) -> Tensor:
    """Largest change of example i in layer l when the z of example j moves, [L+1 N N]."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, 3, generator=generator)
    ids = torch.tensor([[1, 5, 6, 7, 5]]).expand(count, 5)
    before = inside(model, z, ids)
    moved = []
    for j in range(count):
        other = z.clone()
        other[j] += 1.0
        moved.append((inside(model, other, ids) - before).abs().amax((2, 3)))
    return torch.stack(moved, dim=-1)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize("architecture", DECODERS)
def test_every_layer_of_an_example_sees_its_own_latent_and_no_other(architecture, bridge, count):
    model = deep(architecture, bridge)
    found = influence(model, count)
    assert len(found) == LAYERS + 1
    for layer in found:
        assert layer.diagonal().min() > 1e-5
        assert (layer - layer.diagonal().diag()).max() == 0


@torch.no_grad()
def test_latents_scrambled_across_the_batch_are_found(monkeypatch):
    """The defect of the code of Park & Lee, planted: [N L·d] read as [L N d]."""
    honest = MemoryBridge.forward

    def scrambled(self: MemoryBridge, z: Tensor) -> Conditioning:
        memory = honest(self, z).memory
        rows = torch.stack([slots.flatten(1) for slots in memory], dim=1)  # [N L ·]
        return Conditioning(memory=tuple(rows.reshape(len(memory), *memory[0].shape)))

    model = deep("t5", "memory")
    monkeypatch.setattr(MemoryBridge, "forward", scrambled)
    found = influence(model, 8)[0]
    assert (found - found.diagonal().diag()).max() > 1e-3
    assert influence(model, 1).min() > 1e-5, "alone, an example has nobody to be mixed with"


@torch.no_grad()
@pytest.mark.parametrize("architecture", DECODERS)
def test_token_by_token_is_one_pass_and_a_latent_can_be_used_again(architecture):
    model = deep(architecture, "memory+cross-attention")
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    ids = torch.randint(8, (4, 6), generator=torch.Generator().manual_seed(2))
    given = model.conditioning(z)
    whole = model.decoder.hidden(given, ids)
    assert torch.equal(model.decoder.hidden(given, ids), whole), "the first pass left a trace"
    stack = model.decoder.stack
    cache = EncoderDecoderCache(DynamicCache(config=stack.config), DynamicCache())
    for layer, slots in enumerate(given.memory):
        cache.self_attention_cache.update(slots, slots, layer)
    steps = []
    for t in range(ids.shape[1]):
        out = stack(
            input_ids=ids[:, t : t + 1],
            encoder_hidden_states=given.context,
            past_key_values=cache,
            use_cache=True,
        )
        steps.append(out.last_hidden_state)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("bridge", ["memory", "prefix", "memory+cross-attention"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_wide_beams_find_the_most_probable_text(architecture, bridge, monkeypatch):
    """Every text of three tokens by whole passes; no token ends one, so all compete."""
    model = deep(architecture, bridge)
    monkeypatch.setattr(model.decoder, "special", SpecialTokens(1, end=8, pad=0))
    z = 2 * torch.randn(3, 3, generator=torch.Generator().manual_seed(4))
    rows = torch.tensor(list(itertools.product(range(8), repeat=3)))
    ids = torch.cat([torch.ones(len(rows), 1, dtype=torch.long), rows[:, :-1]], dim=1)
    found = model.decoder.generate(
        model.conditioning(z), len(z), Generation(max_new_tokens=3, beams=64)
    )
    for latent, text in zip(z, found, strict=True):
        given = model.conditioning(latent.expand(len(rows), 3))
        nats = model.decoder.reconstruction(given, ids, rows)
        assert text == rows[nats.argmin()].tolist()


@torch.no_grad()
def test_sampled_tokens_follow_the_whole_pass():
    model = deep("t5", "memory")
    z = torch.randn(1, 3, generator=torch.Generator().manual_seed(5))
    start = torch.tensor([[model.decoder.special.start]])
    given = model.conditioning(z)
    first = model.decoder.logits(model.decoder.hidden(given, start))[0, -1].softmax(-1)
    count = 4000
    rows = model.decoder.generate(
        given.repeat(count), count, Generation(max_new_tokens=1, sample=True)
    )
    end = model.decoder.special.end
    seen = torch.bincount(torch.tensor([row[0] if row else end for row in rows]), minlength=8)
    error = (first * (1 - first) / count).sqrt()
    assert ((seen / count - first).abs() <= 4.5 * error + 1e-3).all()
    assert first.max() < 0.9


def test_heads_are_read_off_the_model_and_never_computed_from_its_width():
    """d_model / heads would be 8 here; the decoder is also deeper than the encoder."""
    plain = settings("t5", "memory", encoder="t5", d_kv=16, num_decoder_layers=LAYERS)
    size = {"hidden_size": 48, "heads": 6}
    parts = {
        role: dataclasses.replace(getattr(plain.model, role), **size)
        for role in ("encoder", "decoder")
    }
    model = build(
        dataclasses.replace(plain, model=dataclasses.replace(plain.model, **parts)), TEXTS
    )
    assert model.decoder.shape().cache == ((6, 16),) * LAYERS
    memory = model.conditioning(torch.zeros(2, 3)).memory
    assert [tuple(slots.shape) for slots in memory] == [(2, 6, 2, 16)] * LAYERS
    texts = model.eval().decode(torch.randn(2, 3), Generation(max_new_tokens=4))
    assert len(texts) == 2


@torch.no_grad()
def test_a_decoder_deeper_than_its_encoder_generates_over_a_context():
    """transformers' own generation counts the layers of the encoder for T5."""
    model = make("t5", "cross-attention", encoder="t5", num_decoder_layers=4)
    z = 2 * torch.randn(4, 3, generator=torch.Generator().manual_seed(6))
    given = model.conditioning(z)
    rows = model.decoder.generate(given, 4, Generation(max_new_tokens=3))
    ids = torch.full((4, 1), model.decoder.special.start)
    best = model.decoder.logits(model.decoder.hidden(given, ids))[:, -1].argmax(-1)
    end = model.decoder.special.end
    assert [row[0] if row else end for row in rows] == best.tolist()


def step(model, learning_rate: float = 0.1) -> None:
    examples = model.codec.prepare(TEXTS)
    batch = examples.collate(range(len(TEXTS)), noise_shape=model.latent_shape)
    # Weight decay too: it moves what has a gradient of zero, and must not move what is fixed.
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.1)
    output = model(**batch)
    (output.reconstruction.sum() + output.kl.sum()).backward()
    optimiser.step()


@pytest.mark.parametrize(
    ("architecture", "bridge"),
    [("t5", "cross-attention"), ("bart", "memory"), ("gpt2", "memory+embedding")],
)
def test_with_the_decoder_fixed_the_encoder_and_the_bridge_learn(architecture, bridge):
    model = make(architecture, bridge, encoder="t5", dropout=0.5).train()
    model.config.decoder_tuning = "frozen"
    model.freeze()
    assert fixed_parts(model) == ["decoder"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    step(model)
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert not {name for name in moved if name.startswith("decoder.")}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained <= moved
    assert {name for name in trained if name.startswith("bridge.")}
    assert not model.decoder.model.training, "a fixed language model has no dropout"
    model.config.decoder_tuning = "full"
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    assert model.train().decoder.model.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model)
    now = model.state_dict()
    assert {n for n in now if n.startswith("decoder.") and not torch.equal(now[n], before[n])}


def test_idle_cross_attention_is_named_fixed_and_stays_so(tmp_path):
    t5, bart = copy.deepcopy(deep("t5", "memory")), deep("bart", "prefix")
    stack = "decoder.model.decoder"
    assert fixed_parts(t5) == [f"{stack}.block.{i}.layer.1" for i in range(LAYERS)]
    assert fixed_parts(bart) == [
        f"decoder.model.model.decoder.layers.{i}.{part}"
        for i in range(LAYERS)
        for part in ("encoder_attn", "encoder_attn_layer_norm")
    ]
    assert fixed_parts(deep("t5", "cross-attention")) == []
    idle = {name: p.clone() for name, p in t5.named_parameters() if not p.requires_grad}
    t5.train()
    step(t5)
    assert all(torch.equal(t5.get_parameter(name), value) for name, value in idle.items())
    bundle.save(t5, tmp_path, {"settings": {}, "data": {}, "metrics": {}})
    assert fixed_parts(isthmus.load(tmp_path)) == fixed_parts(t5)


def t5_tokenizer() -> T5Tokenizer:
    """As T5's is: an end and a pad token, and none to start a text."""
    pieces = ["<pad>", "</s>", "<unk>", "▁a", "▁b", "▁c", "▁"]
    return T5Tokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0)


def t5_folder(folder, **options) -> T5ForConditionalGeneration:
    config = T5Config(
        vocab_size=8, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=3,
        num_heads=2, dropout_rate=0.0, decoder_start_token_id=0, **options,
    )  # fmt: skip
    stock = loud(T5ForConditionalGeneration(config)).eval()
    stock.save_pretrained(folder)
    t5_tokenizer().save_pretrained(folder)
    return stock


def bart_folder(folder) -> BartForConditionalGeneration:
    config = BartConfig(
        vocab_size=8, d_model=16, encoder_layers=1, decoder_layers=3, encoder_ffn_dim=8,
        decoder_ffn_dim=8, encoder_attention_heads=2, decoder_attention_heads=2, dropout=0.0,
        max_position_embeddings=40, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=2,
    )  # fmt: skip
    stock = loud(BartForConditionalGeneration(config)).eval()
    stock.final_logits_bias.normal_()
    stock.save_pretrained(folder)
    make().codec.decoder_tokenizer.save_pretrained(folder)
    return stock


def folder_of(architecture: str, folder):
    """As transformers saves and loads it: Marian's positions are in no file."""
    part = StockSettings(architecture=architecture, layers=2, hidden_size=16, heads=4)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = fresh_config(part, 8, 40, special | {"decoder_start_token_id": 2})
    loud(AutoModelForSeq2SeqLM.from_config(config)).save_pretrained(folder)
    make().codec.decoder_tokenizer.save_pretrained(folder)
    return AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def from_folder(folder, bridge: str):
    plain = settings(bridge=bridge)
    model = dataclasses.replace(
        plain.model,
        encoder=EncoderSettings(source=str(folder), pooling="max"),
        decoder=DecoderSettings(source=str(folder)),
    )
    return build(dataclasses.replace(plain, model=model), TEXTS).eval()


STOCK = {
    "t5": t5_folder,
    "flan": lambda folder: t5_folder(
        folder, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ),
    "bart": bart_folder,
} | {
    name: partial(folder_of, name)
    for name in ("marian", "pegasus", "m2m_100", "switch_transformers", "umt5")
}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """Folders of stock models, as transformers saves them, and the models, by name."""
    root = tmp_path_factory.mktemp("stock")
    return {name: (root / name, make_it(root / name)) for name, make_it in STOCK.items()}


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "bridge"),
    [
        *itertools.product(["t5", "marian", "switch_transformers"], ["cross-attention", "memory"]),
        *((name, "memory") for name in ("flan", "bart", "pegasus", "m2m_100", "umt5")),
    ],
)
def test_one_source_gives_encoder_and_decoder(stock, tmp_path, name, bridge):
    folder, whole = stock[name]
    model = from_folder(folder, bridge)
    examples = model.codec.prepare(TEXTS)
    batch = examples.collate(range(len(TEXTS)))
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    encoded = whole.get_encoder()(**inputs)
    states = encoded.last_hidden_state
    own = model.encoder.model(**inputs).last_hidden_state
    torch.testing.assert_close(own, states, atol=1e-6, rtol=1e-6)
    # The decoder over the stock encoder's states is the stock model, output layer and all.
    ids = batch["decoder_input_ids"]
    ours = model.decoder.logits(model.decoder.hidden(Conditioning(context=states), ids))
    expected = whole(encoder_outputs=encoded, decoder_input_ids=ids).logits
    if name == "m2m_100":  # it gives padding no position of its own, and nothing reads it
        ours, expected = (logits[batch["targets"] >= 0] for logits in (ours, expected))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    # A saved run is the model that was saved.
    bundle.save(model, tmp_path, {"settings": {}, "data": {}, "metrics": {}})
    again = isthmus.load(tmp_path)
    assert torch.equal(again.terms(TEXTS).reconstruction, model.terms(TEXTS).reconstruction)
    z = model.encode(TEXTS).mean
    assert again.decode(z) == model.decode(z)


@pytest.mark.parametrize("name", ["marian", "pegasus"])
def test_sinusoids_are_not_trained(stock, name):
    """transformers loads them as weights that learn."""
    model = from_folder(stock[name][0], "cross-attention").train()
    found = [part for part in fixed_parts(model) if part.endswith("embed_positions")]
    assert len(found) == 2
    whole = stock[name][1].state_dict()
    step(model)
    for part in found:
        inside = "encoder" if part.startswith("encoder.") else "decoder"
        positions = whole[f"model.{inside}.embed_positions.weight"]
        assert torch.equal(model.get_submodule(part).weight, positions)


def test_texts_begin_as_the_decoder_was_taught(stock):
    """T5 has no start token: the decoder's is its pad, and its encoder reads none."""
    model = from_folder(stock["t5"][0], "cross-attention")
    a, b, c, end, pad = 3, 4, 5, 1, 0
    batch = model.codec.prepare(["a b c", "c"]).collate([0, 1])
    assert batch["input_ids"].tolist() == [[a, b, c, end], [c, end, pad, pad]]
    assert batch["decoder_input_ids"].tolist() == [[pad, a, b, c], [pad, c, pad, pad]]
    assert batch["targets"].tolist() == [[a, b, c, end], [c, end, -100, -100]]
    model = from_folder(stock["bart"][0], "cross-attention")
    batch = model.codec.prepare(["a"]).collate([0])
    start, end = 1, 2
    assert batch["input_ids"][0, [0, -1]].tolist() == [start, end]
    assert batch["decoder_input_ids"][0, 0] == end, "BART's decoder starts from the end token"
    assert batch["targets"][0, -1] == end
