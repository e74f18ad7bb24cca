"""A checkpoint in the shape of Salesforce/ctrl, toy size: codes, logits, a sliding window."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import CTRLConfig, CTRLLMHeadModel

from isthmus.control.original import log_prior
from isthmus.errors import IsthmusError
from isthmus.evaluation.attribution import attribute, log_likelihoods
from isthmus.models.generation import Generation
from isthmus.models.original.ctrl import convert_ctrl
from isthmus.runs.bundle import load, save

WORDS = ["<unk>", "Books", "a", "Reviews", "b", "c", "Links", "g", "o", "d"]
POSITIONS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ctrl")
    torch.manual_seed(0)
    config = CTRLConfig(
        vocab_size=len(WORDS), n_positions=POSITIONS, n_embd=16, dff=32, n_layer=2, n_head=4
    )
    stock = CTRLLMHeadModel(config)
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    stock.save_pretrained(place)
    (place / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    return place


@pytest.fixture(scope="module")
def stock(folder):
    return CTRLLMHeadModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "ctrl"
    save(convert_ctrl(str(folder)), run, {"metrics": {}})
    return load(run)


def test_its_codes_have_the_priors_of_the_release(model):
    assert set(model.config.label_names) == {"Books", "Reviews", "Links"}
    prior = log_prior()
    known = torch.tensor([prior[name] for name in model.config.label_names])
    torch.testing.assert_close(model.labels.log_prior, known.log_softmax(0))


@torch.no_grad()
def test_the_likelihood_is_the_stock_models_with_the_code_in_the_first_place(model, stock):
    """p(x₁|c) counts, the code is no target, and nothing ends the text."""
    texts = ["a b c", "c", "b b a c"]
    found = log_likelihoods(model, model.codec.prepare(texts))
    for row, text in zip(found, texts, strict=True):
        words = [WORDS.index(word) for word in text.split()]
        for place, name in enumerate(model.config.label_names):
            ids = torch.tensor([[WORDS.index(name), *words]])
            log_p = stock(ids).logits.log_softmax(-1)[0, :-1]
            expected = log_p.gather(1, ids[0, 1:, None]).sum()
            torch.testing.assert_close(row[place].float(), expected, atol=1e-5, rtol=1e-5)
    assert attribute(model, texts).log_posterior.exp().sum(-1).tolist() == pytest.approx([1] * 3)


@torch.no_grad()
def test_greedy_text_is_the_stock_models(model, stock):
    ids = torch.tensor([[WORDS.index("Links"), WORDS.index("a")]])
    expected = stock.generate(ids, max_new_tokens=8, do_sample=False)[0, 1:].tolist()
    found = model.decode(
        torch.zeros(1, 0), Generation(max_new_tokens=8, label="Links", prompt="a")
    )
    assert model.codec.ids(found[0]) == expected


@torch.no_grad()
def test_a_long_text_slides_its_window_and_keeps_the_code(model, monkeypatch):
    read = []
    embedded = model.decoder.embedded

    def watched(conditioning, ids, places):
        out = embedded(conditioning, ids, places)
        read.append((bool(places[0] == 0), out[0, 0].clone(), ids.shape[1]))
        return out

    monkeypatch.setattr(model.decoder, "embedded", watched)
    [text] = model.decode(torch.zeros(1, 0), Generation(max_new_tokens=60, label="Reviews"))
    assert len(model.codec.ids(text)) == 60
    starts = [vector for begins, vector, _ in read if begins]
    code = model.decoder.stack.get_input_embeddings().weight[WORDS.index("Reviews")]
    assert len(starts) > 3
    for vector in starts:  # each whole pass begins with the code
        torch.testing.assert_close(vector, code)
    slid = {count for begins, _, count in read[1:] if begins}
    assert slid == {1 + 3 * POSITIONS // 4}  # the code, and three quarters of the rest
    longest = 0
    for begins, _, count in read:
        longest = count if begins else longest + count
        assert longest <= POSITIONS


def test_other_folders_are_refused_in_one_line(tmp_path, folder):
    with pytest.raises(IsthmusError, match=r"expected a folder with config\.json") as error:
        convert_ctrl(str(tmp_path))
    assert "\n" not in str(error.value)
    stock = CTRLLMHeadModel.from_pretrained(folder)
    stock.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"<unk>": 0, "a": 1}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(IsthmusError, match="0 of the 55 control codes"):
        convert_ctrl(str(tmp_path))
