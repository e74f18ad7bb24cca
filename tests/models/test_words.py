"""Fixed word vectors: what they are, that they stay, and what a word without examples gets."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from isthmus.data.captioned import Example
from isthmus.data.tokens import train_word_level
from isthmus.errors import IsthmusError
from isthmus.explore.vocabulary import add_words
from isthmus.models.base import LatentModel
from isthmus.models.build import build
from isthmus.models.words import word_states, words_of
from isthmus.runs import bundle
from isthmus.settings import PictureSettings, change_kind
from tiny import settings

TOLD = ["warm red", "cold blue", "a b", "c d", "e f", "g h", "i j"]
NEAR = {"crimson": "red", "azure": "blue"}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """A pretrained encoder to which crimson is nearly red, and azure nearly blue."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = train_word_level([*TOLD, *NEAR], 100)
    torch.manual_seed(0)
    encoder = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
        )
    )
    vectors, ids = encoder.get_input_embeddings().weight.data, tokenizer.get_vocab()
    vectors.normal_()
    for word, near in NEAR.items():
        vectors[ids[word]] = vectors[ids[near]] + 0.1 * torch.randn(24)
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def made(source: str, architecture: str = "gpt2", width: int = 8, **options) -> LatentModel:
    encoder = architecture if architecture in ("t5", "bart") else "bert"
    recipe = settings(architecture, encoder=encoder, **options)
    decoder = replace(recipe.model.decoder, word_vectors=source, hidden_size=width, heads=1)
    data = replace(recipe.data, vocabulary_size=100)
    return build(replace(recipe, model=replace(recipe.model, decoder=decoder), data=data), TOLD)


def trained(model: LatentModel, steps: int) -> LatentModel:
    """Fitted to TOLD."""
    examples = model.codec.prepare(TOLD)
    batch = examples.collate(range(len(TOLD)))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(steps):
        terms = model(**batch)
        (terms.reconstruction.sum() + 0.05 * terms.kl.sum()).backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def vectors_of(model: LatentModel) -> torch.Tensor:
    return model.decoder.stack.get_input_embeddings().weight


def nats(model: LatentModel, text: str) -> float:
    """−log p(text) of a language model."""
    batch = model.codec.prepare([text]).collate([0])
    return model.reconstruction(torch.zeros(1, 1, 0), batch).item()


def test_in_full_rank_distances_are_those_of_the_encoder(source):
    words = words_of(made(source).codec.decoder_tokenizer)
    own = vectors_of(made(source, width=len(words) - 1))[5:]
    torch.testing.assert_close(own.square().sum(1).mean(), torch.tensor(1.0))
    torch.testing.assert_close(own.mean(0), torch.zeros(len(words) - 1), atol=1e-5, rtol=0)
    distances, stock = torch.cdist(own, own), torch.cdist(*[word_states(source, words)] * 2)
    ratio = (distances / stock)[~torch.eye(len(words), dtype=torch.bool)]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "lstm", "t5", "bart"])
def test_training_leaves_them_as_they_are_at_both_ends(source, architecture):
    bridges = {"lstm": "state", "t5": "cross-attention", "bart": "cross-attention"}
    bridge = bridges.get(architecture, "memory+embedding")
    model = made(source, architecture, bridge=bridge)
    before = vectors_of(model).clone()
    trained(model, 3)
    assert torch.equal(vectors_of(model), before)
    output = model.decoder.model.get_output_embeddings()
    assert output.bias.abs().min() > 0  # frequencies are learned
    hidden = torch.randn(2, 8)
    torch.testing.assert_close(output(hidden), hidden @ before.T + output.bias)
    assert not any(p.shape == before.shape for p in model.decoder.model.parameters())


def test_a_word_without_examples_is_told_where_its_neighbour_is(source):
    model = trained(made(source, kind="language-model", bridge="start"), 40)
    assert add_words(model, ["crimson", "azure", "red"], source) == 2
    texts = ["warm red", "warm blue", "warm crimson", "warm azure", "cold crimson", "cold azure"]
    red, blue, crimson, azure, cold_crimson, cold_azure = (nats(model, text) for text in texts)
    assert red + 1 < blue  # what was told
    assert crimson + 1 < azure
    assert crimson < blue
    assert cold_azure + 1 < cold_crimson


def test_known_words_keep_their_odds_over_the_larger_vocabulary(source):
    model = trained(made(source), 20)
    hidden = torch.randn(3, 8)
    before = model.decoder.logits(hidden)
    words = words_of(model.codec.decoder_tokenizer)
    add_words(model, ["azure", "crimson"], source)
    assert words_of(model.codec.decoder_tokenizer) == [*words, "azure", "crimson"]
    after = model.decoder.logits(hidden)
    assert torch.equal(after[:, :-2], before)
    *_, typical, other = bias = model.decoder.model.get_output_embeddings().bias
    assert typical == other == bias[5:-2].mean()
    assert model.decode(torch.zeros(1, 3))  # the whole path from z to text knows of it
    assert add_words(model, ["azure"], source) == 0


def test_an_added_word_is_projected_as_the_known_words_were(source):
    model = made(source, width=6)
    states = word_states(source, [*words_of(model.codec.decoder_tokenizer), "azure"])
    add_words(model, ["azure"], source)
    own = vectors_of(model)[5:]
    centred = states - states[:-1].mean(0)
    *_, components = torch.linalg.svd(centred[:-1], full_matrices=False)
    expected = centred @ components[:6].T
    expected = expected / expected[:-1].square().sum(1).mean().sqrt()
    torch.testing.assert_close(own @ own.T, expected @ expected.T, atol=1e-4, rtol=1e-4)


