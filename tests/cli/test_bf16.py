"""--precision bf16: a decoder in half the memory, and numbers within their standard errors."""

import json

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.models.generation import Generation
from isthmus.models.text_model import hold_decoder
from isthmus.runs.bundle import load
from tiny import picture


def test_the_figures_of_bf16_are_within_a_standard_error(isthmus, run, corpus):
    def figures(*words):
        done = isthmus(
            "evaluate", run, corpus, "--json", "--samples", "20", "--texts", "0", *words
        )
        assert done.code == 0, done.err
        return json.loads(done.out)

    exact, rounded = figures(), figures("--precision", "bf16")
    compared = [name for name in exact if exact.get(f"{name}_se")]
    assert {"reconstruction", "kl", "nll_iw"} <= set(compared)
    for name in compared:
        assert abs(rounded[name] - exact[name]) <= exact[f"{name}_se"], name
    assert rounded["reconstruction"] != exact["reconstruction"]
    assert rounded["kl"] == exact["kl"]  # the encoder keeps its precision


def test_the_decoder_takes_half_the_memory_and_writes_nearly_the_same(run):
    model = load(run)
    z = model.prior.sample(64, torch.Generator().manual_seed(0))
    settings = Generation(max_new_tokens=12)
    exact = model.decode(z, settings)
    size = sum(p.nbytes for p in model.decoder.model.parameters())
    hold_decoder(model)
    assert sum(p.nbytes for p in model.decoder.model.parameters()) * 2 == size
    rounded = model.decode(z, settings)
    assert sum(map(str.__eq__, exact, rounded)) >= 56


def test_verbs_that_write_take_it(isthmus, run):
    written = isthmus("sample", run, "--count", "3", "--precision", "bf16")
    assert (written.code, len(written.out.splitlines())) == (0, 3)


def test_a_run_of_pictures_has_no_decoder_of_texts():
    with pytest.raises(IsthmusError, match="use --precision float32"):
        hold_decoder(picture())
