"""The choice of settings: a pure function that gives every kind of text something sensible."""

from __future__ import annotations

import dataclasses

import pytest

from isthmus.data.choice import LONGEST, NETWORKS, Machine, choose, reasons
from isthmus.data.profile import Profile
from isthmus.settings import with_changes

SENTENCES = Profile(
    texts=160_000,
    copies=0.03,
    script="LATIN",
    words=9.0,
    characters=80,
    labels=2,
    tokenizer="bpe",
    vocabulary_size=4096,
    length=11,
    longest=22,
    tokens=1_760_000,
)
LAPTOP = Machine("2 cores", 2e11)


def like(texts: int = 160_000, length: int = 11, **changes) -> Profile:
    sizes = {"texts": texts, "length": length, "longest": 2 * length, "tokens": texts * length}
    return dataclasses.replace(SENTENCES, **sizes | changes)


PROFILES = {
    "200 lines": like(200, vocabulary_size=512),
    "2,000 lines": like(2_000, vocabulary_size=1024),
    "160,000 lines": SENTENCES,
    "documents": like(5_000, 280),
    "molecules": like(250_000, 24, words=0.0, characters=26, vocabulary_size=512),
    "one letter": like(50, 1, words=0.0, characters=1, vocabulary_size=512, script=""),
}


@pytest.mark.parametrize("name", PROFILES)
def test_every_kind_of_text_gets_a_choice_that_fits(name):
    looks = PROFILES[name]
    settings = choose(looks, LAPTOP, 10)
    assert settings == choose(looks, LAPTOP, 10)
    assert settings.train.minutes == 10
    data, train = settings.data, settings.train
    assert data.vocabulary_size == looks.vocabulary_size
    assert min(looks.longest + 2, LONGEST) <= data.maximum_length <= LONGEST
    assert train.tokens_per_batch >= 8 * min(looks.longest + 2, data.maximum_length)
    assert train.tokens_per_batch <= max(2048, 16 * data.maximum_length)
    lines = reasons(settings, looks, LAPTOP)
    assert len(lines) == 3
    assert f"{looks.texts:,} texts" in lines[0]
    assert f"{data.maximum_length} are read" in lines[1]
    assert f"width {settings.model.decoder.hidden_size}," in lines[2]


def width(looks: Profile, machine: Machine = LAPTOP, minutes: float = 10) -> int:
    return choose(looks, machine, minutes).model.decoder.hidden_size


def test_more_time_or_a_faster_machine_never_gives_a_smaller_network():
    by_time = [width(SENTENCES, minutes=minutes) for minutes in (0.1, 2, 10, 60, 600)]
    by_speed = [width(SENTENCES, Machine("a GPU", speed)) for speed in (1e9, 1e11, 1e13, 1e15)]
    for widths in (by_time, by_speed):
        assert widths == sorted(widths)
        assert widths[0] == NETWORKS[0].width
        assert widths[-1] == NETWORKS[-1].width


def test_few_texts_get_a_small_network_however_fast_the_machine():
    fast = Machine("a GPU", 1e15)
    assert width(PROFILES["200 lines"], fast) < width(PROFILES["2,000 lines"], fast)
    assert width(PROFILES["2,000 lines"], fast) < width(SENTENCES, fast)


def test_longer_texts_get_more_room():
    sizes = [choose(like(length=n), LAPTOP, 10).model.latent_size for n in (4, 12, 28, 200)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_reasons_are_those_of_the_settings_that_the_user_changed():
    settings = choose(SENTENCES, LAPTOP, 10)
    changes = {"model": {"latent_size": 7, "labels": "given"}, "train": {"steps": 300}}
    first, second, third = reasons(with_changes(settings, changes, "test"), SENTENCES, LAPTOP)
    assert "labels" not in first
    assert "2 labels are not used" in reasons(settings, SENTENCES, LAPTOP)[0]
    assert "4 of them a summary, of 7 numbers" in second
    assert "300 steps, at most 10 minutes" in third


def test_few_texts_are_not_learned_by_heart():
    few, some, many = (choose(like(count), LAPTOP, 10) for count in (300, 5_000, 160_000))
    tied = [one.model.decoder.options["tie_word_embeddings"] for one in (few, some, many)]
    assert tied == [True, False, False]
    assert [one.data.word_dropout > 0 for one in (few, some, many)] == [True, True, False]
    assert [one.model.decoder.dropout > 0 for one in (few, some, many)] == [True, True, False]


def test_the_vocabulary_is_sampled_where_that_saves_most_of_it():
    small, large = (choose(like(vocabulary_size=size), LAPTOP, 10) for size in (2_048, 9_500))
    assert small.train.sampled_vocabulary == 0
    assert 0 < large.train.sampled_vocabulary < 9_500 / 4
    # What is not computed leaves room for width: all 40,000 words would cost it here.
    fast = Machine("many cores", 1e12)
    assert width(like(vocabulary_size=40_000), fast) == width(like(vocabulary_size=9_500), fast)
