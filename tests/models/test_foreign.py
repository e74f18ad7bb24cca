"""Weights from elsewhere: the same logits before and after, and one line where that cannot be."""

from __future__ import annotations

import json
import os
import pickle
import struct
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from foreign_files import IDS, convert, gpt2, llama2c_logits, llama2c_weights, refusal, words
from isthmus.models.stock import pretrained


@pytest.fixture
def old(tmp_path):
    """A model as an older transformers saved it, and the model."""
    model, folder = gpt2(), tmp_path / "old"
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.save_pretrained(folder)
    words().save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder, model


@torch.no_grad()
@pytest.mark.parametrize("shards", [1, 2])
def test_pytorch_model_bin(old, tmp_path, shards):
    folder, model = old
    if shards == 2:
        names = sorted(model.state_dict())
        (folder / "pytorch_model.bin").unlink()
        where = {name: f"pytorch_model-{place % 2}.bin" for place, name in enumerate(names)}
        for file in set(where.values()):
            part = {name: model.state_dict()[name] for name in names if where[name] == file}
            torch.save(part, folder / file)
        index = folder / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": where}))
    out = convert(folder, tmp_path / "new")
    found, tokenizer = pretrained(str(out), "decoder")
    assert torch.equal(found.eval()(IDS).logits, model(IDS).logits)
    assert tokenizer("a b c")["input_ids"] == words()("a b c")["input_ids"]
    assert "SHA-256" in (out / "README.md").read_text()
    assert not list(out.glob("*.bin"))


class Harm:
    def __reduce__(self):
        return os.system, ("true",)


def test_pickles_that_are_no_weights(old, tmp_path):
    folder, model = old
    out, file = tmp_path / "new", folder / "pytorch_model.bin"
    file.write_bytes(pickle.dumps({"a": Harm()}))
    assert "pytorch_model.bin: " in refusal(folder, out)
    torch.save({"a": Harm()}, file)
    assert "refused, its pickle imports" in refusal(folder, out)
    torch.save({"epoch": 3}, file)
    assert "not a state dict" in refusal(folder, out)
    weights = model.state_dict()
    del weights["transformer.h.1.mlp.c_fc.weight"]
    torch.save(weights, file)
    assert "lacks 1 weights of GPT2LMHeadModel" in refusal(folder, out)
    (folder / "config.json").write_text("{")
    assert "config.json cannot be read" in refusal(folder, out)


def test_sources_that_are_none(old, tmp_path):
    folder, model = old
    out = tmp_path / "new"
    assert "got no such model, expected a folder with pytorch_model.bin" in refusal("nothing", out)
    model.save_pretrained(tmp_path / "plain")
    assert "needs no conversion" in refusal(tmp_path / "plain", out)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert "tokenizer" in refusal(folder, out)
    words().save_pretrained(tmp_path / "words")
    convert(folder, out, tokenizer=str(tmp_path / "words"))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_adapter(tmp_path, suffix):
    peft = pytest.importorskip("peft")
    base = gpt2()
    base.save_pretrained(tmp_path / "base")
    words().save_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(r=2, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True,
                               task_type="CAUSAL_LM")  # fmt: skip
    tuned = peft.get_peft_model(base, settings)
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            weight.normal_(generator=torch.Generator().manual_seed(len(name)))
    settings.base_model_name_or_path = str(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "lora", safe_serialization=suffix == "safetensors")
    assert (tmp_path / "lora" / f"adapter_model.{suffix}").is_file()
    found, _ = pretrained(str(convert(tmp_path / "lora", tmp_path / "new")), "decoder")
    expected = tuned.eval()(IDS).logits
    torch.testing.assert_close(found.eval()(IDS).logits, expected, atol=1e-4, rtol=1e-4)
    with tuned.disable_adapter():
        assert (tuned(IDS).logits - expected).abs().max() > 0.1
    # Another base, and none.
    for name, options in (("narrow", {"n_layer": 1}), ("wide", {"n_embd": 32})):
        other = GPT2LMHeadModel(GPT2Config(**base.config.to_dict() | options))
        other.save_pretrained(tmp_path / name)
        words().save_pretrained(tmp_path / name)
        line = refusal(tmp_path / "lora", tmp_path / "no", base=str(tmp_path / name))
        assert "give the model that it was trained on with --base" in line
    path = tmp_path / "lora" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    assert "use --base" in refusal(tmp_path / "lora", tmp_path / "no")


