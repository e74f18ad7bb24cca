"""Vectors back to texts: edits, correction by an encoder, and its mistakes in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from given_vectors import corpus, made, vectors_of
from isthmus.errors import IsthmusError
from isthmus.models import inversion
from isthmus.models.inversion import edits, invert
from tiny import make


def test_edits_are_all_texts_one_token_away_the_most_probable_first(monkeypatch):
    monkeypatch.setattr(inversion, "NOISE", 0.0)
    log_p = torch.tensor(
        [[-9.0, -1.0, -2.0, -5.0], [-9.0, -3.0, -1.0, -7.0], [-0.5, -6.0, -7.0, -8.0]]
    )
    found = edits([1, 2], log_p, 100)
    assert len({tuple(row) for row in found}) > 10
    for row in found:
        assert row != [1, 2]
        assert len(row) in (1, 2, 3)
    assert [2, 2] in found  # replaced: −2 − (−1)
    assert [1] in found  # left out
    assert [2, 1] in found  # exchanged
    assert [1, 1, 2] in found  # put in
    assert found.index([2, 2]) < found.index([3, 2])
    assert all(3 not in row for row in edits([1, 2], log_p, 100, banned=(3,)))


def test_correction_brings_texts_nearer_and_never_further():
    """An untrained decoder writes nonsense; rounds of correction find texts of the vector."""
    texts = corpus(40)
    model = made(texts, "copy", latent_size=3).eval()
    wanted = vectors_of(texts[:8])
    plain = invert(model, wanted)
    assert plain.texts == plain.first
    assert plain.cosines is None
    before = None
    for rounds in (0, 1, 4):
        found = invert(model, wanted, vectors_of, rounds=rounds)
        assert found.first == plain.first
        own = torch.tensor(vectors_of(found.texts)).float()
        assert torch.allclose(
            found.cosines, torch.cosine_similarity(own, torch.tensor(wanted).float()), atol=1e-5
        )
        if before is not None:
            assert found.cosines.mean() > before
        assert (found.cosines >= found.first_cosines - 1e-6).all()
        before = found.cosines.mean()
    assert before > 0.99


def test_the_same_seed_gives_the_same_texts_and_leaves_the_generator_alone():
    texts = corpus(40)
    model = made(texts, "copy", latent_size=3).eval()
    state = torch.random.get_rng_state()
    first = model.invert(vectors_of(texts[:4]), vectors_of, rounds=2, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first == model.invert(vectors_of(texts[:4]), vectors_of, rounds=2, seed=3)


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
