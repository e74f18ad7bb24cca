"""Documents: windows that join exactly, walks by sentences, K that varies with the text."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.kind import sampled
from isthmus.data.vectors import Embedded
from isthmus.errors import IsthmusError
from isthmus.evaluation.documents import document_metrics, passes
from isthmus.evaluation.measures import Effort
from isthmus.evaluation.metrics import measured_bounds
from isthmus.evaluation.text import bleu, exact_match
from isthmus.explore.documents import (
    Document,
    decode_document,
    encode_document,
    in_windows,
    joined,
    sentences,
    walk_sentences,
    windows,
)
from isthmus.models.base import encode_examples
from isthmus.models.generation import Generation
from tiny import MAXIMUM_LENGTH, TEXTS, make


@pytest.fixture(scope="module")
def model():
    return make("llama", "aligned", pooling="blocks", latents=5)


@given(words=st.lists(st.sampled_from("abc"), min_size=1, max_size=60), overlap=st.integers(0, 6))
def test_windows_join_exactly_whatever_repeats(model, words, overlap):
    text = " ".join(words)
    parts = windows(model, text, overlap)
    assert joined(parts, overlap) == text
    for part in parts:
        assert len(part.split()) <= MAXIMUM_LENGTH - 2
    assert all(len(part.split()) == MAXIMUM_LENGTH - 2 for part in parts[:-1])


def test_windows_that_came_back_changed_join_where_they_agree():
    assert joined(["a b c d x", "b c d e f"], 4) == "a b c d e f"
    assert joined(["a b c", "x y"], 2) == "a b c"
    assert joined(["a b", "c d"], 0) == "a b c d"


def test_an_overlap_leaves_room_for_a_new_word(model):
    with pytest.raises(IsthmusError, match="more than the overlap of 10"):
        windows(model, "a " * 40, 10)
    with pytest.raises(IsthmusError, match="overlap must be"):
        windows(model, "a", -1)


@torch.no_grad()
def test_a_document_is_its_windows(model):
    text = "a b c b c a " * 5
    document = encode_document(model, text, 3)
    parts = windows(model, text, 3)
    torch.testing.assert_close(document.posterior.mean, model.encode(parts).mean)
    assert decode_document(model, document) == joined(model.decode(document.posterior.mean), 3)
    short = encode_document(model, TEXTS[0])
    assert decode_document(model, short) == " ".join(model.decode(short.posterior.mean)[0].split())


@torch.no_grad()
def test_figures_of_a_document_are_those_of_its_windows(model):
    """Each word is in one window; terms add up; the error is over documents, not over windows."""
    texts = ["a b c b c a " * 5, TEXTS[0], "c b " * 9]
    cut = in_windows(model, texts)
    assert [len(windows(model, text, 0)) for text in texts] == [
        cut.documents.count(place) for place in range(3)
    ]
    assert cut.joined(cut.texts) == [" ".join(text.split()) for text in texts]
    examples = model.codec.prepare(cut.texts)
    assert not examples.decoder_tokens.cut
    effort = Effort(samples=4, texts=2, seed=3)
    measured = measured_bounds(model, examples, effort)
    found = document_metrics(model, measured, examples, cut, effort)
    totals = torch.zeros(3, dtype=torch.double)
    for place, nats in zip(cut.documents, measured.nll_iw.tolist(), strict=True):
        totals[place] += nats
    assert found["document_nll_iw"] == pytest.approx(totals.mean().item())
    assert found["document_nll_iw_se"] == pytest.approx(totals.std().item() / 3**0.5)
    assert found["document_elbo"] == pytest.approx(
        -found["document_reconstruction"] - found["document_kl"]
    )
    chosen = sampled(3, 2, 3)
    greedy = Generation(max_new_tokens=int(examples.predicted.max()))
    back = [
        decode_document(model, Document(model.encode(windows(model, texts[one], 0)), 0), greedy)
        for one in chosen
    ]
    kept = [" ".join(texts[one].split()) for one in chosen]
    assert found["document_exact_match"] == exact_match(kept, back).value
    assert found["document_bleu"] == pytest.approx(bleu(kept, back).value)
    assert passes(cut, 2, 3) == sum(cut.documents.count(one) for one in chosen)


def test_what_reads_more_than_texts_has_no_windows(model):
    with pytest.raises(IsthmusError, match="does not read texts alone"):
        in_windows(model, [Embedded("a b", np.zeros(2))])


@torch.no_grad()
def test_a_walk_changes_one_sentence_a_step(model):
    assert sentences("a b. c! b a") == ["a b.", "c!", "b a"]
    first, last = "a b. c c c.", "b. a a. c b. a"
    own = {
        one: decode_document(model, encode_document(model, one))
        for one in sentences(first) + sentences(last)
    }
    walk = walk_sentences(model, first, last)
    old, new = ([own[one] for one in sentences(text)] for text in (first, last))
    assert walk == [" ".join(new[:s] + old[s:]) for s in range(5)]


@torch.no_grad()
def test_latents_in_use_grow_with_the_text_and_padding_changes_nothing(model):
    """The KL is that of ⌈tokens / n⌉ latents, alone or beside a longer text."""
    texts = ["a", "a b c", "a b c a b c a b c"]
    batch = encode_examples(model, model.read(texts))
    per_latent = batch.kl_to_standard_normal().sum(-1)
    used = (per_latent > 0).sum(1).tolist()
    assert used == sorted(used)
    assert used[0] < used[-1]
    for place, text in enumerate(texts):
        alone = encode_examples(model, model.read([text]))
        torch.testing.assert_close(alone.mean[0], batch.mean[place], atol=1e-5, rtol=1e-5)
        assert (per_latent[place, used[place] :] == 0).all()
        closed = 0.5 * (alone.mean**2 + alone.log_variance.exp() - alone.log_variance - 1)
        total = closed[:, : used[place]].sum()
        torch.testing.assert_close(alone.kl(model.prior).sum(), total)
