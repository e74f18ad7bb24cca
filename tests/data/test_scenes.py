"""The built-in corpus: its probabilities, entropies and parses are exact."""

import math
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import scenes
from isthmus.data.scenes import Choice, Factor, Given, Grammar
from isthmus.errors import IsthmusError

KEYS = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.sampled_from(scenes.SPLITS))
TEXT = "a blue house is below two little red cats in the meadow"


@pytest.fixture(scope="module")
def everything():
    """Every derivation of the tiny grammar."""
    return list(scenes.TINY.enumerate())


@pytest.fixture(scope="module")
def sample():
    return scenes.generate("train", 60_000, seed=3)


def plogp(probabilities):
    return -math.fsum(p * math.log(p) for p in probabilities)


def marginal(sentences, label):
    totals = Counter()
    for sentence in sentences:
        totals[label(sentence)] += math.exp(sentence.log_probability)
    return totals


def test_tiny_grammar_sums_to_one_with_one_derivation_for_each_text(everything):
    assert math.fsum(math.exp(s.log_probability) for s in everything) == pytest.approx(
        1, abs=1e-12
    )
    assert len({s.text for s in everything}) == len(everything)
    for sentence in everything[::17]:
        (parsed,) = scenes.TINY.derivations(sentence.text)
        assert parsed.factors == sentence.factors
        assert parsed.log_probability == pytest.approx(sentence.log_probability, abs=1e-12)


def test_tiny_entropies_equal_the_enumeration(everything):
    exact = scenes.TINY.entropy
    p = np.exp([s.log_probability for s in everything])
    nats = -np.log(p)
    words = np.array([len(s.text.split()) for s in everything])
    total = (p * nats).sum()
    scene = plogp(marginal(everything, lambda s: tuple(s.factors.values())).values())
    assert exact.nats_per_sentence == pytest.approx(total, abs=1e-10)
    assert exact.scene == pytest.approx(scene, abs=1e-10)
    assert exact.wording == pytest.approx(total - scene, abs=1e-10)
    assert exact.standard_deviation == pytest.approx(
        math.sqrt((p * (nats - total) ** 2).sum()), abs=1e-7
    )
    assert exact.mean_words == pytest.approx((p * words).sum(), abs=1e-10)
    assert exact.nats_per_word == pytest.approx(total / (p * words).sum(), abs=1e-10)
    assert exact.nats_per_token == pytest.approx(total / (p * (words + 1)).sum(), abs=1e-10)
    assert exact.repeat_probability == pytest.approx((p**2).sum(), rel=1e-10)
    assert exact.sentences == len(everything)
    for name, entropy in exact.factors.items():
        values = marginal(everything, lambda s, name=name: s.factors[name]).values()
        assert entropy == pytest.approx(plogp(values), abs=1e-10), name


def test_entropies_of_a_grammar_worked_out_by_hand():
    grammar = Grammar(
        [Factor("who", {"i": 1, "you": 3})],
        (
            Given("who", {"i": "i", "you": "you"}),
            Given("who", {"i": Choice("see", "look at", weights=[1, 7]), "you": "see"}),
        ),
    )
    exact = grammar.entropy
    p = [1 / 32, 7 / 32, 3 / 4]
    assert exact.nats_per_sentence == pytest.approx(plogp(p))
    assert exact.scene == exact.factors["who"] == pytest.approx(plogp([1 / 4, 3 / 4]))
    assert exact.wording == pytest.approx(plogp([1 / 8, 7 / 8]) / 4)
    assert exact.mean_words == pytest.approx(2 + 7 / 32)
    assert exact.sentences == 3
    assert exact.standard_deviation == pytest.approx(
        math.sqrt(sum(q * math.log(q) ** 2 for q in p) - plogp(p) ** 2)
    )
    assert grammar.log_probability("i look at") == pytest.approx(math.log(7 / 32))
    assert grammar.log_probability("you look at") == -math.inf


