"""The dictionary of all numbers: units, errors, and a collapse that must show."""

import dataclasses
import itertools
import json
import math

import pytest
import torch

from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.metrics import evaluate, latent_metrics, likelihood_metrics
from isthmus.evaluation.text import legacy_metrics
from word_model import WORDS, WordModel


def some_texts(count, seed=0, longest=7):
    generator = torch.Generator().manual_seed(seed)
    words = WORDS.split()
    texts = []
    for _ in range(count):
        length = int(torch.randint(1, longest + 1, (1,), generator=generator))
        picks = torch.randint(len(words), (length,), generator=generator)
        texts.append(" ".join(words[pick] for pick in picks))
    return texts


def report(model, corpus, **options):
    return evaluate(model, model.codec.prepare(corpus), **{"samples": 3, "texts": 0} | options)


@pytest.fixture(scope="module")
def texts():
    return some_texts(400)


@pytest.fixture
def alive(texts):
    return WordModel(texts)


@pytest.fixture
def collapsed(texts):
    """q(z|x) = p(z) up to noise that means nothing, and a decoder that does not look at z."""
    model = WordModel(texts)
    model.log_variance = 0.0
    with torch.no_grad():
        model.reading.mul_(1e-3)
        model.writing.zero_()
    return model


@pytest.fixture
def uniform(collapsed):
    """Every token has probability 1/V, whatever z."""
    return collapsed


def test_symbols_are_counted_with_their_ends(uniform):
    metrics = report(uniform, ["a b c", "hh d"])
    assert metrics["sentences"] == 2
    assert metrics["words"] == 3 + 2 + 2
    assert metrics["tokens"] == 3 + 2 + 2
    assert metrics["characters"] == len("a b c") + len("hh d") + 2
    assert metrics["unknown_tokens"] == 1
    assert metrics["cut"] == 0


@pytest.mark.parametrize("longest", [6, 16])  # at 6 many of the texts are cut
def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(texts, uniform, longest):
    uniform.codec = dataclasses.replace(uniform.codec, maximum_length=longest)
    metrics = report(uniform, texts)
    assert (metrics["cut"] > 0) == (longest == 6)
    assert metrics["ppl_token"] == pytest.approx(uniform.vocabulary, rel=1e-4)
    assert metrics["ppl_word"] == pytest.approx(uniform.vocabulary, rel=1e-4)
    tokens, bits = metrics["tokens"], math.log2(uniform.vocabulary)
    assert metrics["bits_per_character"] == pytest.approx(
        tokens * bits / metrics["characters"], rel=1e-4
    )
    assert metrics["ppl_token_se"] < 1e-2


def test_every_unit_tells_the_same_nats(texts, alive):
    examples = alive.codec.prepare(texts)
    measured = bounds(alive, examples, samples=3)
    metrics = likelihood_metrics(measured, examples)
    nats = measured.nll_iw.sum().item()
    assert math.log(metrics["ppl_token"]) * metrics["tokens"] == pytest.approx(nats)
    assert math.log(metrics["ppl_word"]) * metrics["words"] == pytest.approx(nats)
    bits = metrics["bits_per_character"] * metrics["characters"]
    assert bits * math.log(2) == pytest.approx(nats)
    assert metrics["nll_iw"] * len(texts) == pytest.approx(nats)
    ends = metrics["tokens"] + len(texts)
    legacy = legacy_metrics(measured, examples)
    assert math.log(legacy["optimus_ppl"]) * ends == pytest.approx(nats)
    assert legacy["optimus_nll"] == pytest.approx(metrics["reconstruction"])


def test_terms_add_up_and_order(texts, alive, collapsed):
    metrics = report(alive, texts)
    for one in (metrics, report(collapsed, texts)):  # whose KL is below any free bits
        assert -one["elbo"] == pytest.approx(one["reconstruction"] + one["kl"])
        assert one["inference_gap"] == pytest.approx(-one["elbo"] - one["nll_iw"])
    assert sum(metrics["kl_per_dimension"]) == pytest.approx(metrics["kl"], rel=1e-5)
    assert metrics["nll_iw"] < -metrics["elbo"]
    assert metrics["mutual_information"] < metrics["kl"]
    assert metrics["mutual_information_limit"] == math.log(len(texts))


def test_errors_of_ratios_are_those_of_a_bootstrap(alive):
    """nats per symbol and its exponential, where long sentences cost more than their length."""
    texts = some_texts(300, seed=1)
    examples = alive.codec.prepare(texts)
    generator = torch.Generator().manual_seed(2)
    symbols = torch.from_numpy(examples.predicted).double()
    noise = torch.randn(300, generator=generator, dtype=torch.float64)
    nats = symbols * 0.8 + 0.1 * symbols.square() + noise
    measured = dataclasses.replace(bounds(alive, examples, samples=1), nll_iw=nats)
    metrics = likelihood_metrics(measured, examples)
    rows = torch.randint(300, (4000, 300), generator=generator)
    characters = torch.tensor([len(text) + 1 for text in texts]).double()
    for name, of, function in (
        ("ppl_token", symbols, torch.exp),
        ("ppl_word", symbols, torch.exp),
        ("bits_per_character", characters, lambda ratio: ratio / math.log(2)),
    ):
        resampled = function(nats[rows].sum(1) / of[rows].sum(1))
        assert metrics[f"{name}_se"] == pytest.approx(resampled.std().item(), rel=0.1)
    resampled = nats[rows].mean(1)
    assert metrics["nll_iw_se"] == pytest.approx(resampled.std().item(), rel=0.1)


