"""A decoder that cannot be trusted is refused when a model is built, in one line."""

from __future__ import annotations

import functools

import pytest
import torch
from transformers import BertModel, GPT2Model

from isthmus.errors import IsthmusError
from isthmus.models.build import build
from isthmus.models.checks import check_encoder, check_reading
from isthmus.models.generation import Generation
from tiny import LABELS, MAXIMUM_LENGTH, TEXT_SYSTEMS, TEXTS, make, settings, system


def refusal(*arguments: str, **options) -> str:
    with pytest.raises(IsthmusError) as caught:
        build(settings(*arguments, **options), TEXTS, LABELS)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("name", ["gpt2-prefix+memory", "t5-all", "bart-memory+cross", "lstm"])
def test_every_kind_of_cache_passes(name, fresh):
    check_reading(system(name), MAXIMUM_LENGTH, fresh)


def test_a_decoder_that_looks_ahead():
    line = refusal("bert-generation", "embedding")
    assert "looks ahead: its predictions change by up to 0." in line
    assert "use --model.decoder.options.is-decoder" in line
    build(settings("bert-generation", "embedding", is_decoder=True), TEXTS)
    assert "looks ahead" in refusal("bert-generation", kind="language-model")


@pytest.mark.parametrize(
    ("bridge", "lost"), [("memory", True), ("prefix", True), ("embedding", False)]
)
def test_a_window_that_leaves_the_latent_behind(bridge, lost):
    """Two layers that look back on 4 tokens reach 7: the slot of z and 6 tokens."""
    if not lost:
        build(settings("mistral", bridge, sliding_window=4), TEXTS)
        return
    line = refusal("mistral", bridge, sliding_window=4)
    assert f"out of sight after 6 tokens, and texts have up to {MAXIMUM_LENGTH}" in line
    build(settings("mistral", bridge, sliding_window=8), TEXTS)


def planted(monkeypatch, change) -> None:
    """GPT-2 with a fault in what it is given after the first tokens."""
    sound = GPT2Model.forward

    @functools.wraps(sound)
    def forward(self, *arguments, **given):
        return sound(self, *arguments, **change(given))

    monkeypatch.setattr(GPT2Model, "forward", forward)


def without_cache(given):
    return {name: value for name, value in given.items() if name != "past_key_values"}


def without_positions(given):
    """Every token after the first ones is the first one again."""
    embedded = given.get("inputs_embeds")
    if embedded is not None and embedded.shape[1] == 1:
        return given | {"position_ids": torch.zeros(1, 1, dtype=torch.long)}
    return given


BY_TOKEN = "token by token it predicts otherwise than on the whole text"


@pytest.mark.parametrize(
    ("fault", "bridge", "line"),
    [
        (without_cache, "embedding", BY_TOKEN),
        (without_cache, "memory+embedding", "gpt2 ignores the memory that the bridge gives it"),
        (without_positions, "embedding", BY_TOKEN),
        (without_positions, "memory+embedding", BY_TOKEN),
    ],
)
def test_a_cache_that_is_not_what_it_seems(monkeypatch, fault, bridge, line):
    model = system(f"gpt2-{bridge}")
    check_reading(model, MAXIMUM_LENGTH, fresh=True)
    planted(monkeypatch, fault)
    for fresh in (True, False):
        with pytest.raises(IsthmusError, match=line):
            check_reading(model, MAXIMUM_LENGTH, fresh)


@pytest.mark.parametrize("name", ["openai-gpt", "mamba", "rwkv"])
def test_a_decoder_without_a_cache_writes_what_it_predicts(name):
    """transformers' forward swallows the cache; Isthmus reads the whole text for every token."""
    model = make(name, "prefix+embedding")
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    given, special = model.conditioning(z), model.decoder.special
    ids = torch.full((5, 1), special.start)
    with torch.no_grad():
        for _ in range(6):
            last = model.decoder.logits(model.decoder.hidden(given, ids)[:, -1])
            ids = torch.cat([ids, last.argmax(-1, keepdim=True)], dim=1)
    rows = [[*row[1:], special.end] for row in ids.tolist()]
    whole = [row[: row.index(special.end)] for row in rows]
    assert len({tuple(row) for row in whole}) > 1
    assert model.decoder.generate(given, 5, Generation(max_new_tokens=6)) == whole
    assert len(model.decoder.generate(given, 5, Generation(max_new_tokens=6, beams=2))) == 5


def test_an_encoder_that_reads_padding(monkeypatch):
    encoder = system("gpt2-memory").encoder
    check_encoder(encoder, pad=0, fresh=True)
    sound = BertModel.forward
    monkeypatch.setattr(
        BertModel, "forward", lambda self, attention_mask=None, **given: sound(self, **given)
    )
    for fresh in (True, False):
        with pytest.raises(IsthmusError, match="bert lets the padding of a batch change"):
            check_encoder(encoder, 0, fresh)


@pytest.mark.parametrize("name", ["fnet", "convbert"])
def test_encoders_of_transformers_that_read_padding(name):
    """FNet mixes all positions by a Fourier transform, ConvBERT neighbours by a convolution."""
    assert f"transformers' {name} lets the padding of a batch change" in refusal(encoder=name)


def test_an_encoder_may_read_padding_that_it_knows():
    """MobileBERT joins the embeddings of neighbours, and that of the pad token is zero."""
    build(settings(encoder="mobilebert"), TEXTS)


@pytest.mark.parametrize(
    ("part", "name", "line"),
    [
        ("decoder", "falcon", "architecture: falcon cannot have these sizes and options"),
        ("decoder", "gptj", "decoder: transformers' gptj cannot be run as one"),
        ("decoder", "fsmt", "decoder: transformers cannot build a fsmt of this size"),
        ("decoder", "prophetnet", "ProphetNetForConditionalGeneration changes its logits in a"),
        ("decoder", "gemma3", "use that of its texts, gemma3_text"),
        ("encoder", "funnel", "architecture: funnel has num_hidden_layers 12 whatever is asked"),
    ],
)
def test_what_transformers_cannot_do_is_one_line(part, name, line):
    assert line in (refusal(name) if part == "decoder" else refusal(encoder=name))


def test_the_trials_leave_the_generator_of_random_numbers_alone():
    model = TEXT_SYSTEMS["gpt2-memory"]()
    before = torch.get_rng_state()
    check_reading(model, MAXIMUM_LENGTH, fresh=True)
    check_encoder(model.encoder, pad=0, fresh=True)
    assert torch.equal(torch.get_rng_state(), before)