def test_words_added_one_by_one_are_those_added_together(source):
    together, apart = made(source, width=6), made(source, width=6)
    add_words(together, ["azure", "crimson"], source)
    for word in ("azure", "crimson"):
        assert add_words(apart, [word], source) == 1
    torch.testing.assert_close(vectors_of(apart), vectors_of(together), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_larger_bart_is_saved_in_any_precision(source, tmp_path, dtype):
    model = made(source, "bart", bridge="cross-attention").to(dtype)
    add_words(model, ["azure"], source)
    assert vectors_of(model).dtype == dtype
    bundle.save(model, tmp_path / "run", {"settings": {}, "data": {}, "seed": 0, "metrics": {}})
    again = bundle.load(tmp_path / "run")
    assert again.decoder.logits(torch.zeros(1, 8, dtype=again.dtype)).shape[-1] == len(
        vectors_of(model)
    )
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name].to(dtype), value, msg=name)


def test_a_code_begins_at_the_vector_of_the_start_token(source):
    recipe = settings(kind="language-model", bridge="start", labels="given")
    decoder = replace(recipe.model.decoder, word_vectors=source, hidden_size=8, heads=1)
    data = replace(recipe.data, vocabulary_size=100)
    recipe = replace(recipe, model=replace(recipe.model, decoder=decoder), data=data)
    model = build(recipe, TOLD, ["up", "down"] * 3 + [None])
    start = vectors_of(model)[model.config.decoder_start]
    codes = model.bridge(torch.eye(model.labels.size).unsqueeze(1)).start
    assert (codes - start).norm(dim=-1).max() < 0.2 * start.norm()


@pytest.mark.parametrize("kind", ["text-vae", "language-model"])
def test_a_saved_run_needs_no_pretrained_encoder(source, tmp_path, kind):
    copied = tmp_path / "encoder"
    shutil.copytree(source, copied)
    bridge = "start" if kind == "language-model" else "memory+embedding"
    model = trained(made(str(copied), kind=kind, bridge=bridge), 3)
    add_words(model, ["azure"], str(copied))
    shutil.rmtree(copied)
    bundle.save(model, tmp_path / "run", {"settings": {}, "data": {}, "seed": 0, "metrics": {}})
    again = bundle.load(tmp_path / "run")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    texts = ["warm azure", "cold blue"]
    batch = model.codec.prepare(texts).collate(range(2))
    assert torch.equal(again.codec.prepare(texts).collate(range(2))["targets"], batch["targets"])
    z = torch.randn(1, 2, 0 if kind == "language-model" else 3)
    torch.testing.assert_close(again.reconstruction(z, batch), model.reconstruction(z, batch))
    assert not vectors_of(again).requires_grad


def test_captions_beside_pictures_have_them_too(source, tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (len(TOLD), 3, 8, 7)).astype(np.uint8)
    base = settings()
    decoder = replace(base.model.decoder, word_vectors=source, hidden_size=4)
    picture = PictureSettings(network="conv", hidden_size=4, layers=1, likelihood="logistic")
    base = change_kind(base, "pictures-with-captions")
    joint = replace(base.model, picture=picture, decoder=decoder)
    recipe = replace(base, model=joint, data=replace(base.data, vocabulary_size=100))
    examples = [Example(*pair) for pair in zip(levels, TOLD, strict=True)]
    model = build(recipe, examples).eval()
    add_words(model, ["azure"], source)
    bundle.save(model, tmp_path / "run", {"settings": {}, "data": {}, "seed": 0, "metrics": {}})
    again = bundle.load(tmp_path / "run")
    told, z = [Example(caption="azure a"), Example(caption="nothing a")], torch.randn(1, 2, 3)
    own, loaded = (
        each.part_losses(z, each.codec.prepare(told).collate(range(2)))["caption"]
        for each in (model, again)
    )
    assert torch.equal(own, loaded)
    vectors = vectors_of(again.parts["caption"])
    assert torch.equal(vectors, vectors_of(model.parts["caption"]))
    assert len(vectors) == 5 + len(" ".join(TOLD).split()) + 1


def refusal(call) -> str:
    with pytest.raises(IsthmusError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_what_does_not_go_with_word_vectors(source):
    recipe = settings()
    decoder = replace(recipe.model.decoder, word_vectors=source)
    model = replace(recipe.model, decoder=decoder)
    line = refusal(lambda: replace(decoder, output="adaptive"))
    assert "model.decoder.output 'adaptive'" in line
    assert "use --model.decoder.output softmax" in line
    line = refusal(
        lambda: replace(recipe, model=model, data=replace(recipe.data, tokenizer="bpe"))
    )
    assert "add --data.tokenizer word" in line
    line = refusal(lambda: made(source, width=16))
    assert "13 principal components, got a decoder of width 16" in line
    assert "--model.decoder.hidden-size 13 or less" in line


def test_a_word_that_no_text_could_have_is_refused(source):
    assert "got 'hot dog', expected" in refusal(
        lambda: add_words(made(source), ["hot dog"], source)
    )


def test_words_cannot_be_added_to_vectors_that_are_trained(source):
    line = refusal(lambda: add_words(build(settings(), TOLD), ["azure"], source))
    assert "train one with --model.decoder.word-vectors" in line


def test_words_cannot_be_added_from_another_encoder(source, tmp_path):
    torch.manual_seed(1)
    config = BertConfig.from_pretrained(source, hidden_size=4)
    BertModel(config).save_pretrained(tmp_path)
    train_word_level([*TOLD, *NEAR], 100).save_pretrained(tmp_path)
    line = refusal(lambda: add_words(made(source), ["azure"], str(tmp_path)))
    assert "has other vectors for the words known" in line
    assert "give the model.decoder.word_vectors of the run" in line