@pytest.mark.parametrize(
    ("nats", "expected"), [(5000.0, math.inf), (705.0, math.exp(705)), (math.nan, math.nan)]
)
def test_exponentials_overflow_to_infinity_and_keep_nan(alive, nats, expected):
    examples = alive.codec.prepare(["a b", "c"])
    predicted = torch.from_numpy(examples.predicted).double()
    measured = dataclasses.replace(bounds(alive, examples, samples=1), nll_iw=nats * predicted)
    value = likelihood_metrics(measured, examples)["ppl_token"]
    assert value == pytest.approx(expected, nan_ok=True)


def test_planted_collapse_is_seen(texts, alive, collapsed):
    metrics = report(collapsed, texts)
    assert metrics["kl"] < 1e-3
    assert metrics["active_units"] == metrics["active_units_se"] == 0
    assert abs(metrics["mutual_information"]) < 3 * metrics["mutual_information_se"] + 1e-4
    assert metrics["swap_gap"] == 0
    assert not metrics["mutual_information_saturated"]
    metrics = report(alive, texts)
    assert metrics["active_units"] == metrics["latent_size"] == 4
    assert metrics["mutual_information"] > 2
    assert metrics["swap_gap"] > 5 * metrics["swap_gap_se"]


def test_a_saturated_information_is_flagged(alive):
    few = ["a a a", "b b b", "c c c", "d d d"]
    alive.log_variance = -8.0
    metrics = report(alive, few)
    assert metrics["mutual_information_saturated"]
    assert metrics["mutual_information"] <= metrics["mutual_information_limit"] + 1e-9


def test_the_aggregate_is_that_of_samples(texts, alive):
    examples = alive.codec.prepare(texts)
    measured = bounds(alive, examples, samples=1)
    metrics = latent_metrics(alive, measured)
    torch.manual_seed(0)
    z = measured.posterior.rsample(2000).flatten(0, 1)
    spread = torch.tensor(metrics["aggregate_standard_deviation"])
    torch.testing.assert_close(spread, z.std(0, correction=0), rtol=5e-3, atol=0)
    centre = torch.tensor(metrics["aggregate_mean"])
    torch.testing.assert_close(centre, z.mean(0), rtol=0, atol=0.01)
    assert metrics["mean_standard_deviation"] == pytest.approx(math.exp(-1), rel=1e-5)
    assert metrics["standard_deviation_per_dimension"] == pytest.approx([math.exp(-1)] * 4)
    norm = measured.posterior.mean.square().sum(1).mean().item()
    assert metrics["mean_squared_norm"] == pytest.approx(norm)


def test_text_that_comes_back(texts, alive):
    distinct = [" ".join(pair) for pair in itertools.combinations(WORDS.split(), 2)]
    alive.memory = distinct
    metrics = report(alive, distinct, texts=20)
    assert metrics["texts"] == 20
    assert metrics["exact_match"] == 1
    assert metrics["bleu"] == pytest.approx(100)
    alive.memory = distinct[:1]  # every latent gives one and the same text
    metrics = report(alive, distinct, texts=20)
    assert metrics["exact_match"] == pytest.approx(1 / 20)
    assert metrics["prior_unique"] == pytest.approx(1 / 2)  # in groups of two
    assert metrics["data_unique"] == 1
    assert metrics["bleu"] < 100


def test_reports_are_plain_data_that_a_seed_reproduces(texts, alive):
    few = texts[:30]
    first = report(alive, few, texts=10, seed=4)
    torch.manual_seed(77)
    again = report(alive, few, texts=10, seed=4)
    assert json.dumps(first) == json.dumps(again)
    assert report(alive, few, texts=10, seed=5)["nll_iw"] != first["nll_iw"]


def test_one_sentence_has_numbers_and_no_errors(alive):
    metrics = report(alive, ["a b"], texts=1)
    assert metrics["ppl_token"] == pytest.approx(math.exp(metrics["nll_iw"] / 3))
    assert metrics["swap_gap"] is None
    assert metrics["mutual_information"] == pytest.approx(0, abs=1e-6)
    assert not metrics["mutual_information_saturated"]
    errors = {name: value for name, value in metrics.items() if name.endswith("_se")}
    assert len(errors) > 10
    assert set(errors.values()) == {None}


def test_a_model_without_a_latent_is_measured_exactly():
    texts = some_texts(40)
    model = WordModel(texts, latent_size=0)
    metrics = report(model, texts, texts=5, samples=50)
    assert metrics["nll_iw"] == pytest.approx(metrics["reconstruction"], abs=1e-5)
    assert metrics["kl"] == metrics["mutual_information"] == metrics["active_units"] == 0
    assert metrics["swap_gap"] == 0
    assert metrics["ppl_token"] == pytest.approx(model.vocabulary, rel=1e-4)
    assert metrics["mean_standard_deviation"] is None
    assert "exact_match" not in metrics
    assert metrics["legacy"]["optimus_mutual_information"] == 0
