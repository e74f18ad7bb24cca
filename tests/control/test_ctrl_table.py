"""The published CTRL: its codes, against those of transformers."""

import math

import pytest
from transformers.models.ctrl.tokenization_ctrl import CONTROL_CODES

from isthmus.control.codes import Code, CodeBook
from isthmus.control.original import SHARES, log_prior


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
