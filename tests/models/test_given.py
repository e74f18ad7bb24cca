"""Vectors in the place of an encoder: the head whitens them, the decoder knows their words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from given_vectors import corpus, made, vectors_of
from isthmus.data.vectors import embedded
from isthmus.errors import IsthmusError
from isthmus.models.given import LOG_VARIANCE
from tiny import TEXTS


def test_no_encoder_is_built_and_the_posterior_depends_on_the_vector_alone():
    texts = corpus()
    model = made(texts)
    assert not list(model.encoder.model.parameters())
    same = embedded(["c", "a b"], [texts[3].vector, texts[3].vector])
    first, second = model.encode(same).mean
    assert torch.equal(first, second)
    assert not torch.equal(first, model.encode(texts[:1]).mean[0])


def test_the_head_starts_as_the_whitening_of_the_vectors():
    """Means of 0 and a covariance of λ / (λ + ε), by numpy."""
    texts = corpus(200)
    model = made(texts, latent_size=3)
    posterior = model.encode(texts)
    z = posterior.mean.double().numpy()
    spread = np.linalg.eigvalsh(np.cov(vectors_of(texts).T, bias=True))[::-1]
    want = spread[:3] / (spread[:3] + 0.01 * spread.mean())
    assert np.allclose(z.mean(0), 0, atol=1e-4)
    assert np.allclose(np.cov(z.T, bias=True), np.diag(want), atol=1e-3)
    assert torch.allclose(posterior.log_variance, torch.tensor(LOG_VARIANCE))


def test_a_decoder_starts_by_knowing_the_words_of_a_vector():
    """Before any training the words of a text are more probable under its vector than others."""
    texts = corpus(300)
    model = made(texts, "copy", latent_size=3).eval()
    fresh = made(texts, latent_size=3).eval()
    pure = embedded(["a a a", "b b b", "c c c"], vectors_of(["a", "b", "c"]))
    own = model.terms(pure).reconstruction
    swapped = embedded(["a a a", "b b b", "c c c"], vectors_of(["b", "c", "a"]))
    assert (model.terms(swapped).reconstruction - own > 1).all()
    apart = fresh.terms(swapped).reconstruction - fresh.terms(pure).reconstruction
    assert (apart.abs() < 0.5).all()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a b"], "comes without a vector"),
        (embedded(["a b"], [[1.0, 2.0]]), "got 2 numbers each, and this model was trained on"),
    ],
)
def test_texts_without_their_vector_are_one_line(texts, message):
    model = made(corpus())
    with pytest.raises(IsthmusError, match=message):
        model.encode(texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_size": 5}, "model.latent_size: got 5 numbers in all for vectors of 4"),
        ({"prior": "vamp"}, "model.prior: got vamp, but with --embeddings"),
        ({"encoder": {"source": "x"}}, "model.encoder.source: got x, but with --embeddings"),
        ({"start": "copy", "bridge": "memory"}, "expected a new decoder with"),
    ],
)
def test_settings_that_need_an_encoder_are_one_line(changes, message):
    with pytest.raises(IsthmusError, match=message):
        made(corpus(), **changes)


def test_constant_and_few_vectors_do_no_harm():
    model = made(embedded(TEXTS, np.ones((len(TEXTS), 4))), latent_size=3)
    assert torch.isfinite(model.encode(embedded(["a"], np.ones((1, 4)))).mean).all()