def test_sample_agrees_with_the_exact_entropies(sample):
    exact = scenes.entropy()
    nats = -np.array([s.log_probability for s in sample])
    prior = {f.name: f for f in scenes.WORLD.factors}
    scene = np.array(
        [-sum(math.log(f.probability(s.factors)) for f in prior.values()) for s in sample]
    )
    words = np.array([len(s.text.split()) for s in sample])
    for values, expected in (
        (nats, exact.nats_per_sentence),
        (scene, exact.scene),
        (nats - scene, exact.wording),
        (words, exact.mean_words),
    ):
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - expected) < 3 * error
    spread = ((nats - nats.mean()) ** 2).std() / math.sqrt(len(nats))
    assert abs(nats.var() - exact.standard_deviation**2) < 3 * spread


def test_sample_has_the_factors_in_their_proportions(sample):
    for factor in scenes.WORLD.factors:
        counts = Counter(
            s.factors[factor.name] for s in sample if s.factors[factor.name] != "none"
        )
        total = sum(counts.values())
        chi_square = sum(
            (counts[value] - total * weight) ** 2 / (total * weight)
            for value, weight in factor.weights.items()
        )
        freedom = len(factor.weights) - 1
        assert chi_square < freedom + 4 * math.sqrt(2 * freedom), factor.name
        assert set(counts) == set(factor.weights)


def test_repeats_are_as_frequent_as_stated(sample):
    pairs = len(sample) * (len(sample) - 1) / 2
    repeats = sum(n * (n - 1) / 2 for n in Counter(s.text for s in sample).values())
    expected = pairs * scenes.entropy().repeat_probability
    assert abs(repeats - expected) < 4 * math.sqrt(expected)


@given(KEYS)
def test_every_sentence_has_one_derivation_and_gives_back_its_factors(key):
    sentence = scenes.sentence(*key)
    (parsed,) = scenes.WORLD.derivations(sentence.text)
    assert parsed.factors == sentence.factors == scenes.factors(sentence.text)
    assert parsed.log_probability == pytest.approx(sentence.log_probability, abs=1e-9)
    assert scenes.log_probability(sentence.text) == parsed.log_probability


@given(KEYS, st.integers(1, 40), st.data())
def test_a_sentence_does_not_depend_on_how_it_is_asked_for(key, count, data):
    seed, start, split = key
    several = scenes.generate(split, count, seed, start)
    offset = data.draw(st.integers(0, count - 1))
    assert scenes.sentence(seed, start + offset, split) == several[offset]


def test_blocks_join_without_a_seam(sample):
    border = scenes.grammar.BLOCK
    across = scenes.generate("train", border + 5, seed=3)
    assert across[border - 5 :] == scenes.generate("train", 10, seed=3, start=border - 5)
    assert across[:1000] == sample[:1000]
    assert scenes.generate("train", 0) == []


def test_the_stream_is_pinned_and_splits_and_seeds_differ():
    assert (
        scenes.sentence(0, 0).text
        == "yesterday there were two orange birds right of an orange tree in the meadow"
    )
    firsts = {
        tuple(s.text for s in scenes.generate(split, 3, seed))
        for split in scenes.SPLITS
        for seed in (0, 1)
    }
    assert len(firsts) == 6


def test_corpus_is_of_the_announced_kind(sample):
    exact = scenes.entropy()
    assert 15 < exact.nats_per_sentence < 17
    assert exact.sentences > 1_000_000
    assert 200 <= len(scenes.vocabulary()) <= 400
    assert {word for s in sample for word in s.text.split()} == set(scenes.vocabulary())
    lengths = [len(s.text.split()) for s in sample]
    assert (min(lengths), max(lengths)) == (7, 17)


