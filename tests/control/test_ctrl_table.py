"""The published CTRL: its codes and its size, against transformers."""

import math

import pytest
from transformers import CTRLConfig, CTRLLMHeadModel
from transformers.models.ctrl.tokenization_ctrl import CONTROL_CODES

from isthmus.control.codes import Code, CodeBook
from isthmus.control.original import SHARES, log_prior, parameter_count


def test_its_codes_are_those_of_transformers():
    assert len(SHARES) == 55
    assert set(SHARES) == set(CONTROL_CODES)
    assert CodeBook(tuple(SHARES)).parse("Reviews Rating: 5.0") == Code("Reviews", "Rating: 5.0")


def test_its_priors():
    assert sum(SHARES.values()) == pytest.approx(100, abs=0.01)
    domains = ("Links", "Reviews", "Translation", "multilingual", "Books", "Wikipedia", "News")
    assert sum(SHARES[name] for name in domains) == pytest.approx(98.51, abs=0.005)
    prior = log_prior()
    assert math.fsum(map(math.exp, prior.values())) == pytest.approx(1, abs=1e-12)
    assert prior["Books"] - prior["Horror"] == pytest.approx(math.log(9.59 / 0.135))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("width", "inner", "layers"), [(32, 64, 2), (16, 40, 3)])
def test_its_size_is_that_of_transformers(width, inner, layers):
    config = CTRLConfig(
        vocab_size=50, n_positions=64, n_embd=width, dff=inner, n_layer=layers, n_head=4
    )
    theirs = sum(parameter.numel() for parameter in CTRLLMHeadModel(config).parameters())
    assert parameter_count(50, width, inner, layers) == theirs


def test_its_size_as_published():
    assert parameter_count(50, 32, 64, 2) == 18_802
    assert parameter_count() == 1_637_964_550