PIECES = ["<unk>", "\n<s>\n", "\n</s>\n", *(chr(byte) for byte in range(256)),
          " ", "a", "b", "é", " a", "ab", "ba", " ab", "abé"]  # fmt: skip
SCORES = [0.0] * 259 + [-9.0, -8.0, -7.5, -7.0, -2.0, -1.0, -3.0, -0.5, -4.0]


def llama2c_files(folder: Path, version: int, shared: bool) -> tuple[Path, dict[str, Tensor]]:
    """A model and its tokenizer, as export.py and tokenizer.py write them."""
    count = len(PIECES)
    w = llama2c_weights(count, shared)
    sizes = (16, 20, 2, 4, 2, count if shared or version else -count, 32)
    layers = ["attention_norm", "wq", "wk", "wv", "wo", "ffn_norm", "w1", "w2", "w3"]
    if version == 0:
        start = struct.pack("<7i", *sizes)
        order = [w["embed"], *(w[name] for name in layers), w["norm"], torch.zeros(32, 4)]
    else:
        start = struct.pack("<Ii7iB", 0x616B3432, version, *sizes, shared).ljust(256, b"\0")
        layers.remove("ffn_norm")
        order = [w["attention_norm"], w["ffn_norm"], w["norm"], w["embed"]]
        order += [w[name] for name in layers[1:]]
    order += [w["output"]] if "output" in w else []
    path = folder / "tiny.bin"
    path.write_bytes(start + b"".join(part.numpy().tobytes() for part in order))
    parts = [struct.pack("<fI", score, len(piece.encode())) + piece.encode()
             for piece, score in zip(PIECES, SCORES, strict=True)]  # fmt: skip
    (folder / "tokenizer.bin").write_bytes(struct.pack("<I", 9) + b"".join(parts))
    return path, w


def by_run_c(text: str) -> list[int]:
    """The tokens of run.c: characters or bytes, then the best merge while there is one."""
    place = {piece: at for at, piece in enumerate(PIECES) if at >= 259}
    ids = []
    for character in " " + text:
        known = place.get(character)
        ids += [known] if known else [byte + 3 for byte in character.encode()]
    while True:
        names = [PIECES[a] + PIECES[b] for a, b in pairwise(ids)]
        best = max((SCORES[place[n]] if n in place else -1e9, -at) for at, n in enumerate(names))
        if best[0] == -1e9:
            return ids
        at = -best[1]
        ids[at : at + 2] = [place[names[at]]]


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("version", [0, 1])
def test_llama2c(tmp_path, version, shared):
    path, w = llama2c_files(tmp_path, version, shared)
    out = convert(path, tmp_path / "new")
    model, tokenizer = pretrained(str(out), "decoder")
    ids = torch.tensor([1, 260, 266, 261, 5, 262])
    expected = llama2c_logits(w, ids, heads=4)
    torch.testing.assert_close(model.eval()(ids[None]).logits[0], expected, atol=1e-4, rtol=1e-4)
    for text in ("ab a", "abéb  ba", "x\nab", "aabba é", "日a"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == by_run_c(text)
        assert tokenizer.decode(by_run_c(text)) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def test_llama2c_files_that_are_wrong(tmp_path):
    path, _ = llama2c_files(tmp_path, 1, True)
    out, whole = tmp_path / "new", path.read_bytes()
    giant = struct.pack("<7i", 16, 20, 2**30, 4, 2, 268, 32)
    for wrong in (whole[:-4], whole + b"0000", b"", b"PK" + bytes(500), giant + bytes(999)):
        path.write_bytes(wrong)
        assert "not a file of llama2.c, or damaged" in refusal(path, out)
    path.write_bytes(whole[:4] + struct.pack("<i", 2) + whole[8:])
    assert "version 2 of llama2.c's format, expected 0 or 1" in refusal(path, out)
    path.write_bytes(whole)
    words = tmp_path / "tokenizer.bin"
    words.write_bytes(words.read_bytes()[:-3])
    assert "tokenizer.bin: not a tokenizer of llama2.c" in refusal(path, out)
    words.unlink()
    assert "put tokenizer.bin or tok268.bin beside it" in refusal(path, out)
