"""``isthmus convert``: a folder to train from, or one line."""

from __future__ import annotations

import torch

from foreign_files import gpt2, words
from isthmus.models.stock import pretrained


def old_folder(path) -> None:
    model = gpt2()
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.save_pretrained(path)
    words().save_pretrained(path)
    torch.save(model.state_dict(), path / "pytorch_model.bin")


def test_a_folder_that_can_be_trained_from(isthmus, tmp_path):
    old_folder(tmp_path / "old")
    data, out = tmp_path / "data.txt", tmp_path / "new"
    data.write_text("a b c\nc b a\n" * 20)
    source = ["--model.kind", "language-model", "--model.decoder.source", tmp_path / "old"]
    refused = isthmus("train", data, "--recipe", "optimus", "--out", tmp_path / "run", *source)
    assert (refused.code, refused.out) == (1, "")
    assert f"run: isthmus convert {tmp_path / 'old'} --out FOLDER" in refused.err
    done = isthmus("convert", tmp_path / "old", "--out", out)
    assert (done.code, done.err) == (0, "")
    count = sum(weight.numel() for weight in gpt2().parameters())
    assert done.out == f"GPT2LMHeadModel, {count:,} weights; {out}\n"
    model, _ = pretrained(str(out), "decoder")
    assert all(map(torch.equal, model.state_dict().values(), gpt2().state_dict().values()))
    again = isthmus("convert", tmp_path / "old", "--out", out)
    assert (again.code, again.out) == (1, "")
    assert again.err == f"isthmus: {out}: exists already; choose another folder with --out\n"


def test_layers_of_sentence_transformers_that_are_left_out_are_said(isthmus, tmp_path):
    old_folder(tmp_path / "old")
    (tmp_path / "old" / "modules.json").write_text("[]")
    done = isthmus("convert", tmp_path / "old", "--out", tmp_path / "new")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "copy modules.json and the folders that it names" in done.err


def test_a_source_that_is_none(isthmus, tmp_path):
    result = isthmus("convert", tmp_path / "absent", "--out", tmp_path / "new")
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert "got no such model, expected a folder with pytorch_model.bin" in result.err
    assert not (tmp_path / "new").exists()
