"""``isthmus import-optimus``: every layout, the authors' tokenizers; no code of others is run."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import isthmus as package
import optimus_checkpoint as optimus
from isthmus.data.tokens import load, special_ids
from isthmus.runs.bundle import read_run

TEXTS = ["a b c", "A ab .", "c", "b . a"]


@pytest.fixture
def root(tmp_path):
    """A folder with the name of a released run."""
    folder = tmp_path / "philly_vae_snli"
    folder.mkdir()
    return folder


@pytest.fixture
def do_import(isthmus, tmp_path):
    """Import a place into tmp_path/run."""
    return lambda source, *words: isthmus(
        "import-optimus", source, "--out", tmp_path / "run", *words
    )


@pytest.fixture
def imported(do_import, tmp_path):
    """The model of a place, imported and loaded again."""

    def imported(source, *words):
        result = do_import(source, *words)
        assert result.code == 0, result.err
        return package.load(tmp_path / "run")

    return imported


@pytest.fixture
def refusal(do_import, tmp_path):
    """The one line that a place is refused with; no run is left."""

    def refusal(source, *words):
        result = do_import(source, *words)
        assert (result.code, result.out) == (1, ""), result.err
        assert not (tmp_path / "run").exists()
        line = result.err.splitlines()[-1]
        assert result.err.count("isthmus: ") == 1
        assert line.startswith("isthmus: ")
        assert len(line) < 500
        return line

    return refusal


def latent(model):
    """Which seed of a checkpoint a model came from shows in its maps."""
    return model.bridge.parts["memory"].linear.weight


def is_of_seed(model, seed):
    wanted = optimus.parts(seed)["decoder"]["transformer.linear.weight"]
    return torch.equal(latent(model), wanted)


@torch.no_grad()
@pytest.mark.parametrize("width", [optimus.WIDTH, 128])
def test_the_posterior_is_the_stock_encoder_and_the_head(root, imported, width):
    """At width 128 without config.json: attention heads are 64 wide by default."""
    optimus.write_parts(root, width=width)
    if width == 128:
        for path in root.glob("*/config.json"):
            path.unlink()
    model = imported(root)
    tokenizer = model.codec.encoder_tokenizer
    head = optimus.parts(width=width)["encoder"]["linear.weight"]
    for text, mean, log_variance in zip(
        TEXTS, model.encode(TEXTS).mean, model.encode(TEXTS).log_variance, strict=True
    ):
        ids = torch.tensor([tokenizer(text).input_ids])
        pooled = optimus.stock_models(width)[0](ids).pooler_output[0]
        assert (head @ pooled - torch.cat([mean, log_variance])).abs().max() < 1e-5


@torch.no_grad()
def test_the_bridges_are_the_maps_and_positions_begin_behind_the_memory(root, imported):
    optimus.write_parts(root)
    model = imported(root)
    weights, decoder = optimus.parts()["decoder"], optimus.stock_models()[1]
    z, ids = torch.randn(1, optimus.P), torch.tensor([[12, 1, 3]])
    conditioning = model.bridge(z.unsqueeze(1))
    chunks = (weights["transformer.linear.weight"] @ z[0]).chunk(optimus.LAYERS)
    for slots, chunk in zip(conditioning.memory, chunks, strict=True):
        assert torch.allclose(slots.flatten(), chunk, atol=1e-6)
    added = weights["transformer.linear_emb.weight"] @ z[0]
    assert torch.allclose(conditioning.embedding[0], added, atol=1e-6)
    # With z = 0 and no memory the stock model is left; with a memory its positions begin at 1.
    nothing = model.bridge(torch.zeros(1, 1, optimus.P))
    stock = decoder.transformer.wpe(torch.arange(1, 4)) + decoder.transformer.wte(ids[0])
    seen = []
    hook = model.decoder.model.transformer.drop.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    model.decoder.hidden(nothing, ids)
    hook.remove()
    assert torch.allclose(seen[0][0], stock, atol=1e-6)


def test_the_newest_step_is_taken_and_said(root, do_import, tmp_path):
    for seed, step in enumerate(["600", "1000", "999"]):
        optimus.write_parts(root, step, seed)
    result = do_import(root)
    assert "steps 600, 999, 1000; using the newest, 1000" in result.err
    assert is_of_seed(package.load(tmp_path / "run"), 1)


def test_sizes_come_from_the_tensors_and_the_rest_from_the_configuration(root, imported):
    optimus.write_parts(root)
    config = imported(root).config
    assert config.latent_size == optimus.P
    assert config.pooling == "pooler"
    assert config.encoder.num_hidden_layers == optimus.LAYERS
    assert config.encoder.intermediate_size == 20
    assert config.encoder.hidden_dropout_prob == 0.25
    assert config.encoder.attention_probs_dropout_prob == 0.1
    assert (config.decoder.n_embd, config.decoder.n_positions) == (optimus.WIDTH, 24)


# Tokenizers


def test_tokenizers_are_the_originals(root, imported):
    optimus.write_parts(root)
    codec = imported(root).codec
    examples = codec.prepare(["a b", "é Ab"])
    words = codec.encoder_tokenizer.convert_ids_to_tokens(examples.encoder_tokens[0])
    assert words == ["[CLS]", "a", "b", "[SEP]"]
    cased = codec.encoder_tokenizer.convert_ids_to_tokens(examples.encoder_tokens[1])
    assert cased == ["[CLS]", "é", "A", "##b", "[SEP]"], "neither case nor accents are lost"
    pieces = codec.decoder_tokenizer.convert_ids_to_tokens(examples.decoder_tokens[0])
    assert pieces == ["<BOS>", "Ġa", "Ġb", "<EOS>"], "the first word has its space"
    assert codec.text([row[1:] for row in map(list, examples.decoder_tokens)]) == ["a b", "é Ab"]


def test_the_added_tokens_are_the_last_three_in_the_authors_order(root, imported):
    optimus.write_parts(root)
    codec = imported(root).codec
    size = len(optimus.LETTERS)
    ids = codec.decoder_tokenizer.convert_tokens_to_ids(["<PAD>", "<BOS>", "<EOS>"])
    assert ids == [size, size + 1, size + 2]
    assert codec.decoder_special == (size + 1, size + 2, size)
    assert codec.encoder_special == (2, 3, 0)
    # GPT-2 knows another end, which these texts do not have
    assert special_ids(codec.decoder_tokenizer).end != codec.decoder_special.end
    assert codec.maximum_length == optimus.POSITIONS - 1, "the memory takes a position"


def test_vocabularies_may_lie_in_the_folder_around(root, imported):
    optimus.write_parts(root)
    for name in ("encoder-700/vocab.txt", "decoder-700/vocab.json", "decoder-700/merges.txt"):
        shutil.move(root / f"checkpoint-{name}", root)
    assert len(imported(root).codec.decoder_tokenizer) == optimus.SIZES["decoder"]


def test_tokenizers_may_be_given(root, imported, tmp_path):
    optimus.write_parts(root)
    first = imported(root)
    for part in ("encoder", "decoder"):
        getattr(first.codec, f"{part}_tokenizer").save_pretrained(tmp_path / part)
    shutil.rmtree(tmp_path / "run")
    for path in [*root.rglob("vocab.*"), *root.rglob("merges.txt")]:
        path.unlink()
    words = ["--encoder-tokenizer", tmp_path / "encoder", "--decoder-tokenizer"]
    again = imported(root, *words, tmp_path / "decoder")
    assert again.encode(TEXTS).mean.equal(first.encode(TEXTS).mean)
    assert again.terms(TEXTS).reconstruction.equal(first.terms(TEXTS).reconstruction)


def test_tokenizers_that_are_not_there_or_not_these(root, refusal, tmp_path, caplog):
    optimus.write_parts(root)
    (root / "checkpoint-encoder-700" / "vocab.txt").unlink()
    line = refusal(root)
    assert "put vocab.txt of bert-base-cased into" in line
    assert "--encoder-tokenizer" in line
    optimus.write_encoder_vocabulary(root, 12)
    assert "the encoder has 11 tokens, its tokenizer 12" in refusal(root)
    optimus.write_encoder_vocabulary(root)
    (root / "checkpoint-decoder-700" / "merges.txt").unlink()
    assert "put vocab.json and merges.txt of gpt2 into" in refusal(root)
    optimus.write_decoder_vocabulary(root, 12)
    line = refusal(root)
    assert "the decoder has 14 tokens, its tokenizer 15 with <PAD>, <BOS> and <EOS>" in line
    (root / "vocab.json").write_text("{")
    assert "vocab.json: not a vocabulary" in refusal(root)
    assert "cannot load a tokenizer from" in refusal(
        root, "--encoder-tokenizer", tmp_path / "none"
    )
    other = load(str(_word_level(tmp_path)))
    assert len(other) == 6
    line = refusal(root, "--decoder-tokenizer", tmp_path / "words")
    assert "is not a byte-level BPE; expected GPT-2's tokenizer" in line


def _word_level(tmp_path):
    from isthmus.data.tokens import train_word_level

    train_word_level(["a"], 6).save_pretrained(tmp_path / "words")
    return tmp_path / "words"


# What is missing, too much, or of another model


def test_a_run_is_not_overwritten(root, do_import, tmp_path):
    (tmp_path / "run").mkdir()
    result = do_import(root)
    assert result.code == 1
    assert "exists already" in result.err


def changed(root, **changes):
    """A full checkpoint with some tensors replaced, or removed by None."""
    optimus.write_configs(root)
    state = optimus.full()["model_state_dict"]
    for name, value in changes.items():
        state[name] = value
    state = {name: value for name, value in state.items() if value is not None}
    optimus.write_full(root, model_state_dict=state)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"encoder.linear.weight": None}, ["lacks 1 tensors (encoder.linear.weight)"]),
        ({"decoder.transformer.h.1.ln_1.bias": None}, ["(decoder.transformer.h.1.ln_1.bias)"]),
        (
            {f"decoder.transformer.h.0.{n}.weight": None for n in ("ln_1", "ln_2")},
            ["lacks 2 tensors", "h.0.ln_1.weight, decoder.transformer.h.0.ln_2.weight"],
        ),
        ({"decoder.transformer.h.x.weight": torch.ones(1)}, ["(decoder.transformer.h.x.weight)"]),
        ({"decoder.transformer.linear_emb.weight": None}, ["linear_emb", "--bridge memory"]),
        ({"decoder.transformer.wte.weight": None}, ["(decoder.transformer.wte.weight)"]),
        ({"encoder.embeddings.word_embeddings.weight": None}, ["word_embeddings"]),
        (
            {"encoder.extra.weight": torch.ones(1)},
            ["do not belong to Optimus (encoder.extra.weight)"],
        ),
        ({"something": torch.ones(1)}, ["1 tensors do not belong to Optimus (something)"]),
        (
            {"decoder.transformer.linear.weight": torch.ones(32, 4)},
            ["decoder.transformer.linear.weight has shape [32, 4]", "need [32, 3]"],
        ),
        ({"encoder.linear.weight": torch.ones(5, 16)}, ["encoder.linear.weight", "[5, 16]"]),
        ({"encoder.linear.weight": torch.ones(6)}, ["has shape [6], expected a matrix"]),
        ({"decoder.lm_head.weight": torch.ones(14, 16)}, ["lm_head.weight differ"]),
    ],
)
def test_tensors_that_do_not_belong_together(root, refusal, changes, parts):
    changed(root, **changes)
    line = refusal(root)
    assert all(part in line for part in parts), line


def test_extras_of_cara_and_spacefusion_are_named_and_left_out(root, do_import, tmp_path):
    extras = ["conv1.weight", "label_embedding.weight", "linear.weight", "S2S_pooler.dense.bias"]
    changed(root, **{name: torch.ones(2) for name in extras})
    result = do_import(root)
    listed = "S2S_pooler.dense.bias, conv1.weight, label_embedding.weight, linear.weight"
    assert f"not part of the VAE, left out: {listed}" in result.err
    assert read_run(tmp_path / "run")["imported"]["left_out"] == listed.split(", ")
    assert is_of_seed(package.load(tmp_path / "run"), 0)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("encoder", {"hidden_size": 32}, "the encoder's config.json says hidden_size = 32, its"),
        ("decoder", {"n_layer": 12}, "the decoder's config.json says n_layer = 12, its tensors"),
        ("decoder", {"n_head": 3}, "n_head = 3, expected a divisor of its width 16"),
        ("encoder", {"num_attention_heads": None}, "attention heads of the encoder is unknown"),
    ],
)
def test_configurations_of_other_models(root, refusal, part, change, words):
    optimus.write_parts(root)
    path = root / f"checkpoint-{part}-700" / "config.json"
    path.write_text(json.dumps(optimus.configs()[part] | change))
    assert words in refusal(root)


# Bridges, and the run


@pytest.mark.parametrize(
    ("flags", "words", "bridge"),
    [
        ({}, [], "memory+embedding"),
        ({"latent_as_gpt_emb": 0}, [], "memory"),
        ({"latent_as_gpt_memory": 0}, [], "embedding"),
        ({"latent_as_gpt_memory": 0}, ["--bridge", "memory"], "memory"),
    ],
)
def test_the_bridge_is_the_one_it_was_trained_with(
    root, do_import, tmp_path, flags, words, bridge
):
    optimus.write_configs(root)
    optimus.write_full(root, args=optimus.arguments(**flags))
    result = do_import(root, *words)
    assert package.load(tmp_path / "run").config.bridge == bridge
    unused = {"memory": "linear_emb", "embedding": "linear"}.get(bridge)
    left_out = read_run(tmp_path / "run")["imported"]["left_out"]
    assert left_out == ([f"decoder.transformer.{unused}.weight"] if unused else [])
    line = f"not part of the bridge {bridge}, left out: {', '.join(left_out)}\n"
    assert result.err == (line if unused else "")


def test_a_map_that_the_bridge_does_not_use_may_be_absent(root, imported):
    changed(root, **{"decoder.transformer.linear_emb.weight": None})
    model = imported(root, "--bridge", "memory")
    assert torch.equal(
        model.bridge.linear.weight, optimus.parts()["decoder"]["transformer.linear.weight"]
    )


@pytest.mark.parametrize("layout", [optimus.write_parts, optimus.write_full])
def test_the_run_tells_its_origin_and_no_folder_of_the_machine(root, imported, tmp_path, layout):
    optimus.write_configs(root)
    layout(root)
    imported(root)
    origin = read_run(tmp_path / "run")["imported"]
    assert origin["arguments"] == {
        "dataset": "Snli",
        "latent_size": 3,
        "beta": 0.5,
        "dim_target_kl": 0.25,
        "length_weighted_loss": True,
        "latent_as_gpt_emb": 1,
        "latent_as_gpt_memory": 1,
    }
    folder = "full" if layout is optimus.write_full else "encoder"
    assert origin["checkpoint"] == f"philly_vae_snli/checkpoint-{folder}-700"
    assert origin["step"] == "700"
    for name in ("run.json", "README.md", "config.json", "tokenizer_config.json"):
        text = (tmp_path / "run" / name).read_text()
        assert str(tmp_path) not in text
        assert "/home" not in text
    assert "beta = 0.5" in (tmp_path / "run" / "README.md").read_text()


def test_the_verbs_work_on_an_imported_run(root, isthmus, imported, tmp_path):
    optimus.write_parts(root)
    model = imported(root)
    run, data = tmp_path / "run", tmp_path / "texts.txt"
    data.write_text("\n".join(TEXTS))
    result = isthmus("reconstruct", run, data, "--json", "--max-new-tokens", "6")
    assert result.code == 0, result.err
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    terms = model.terms(TEXTS)
    assert [row["kl_nats"] for row in rows] == pytest.approx(terms.kl_total.tolist())
    result = isthmus("interpolate", run, "a b c", "c", "--steps", "1", "--max-new-tokens", "4")
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == 3
    result = isthmus("evaluate", run, data, "--json", "--samples", "2", "--texts", "2")
    assert result.code == 0, result.err
    metrics = json.loads(result.out)
    assert metrics["cut"] == metrics["unknown_tokens"] == 0
    assert metrics["latent_size"] == optimus.P