def test_sentences_agree_in_number_and_article(sample):
    for sentence in sample[:20_000]:
        text, singular = sentence.text, sentence.factors["count"] == "one"
        for article, letter in re.findall(r"\b(an?) (\w)", text):
            assert (article == "an") == (letter in "aeiou"), text
        for verb, word in re.findall(r"\bthere (is|was|are|were) (\w+)", text):
            assert (verb in ("is", "was")) == (word in ("a", "an")) == singular, text
        assert bool(re.search(r"\b(two|three) ", text)) != singular, text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cats",
        TEXT + " ",
        TEXT.capitalize(),
        TEXT + ".",
        TEXT + " today",
        TEXT.replace(" in the meadow", ""),
        TEXT.replace("red", "crimson"),  # another style's word
        TEXT.replace("cats", "cat"),
        TEXT.replace("two", "a"),
        TEXT.replace("a blue", "an blue"),
        TEXT.replace("blue", "orange"),
        TEXT.replace(" is ", "  is "),
        "yesterday there will be two red cats in the meadow",
    ],
)
def test_text_outside_the_grammar_has_probability_zero(text):
    assert scenes.log_probability(TEXT) > -20
    assert scenes.log_probability(text) == -math.inf
    with pytest.raises(IsthmusError, match="one derivation"):
        scenes.factors(text)


def test_a_scene_is_the_same_from_either_side():
    other = "two small red cats sit above a blue house in the meadow"
    assert scenes.factors(other) == scenes.factors(TEXT)
    texts = [s.text for s in scenes.WORLD.wordings(scenes.factors(TEXT))]
    assert other in texts
    assert TEXT in texts
    assert len(texts) == len(set(texts)) == 12
    assert scenes.log_probability(other) == scenes.log_probability(TEXT)


def test_ambiguity_is_detected():
    twice = Grammar([], Choice("a b", ("a", Choice("b", "c"))))
    assert len(twice.derivations("a b")) == 2
    assert twice.log_probability("a b") == pytest.approx(math.log(3 / 4))
    with pytest.raises(IsthmusError, match="with 2"):
        twice.parse("a b")
    hidden = Grammar([Factor("mood", {"glad": 1, "sad": 1})], "hello")
    assert [s.factors["mood"] for s in hidden.derivations("hello")] == ["glad", "sad"]


def test_a_faulty_grammar_is_refused():
    with pytest.raises(IsthmusError, match="'hue'"):
        Grammar([], Given("hue", {"red": "red"}))
    with pytest.raises(IsthmusError, match="no case"):
        Grammar([Factor("hue", {"red": 1, "blue": 1})], Given("hue", {"red": "red"}))
    with pytest.raises(IsthmusError, match="declared before"):
        Grammar([Factor("hue", {"red": 1}, unless=("kind", "air"))], "x")
    with pytest.raises(IsthmusError, match="splits train, valid, test"):
        scenes.generate("dev", 1)
    with pytest.raises(IsthmusError, match="seed must"):
        scenes.generate("test", 1, seed=-1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"colour": "orange"}, "a blue house is below two little orange cats in the meadow"),
        (
            {"landmark_colour": "orange"},
            "an orange house is below two little red cats in the meadow",
        ),
        ({"count": "one"}, "a blue house is below a little red cat in the meadow"),
        ({"size": "large"}, "a blue house is below two big red cats in the meadow"),
        ({"tense": "future"}, "a blue house will be below two little red cats in the meadow"),
        ({"place": "city"}, "a blue house is below two little red cats in the city"),
        ({"relation": "left"}, "a blue house is right of two little red cats in the meadow"),
    ],
)
def test_counterpart_changes_one_thing(changes, expected):
    assert scenes.counterpart(TEXT, **changes) == expected


@given(KEYS, st.data())
def test_counterpart_and_back_is_the_same_sentence(key, data):
    text, factors, _ = scenes.sentence(*key)
    factor = data.draw(st.sampled_from([f for f in scenes.WORLD.factors[:7] if f.name != "size"]))
    value = data.draw(st.sampled_from(factor.values))
    changed = scenes.counterpart(text, **{factor.name: value})
    assert scenes.factors(changed) == factors | {factor.name: value}
    assert scenes.counterpart(changed, **{factor.name: factors[factor.name]}) == text


def test_counterpart_refuses_an_impossible_scene():
    alone = scenes.counterpart(TEXT, relation="alone")
    assert scenes.factors(alone)["landmark"] == "none"
    with pytest.raises(IsthmusError, match="'landmark_colour' cannot be 'none'"):
        scenes.counterpart(alone, relation="left")


def test_the_corpus_needs_no_heavy_library():
    code = "import sys, isthmus.data.scenes; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
