"""Published rows: what the table check finds, and their perplexities per word."""

import math
from importlib.resources import files

import pytest

from isthmus.errors import IsthmusError
from isthmus.published.figures import TEST_SETS, per_word, published, remarks
from isthmus.published.identities import check
from isthmus.published.printed import read_table

EVERY = [figure for dataset in TEST_SETS for figure in published(dataset)]
YAHOO = {figure.system: figure for figure in published("yahoo")}
T5 = [figure for figure in EVERY if figure.paper == "Park & Lee 2021"]
SATURATED = {
    ("Optimus λ=1.00", "ptb"),
    ("Optimus λ=1.00", "yelp"),
    ("Optimus λ=0.50", "yahoo"),
    ("Optimus λ=1.00", "yahoo"),
    ("Optimus λ=0.50", "snli"),
    ("Optimus λ=1.00", "snli"),
    ("LSTM-AE", "ptb"),
    ("LSTM-AE", "snli"),
    (T5[3].system, "yahoo"),
}


def findings(severity, identity):
    text = (files("isthmus.published") / "published.csv").read_text(encoding="utf-8")
    return [
        {(row.name, row.dataset) for row in one.rows}
        for one in check(read_table(text, "published.csv"))
        if (one.severity, one.identity.startswith(identity)) == (severity, True)
    ]


def test_every_row_passes_or_fails_as_it_should():
    t5 = [(figure.system, "yahoo") for figure in T5]
    assert findings("broken", "−ELBO / ln PPL") == [set(t5), *({row} for row in t5)]
    assert findings("broken", "−ELBO ≥ KL") == [{t5[3]}]
    above = [{("LSTM-AE", "yelp")}, {("LSTM-AE", "yahoo")}]
    assert findings("broken", "MI ≤ ln N") == above
    assert len(findings("broken", "")) == 5 + 1 + 2, "and nothing else is broken"
    assert set().union(*findings("suspicious", "MI ≤ ln N")) == SATURATED
    assert findings("suspicious", "KL buys") == [set(t5[:3])]
    units, *converted = findings("suspicious", "−ELBO / ln PPL")
    assert units == {(name, "yahoo") for name, one in YAHOO.items() if one.negative_elbo}
    assert converted == [{("Optimus λ=0.50", "yahoo")}, *({row} for row in t5)]


def test_true_bounds_of_the_t5_rows():
    assert [one.true_negative_elbo for one in T5] == pytest.approx(
        [343.44, 384.84, 463.47, 451.57]
    )
    for figure in T5:
        assert figure.true_negative_elbo / math.log(figure.perplexity) == pytest.approx(113, 2e-4)
        assert f"= {figure.true_negative_elbo:.2f}, not" in " ".join(remarks(figure))
    others = [one for one in EVERY if one not in T5]
    assert all(one.true_negative_elbo == one.negative_elbo for one in others)


def test_optimus_per_word():
    """Yahoo at λ = 0.5: 23.11 ↔ 42.1."""
    words = 328.73 / math.log(59.24)
    value, reason = per_word(YAHOO["Optimus λ=0.50"])
    assert value == pytest.approx(math.exp(301.21 / words))
    assert f"{value:.1f}" == "42.1"
    assert "80.5 words" in reason
    # the same model's other rows by the same subwords a word; GPT-2 counts as it does
    subwords = 301.21 / math.log(23.11)
    for system in ("Optimus λ=0.05", "Optimus λ=1.00", "GPT-2"):
        value, reason = per_word(YAHOO[system])
        assert value ** (words / subwords) == pytest.approx(YAHOO[system].perplexity)
        assert "95.9 subwords" in reason


def test_t5_rows_per_word():
    values = [per_word(one).value for one in T5]
    words = 328.73 / math.log(59.24)
    expected = [math.exp(nats / words) for nats in (343.44, 384.84, 463.47, 451.57)]
    assert values == pytest.approx(expected)
    assert all("sign of the KL corrected" in per_word(one).reason for one in T5)


def test_every_figure_is_converted_or_a_reason_is_given():
    for figure in EVERY:
        value, reason = per_word(figure)
        assert TEST_SETS[figure.dataset] in reason
        assert (value is None) == ("not comparable" in reason)
        if figure.unit == "word":
            assert value == figure.perplexity
        elif figure.perplexity is None or figure.dataset != "yahoo":
            assert value is None, "these rows do not show the number of subwords per word"
        else:
            assert value > figure.perplexity, "a word has more than one subword"


def test_another_dataset():
    with pytest.raises(IsthmusError, match="no published figures for 'wiki'; expected one of ptb"):
        published("wiki")
