"""A space as a model of sentence-transformers, in that library's own hands."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import isthmus
from tiny import TEXTS, system

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    from sentence_transformers import util

PLAIN = "gpt2-memory+embedding"


@pytest.mark.parametrize("name", [PLAIN, "grid", "llama-summary", "labels-both"])
def test_its_vectors_are_those_of_the_space(name):
    space = isthmus.Space(system(name))
    model = space.as_sentence_transformer()
    assert isinstance(model, library.SentenceTransformer)
    found = model.encode(TEXTS, batch_size=2)
    assert np.allclose(found, space.embed(TEXTS), atol=1e-5)
    assert np.allclose(model.encode(TEXTS[0]), space.embed(TEXTS[0]), atol=1e-5)
    assert model.get_embedding_dimension() == found.shape[1]
    assert np.allclose(model.encode("c", prompt="a b "), space.embed("a b c"), atol=1e-5)


def test_semantic_search_finds_each_text_first():
    model = isthmus.Space(system(PLAIN)).as_sentence_transformer()
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    hits = util.semantic_search(vectors, vectors, top_k=1)
    assert [row[0]["corpus_id"] for row in hits] == list(range(len(TEXTS)))
    similarities = model.similarity(vectors[:2], vectors)
    assert torch.equal(similarities.argmax(1), torch.tensor([0, 1]))


def test_it_is_saved_as_a_run_and_loaded_by_both_libraries(tmp_path):
    space = isthmus.Space(system(PLAIN))
    space.as_sentence_transformer().save(str(tmp_path / "model"))
    with pytest.raises(ValueError, match="trust_remote_code"):
        library.SentenceTransformer(str(tmp_path / "model"))
    again = library.SentenceTransformer(str(tmp_path / "model"), trust_remote_code=True)
    assert np.allclose(again.encode(TEXTS), space.embed(TEXTS), atol=1e-5)
    assert np.array_equal(isthmus.Space.load(tmp_path / "model").embed(TEXTS), space.embed(TEXTS))


def test_a_space_of_pictures_is_none():
    with pytest.raises(isthmus.IsthmusError, match="space of pictures, expected of texts"):
        isthmus.Space(system("picture")).as_sentence_transformer()


def test_a_space_that_reads_vectors_is_none():
    vectors = np.eye(4)[np.arange(20) % 4]
    texts = [TEXTS[n % len(TEXTS)] for n in range(20)]
    model = {"latent_size": 3, "decoder": {"layers": 1, "hidden_size": 16, "heads": 2}}
    train = {"steps": 2, "evaluations": 1, "fit_prior": 0.0}
    space = isthmus.fit(texts, embeddings=vectors, model=model, train=train)
    with pytest.raises(isthmus.IsthmusError, match="reads vectors in place of texts"):
        space.as_sentence_transformer()
