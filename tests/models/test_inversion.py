"""Vectors back to texts: edits, correction by an encoder, and its mistakes in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from given_vectors import corpus, made, vectors_of
from isthmus.errors import IsthmusError
from isthmus.models import inversion
from isthmus.models.build import build
from isthmus.models.inversion import Edit, edits, invert, word_starts
from isthmus.settings import Settings, TextDataSettings
from tiny import make


def test_edits_are_all_texts_one_token_away_the_most_probable_first(monkeypatch):
    monkeypatch.setattr(inversion, "NOISE", 0.0)
    log_p = torch.tensor(
        [[-9.0, -1.0, -2.0, -5.0], [-9.0, -3.0, -1.0, -7.0], [-0.5, -6.0, -7.0, -8.0]]
    )
    words = [True] * 4
    found = [head + tail for head, tail, _ in edits([1, 2], log_p, 100, words)]
    assert len({tuple(row) for row in found}) > 10
    for row in found:
        assert row != [1, 2]
        assert len(row) in (1, 2, 3)
    assert [2, 2] in found  # replaced: −2 − (−1)
    assert [1] in found  # left out
    assert [2, 1] in found  # exchanged
    assert [1, 1, 2] in found  # put in
    assert found.index([2, 2]) < found.index([3, 2])
    some = edits([1, 2], log_p, 100, words, banned=(3,))
    assert all(3 not in head + tail for head, tail, _ in some)


def test_words_of_several_tokens_are_edited_whole():
    """Tokens 1 and 3 begin words; the text is the word 1 2 and the word 3."""
    found = edits([1, 2, 3], torch.zeros(4, 4), 1000, [False, True, False, True])
    assert Edit([3], [3], True) in found  # the first word, replaced by one that begins with 3
    assert Edit([1, 1], [3], True) in found  # … by one that begins as it does
    assert Edit([1, 2, 1], [3], True) in found  # a new word between the two
    assert Edit([], [3], False) in found
    assert Edit([3, 1, 2], [], False) in found  # exchanged
    assert all(tail in ([], [3], [1, 2, 3]) for _, tail, _ in found)


def test_tokens_that_begin_words_are_those_with_a_space_before_them():
    plain = ["the cat sat on the mat", "a dog ran after a cat", "the dog sat"] * 20
    byte = Settings(data=TextDataSettings(tokenizer="bpe", vocabulary_size=290))
    codec = build(byte, plain).codec
    names = codec.decoder_tokenizer.convert_ids_to_tokens(range(len(codec.decoder_tokenizer)))
    begins = word_starts(codec)
    assert 0 < sum(begins[5:]) < len(begins[5:])
    assert begins[5:] == [len(name) > 1 and name[0] == "Ġ" for name in names[5:]]
    assert all(word_starts(made(corpus()).codec))  # of words alone


def test_a_decoder_that_writes_nothing_at_first_is_corrected_too():
    texts = corpus(40)
    model = made(texts, "copy", latent_size=3).eval()
    with torch.no_grad():  # all tokens are equally probable, and the first of them is padding
        model.decoder.model.get_output_embeddings().weight.zero_()
    found = invert(model, vectors_of(texts[:4]), vectors_of, rounds=4)
    assert found.first == [""] * 4
    assert found.first_cosines.tolist() == [0.0] * 4
    assert all(found.texts)
    assert (found.cosines > 0.5).all()


def test_the_scale_of_a_vector_does_not_steer_the_search():
    texts = corpus(40)
    model = made(texts, "copy", latent_size=3).eval()
    small = lambda some: 0.1 * vectors_of(some)  # noqa: E731
    found = invert(model, vectors_of(texts[:4]), small, rounds=3)
    assert found.cosines.mean() > 0.98


@pytest.mark.parametrize(
    ("vectors", "embed", "message"),
    [
        (np.ones((2, 3)), None, "got 3 numbers each, and this model was trained on vectors of 4"),
        (np.ones((2, 4)), lambda some: np.ones((len(some), 5)), "encoder: gave vectors of shape"),
        (np.ones((2, 4)), lambda some: np.ones((1, 4, 1)), "expected vectors in rows"),
        ([[1, 2, 3, np.nan]], None, "hold NaN"),
    ],
)
def test_vectors_of_another_encoder_are_one_line(vectors, embed, message):
    with pytest.raises(IsthmusError, match=message):
        invert(made(corpus(40)), vectors, embed)


def test_a_model_that_reads_tokens_place_by_place_is_one_line():
    model = make("llama", "aligned", encoder="modernbert", pooling="blocks", latents=4)
    with pytest.raises(IsthmusError, match="no head on one vector"):
        invert(model, np.ones((1, 16)))
