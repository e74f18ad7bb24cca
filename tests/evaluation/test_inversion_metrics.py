"""Figures of inverted vectors against hand-counted and brute-force values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from given_vectors import corpus, made, vectors_of
from isthmus.evaluation.inversion import Known, inversion_metrics, nearest, token_f1
from isthmus.models.inversion import Inverted, latents_of


def test_token_f1_counts_words_as_often_as_they_occur():
    found = token_f1(["a a b c", "a b", "x", ""], ["a b b d", "b a", "y", ""])
    assert found.tolist() == pytest.approx([2 * 2 / 8, 1.0, 0.0, 1.0])


def test_nearest_is_a_search_over_all_cosines():
    draw = np.random.default_rng(0)
    rows, queries = draw.normal(size=(500, 5)), torch.tensor(draw.normal(size=(7, 5)))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    want = np.argsort(-(queries.numpy() @ unit.T), axis=1)[:, :3]
    assert np.array_equal(nearest(queries, rows, 3).numpy(), want)


def test_the_report_compares_three_ways_and_their_pairs():
    texts = corpus(60)
    model = made(texts, latent_size=3, latent_dropout=0.2).eval()
    known = Known(texts[20:], np.stack([text.vector for text in texts[20:]]))
    some = texts[:20]
    vectors = torch.tensor(vectors_of(some)).float()
    first = ["a b c"] * 20
    found = Inverted(
        [str(text) for text in some],
        first,
        torch.ones(20),
        torch.cosine_similarity(torch.tensor(vectors_of(first)).float(), vectors),
        vectors,
    )
    metrics = inversion_metrics(model, vectors, found, some, known)
    assert metrics["token_f1"] == metrics["exact_match"] == metrics["cosine"] == 1
    assert metrics["way"] == pytest.approx(1)
    assert metrics["neighbours_kept"] == 1
    gain = 1 - token_f1(some, first)
    assert metrics["token_f1_gain"] == pytest.approx(gain.mean().item())
    assert metrics["token_f1_gain_se"] == pytest.approx((gain.std() / 20**0.5).item())
    place = nearest(vectors, known.vectors)[:, 0]
    ruler = token_f1(some, [known.texts[n] for n in place])
    assert metrics["nearest_token_f1"] == pytest.approx(ruler.mean().item())
    own = model.terms(some).reconstruction.mean().item()
    assert metrics["nats"] == pytest.approx(own, rel=1e-5)
    difference = metrics["nats_without"] - metrics["nats"]
    assert metrics["nats_in_vector"] == pytest.approx(difference)
    assert latents_of(model, vectors).shape == (20, 3)


def test_there_is_no_way_where_training_texts_are_the_texts_themselves():
    texts = corpus(60)
    model = made(texts, latent_size=3).eval()
    vectors = torch.tensor(vectors_of(texts)).float()
    own, known = [str(text) for text in texts], Known(texts, vectors.numpy())
    found = Inverted(own, own, torch.ones(60), torch.ones(60), vectors)
    assert "way" not in inversion_metrics(model, vectors, found, texts, known)


def test_without_an_encoder_only_what_is_known_is_reported():
    texts = corpus(60)
    model = made(texts, latent_size=3).eval()
    vectors = torch.tensor(vectors_of(texts[:5])).float()
    metrics = inversion_metrics(model, vectors, Inverted(["a"] * 5, ["a"] * 5), texts[:5])
    assert "cosine" not in metrics
    assert "nats_without" not in metrics  # its training hid no latent
    assert metrics["token_f1"] == pytest.approx(token_f1(texts[:5], ["a"] * 5).mean().item())
