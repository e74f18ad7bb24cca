"""What texts look like: words or none, which tokens suit, how long, how many copies."""

from __future__ import annotations

import random

import pytest

from isthmus.data import scenes
from isthmus.data.profile import profile

WORDS = [f"{start}{end}" for start in "bdfgklmnprst" for end in ("a", "eno", "ilu", "orasta")]


def lines(count: int, least: int, most: int, join: str = " ", words=WORDS) -> list[str]:
    draw = random.Random(0)
    return [join.join(draw.choices(words, k=draw.randint(least, most))) for _ in range(count)]


def test_words_that_all_occur_often_are_tokens():
    looks = profile([sentence.text for sentence in scenes.generate("train", 3000)])
    assert looks.tokenizer == "word"
    assert 100 < looks.vocabulary_size < 1000
    assert looks.script == "LATIN"
    assert abs(looks.length - looks.words) < 2  # a word is a token


def test_rare_words_ask_for_byte_pairs():
    rare = [f"{line} {place * 7919:x}" for place, line in enumerate(lines(2000, 4, 8))]
    looks = profile(rare)
    assert looks.tokenizer == "bpe"
    assert looks.has_words
    assert looks.length > looks.words  # what is rare has several tokens


@pytest.mark.parametrize(
    ("texts", "script"),
    [
        (lines(500, 10, 60, "", list("ACDEFGHIKLMNPQRSTVWY")), "LATIN"),
        (lines(500, 4, 30, "", [chr(0x4E00 + place) for place in range(900)]), "CJK"),
    ],
)
def test_strings_without_spaces(texts, script):
    looks = profile(texts)
    assert looks.script == script
    assert not looks.has_words
    assert looks.tokenizer == "bpe"
    # Each sign of a large script can be a token, and an alphabet needs no more than its pairs.
    assert looks.vocabulary_size == (512 if script == "LATIN" else 256 + 5 + looks.characters)


def test_copies_labels_and_lengths_are_counted():
    texts = ["a b"] * 60 + ["a b a"] * 39 + ["b " * 50]
    looks = profile(texts, ["x", None] * 50)
    assert looks.copies == pytest.approx(0.97)
    assert looks.labels == 1
    assert (looks.length, looks.longest, looks.tokens) == (2, 50, 120 + 117 + 50)
    assert profile(texts, ["x", None] * 50) == looks


def test_a_vocabulary_of_byte_pairs_grows_with_the_text():
    sizes = []
    for count in (100, 2_000, 11_000):
        rare = [f"{line} {place * 7919:x}" for place, line in enumerate(lines(count, 4, 8))]
        sizes.append(profile(rare).vocabulary_size)
    assert sizes == [512, 512, 2048]
