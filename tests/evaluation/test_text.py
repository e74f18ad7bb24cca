"""Text metrics on cases counted by hand."""

import math

import pytest
import torch

from isthmus.data.profile import has_words
from isthmus.evaluation.text import bleu, distinct, exact_match, unique

LONG = [
    "a small red circle stands here",
    "two large blue squares stand there",
    "no shape at all is left",
]


def test_exact_match_counts_word_for_word():
    estimate = exact_match(["a b", "a  b", "a b", "c"], ["a b", "a b ", "b a", "c c"])
    assert estimate.value == 0.5
    assert estimate.standard_error == pytest.approx(math.sqrt(1 / 3) / 2)


def test_texts_and_reconstructions_must_be_as_many():
    with pytest.raises(ValueError, match="shorter"):
        exact_match(["a", "b"], ["a"])


def test_bleu_of_equal_texts_is_100():
    estimate = bleu(LONG, LONG)
    assert estimate.value == pytest.approx(100)
    assert estimate.standard_error == pytest.approx(0, abs=1e-6)
    assert bleu(LONG[:1], LONG[:1]).standard_error is None


def test_bleu_of_equal_texts_without_four_words_is_100():
    assert bleu(["a b", "c d e"], ["a b", "c d e"]).value == pytest.approx(100)


def test_bleu_golden_value():
    """Precisions 5/6, 3/5, 2/4, 1/3 and no brevity penalty."""
    estimate = bleu(["a b c d e f"], ["a b c d x f"])
    assert estimate.value == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert bleu(["a b c d e f"], ["a b c d"]).value == pytest.approx(100 * math.exp(1 - 6 / 4))
    assert bleu(LONG, ["", "", ""]).value == 0


def test_bleu_error_is_that_of_fresh_sentences():
    generator = torch.Generator().manual_seed(0)

    def corpus(count):
        texts = [" ".join(map(str, range(i, i + 8))) for i in range(count)]
        broken = torch.rand(count, generator=generator) < 0.3
        spoilt = [f"x y {t[:4]} z" if bad else t for t, bad in zip(texts, broken, strict=True)]
        return texts, spoilt

    estimates = [bleu(*corpus(60)) for _ in range(20)]
    spread = torch.tensor([estimate.value for estimate in estimates]).std().item()
    error = sum(estimate.standard_error for estimate in estimates) / 20
    assert 0.5 * spread < error < 1.7 * spread


def test_distinct_by_hand():
    assert distinct(["a b a b"], 1).value == 2 / 4
    assert distinct(["a b a b"], 2).value == 2 / 3  # ab, ba, ab
    assert distinct(["a", ""], 2).value == 0
    # Two groups of one text each: no n-gram is shared across texts or groups.
    assert distinct(["a a", "a b"], 1).value == (1 / 2 + 1) / 2
    # Twenty texts, ten groups of two.
    assert distinct(["a b", "a c"] * 10, 1).value == 3 / 4
    assert distinct(["a b", "a c"] * 10, 1).standard_error == 0


@pytest.mark.parametrize("count", [1, 9, 10, 11, 25, 101])
def test_groups_are_of_even_size_and_hold_every_text(count):
    """All texts equal: a group of n has the share 1/n, so that the groups can be read off."""
    groups = min(10, count)
    sizes = [count // groups + (group < count % groups) for group in range(groups)]
    estimate = unique(["same"] * count)
    assert estimate.value == pytest.approx(sum(1 / size for size in sizes) / groups)
    assert estimate.count == count
    assert (estimate.standard_error is None) == (count == 1)
    assert unique([str(text) for text in range(count)]).value == 1


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (LONG, True),
        (["Donaudampfschifffahrt ist ein langes Wort"], True),
        (["ein Wort", "wort", "noch ein Wort"], True),
        (["我昨天去了学校,今天在家", "他不在"], False),
        (["我昨天去了学校 今天在家里", "他今天不在 明天再来"], False),
        (["我 昨天 去 了 学校", "他 今天 不在"], True),
        (["QVQLVESGGGLVQPGGSLRLSCAAS", "EVQLLESGGGLVQ"], False),
        (["ACGTACGGT" * 5, "GGTACC" * 9], False),
        (["ACGTACGGT" * 5 + " " + "GGTACC" * 9] * 3, False),
        (["CC(=O)OC1=CC=CC=C1C(=O)O", "CCO"], False),
        (["anna", "otto", "maria"], False),
    ],
)
def test_a_perplexity_per_word_needs_words(texts, words):
    assert has_words(texts) is words
