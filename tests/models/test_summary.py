"""Latents in two levels: a summary, and details that can be hidden."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.explore.walks import between, interpolate
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import Mixture
from isthmus.latent.prior_module import StandardNormal, WithDetails
from isthmus.models.base import summarised
from isthmus.models.build import build
from isthmus.models.cooccurrence import token_vectors
from isthmus.models.generation import Generation
from tiny import LABELS, TEXTS, make, settings

SHORT = Generation(max_new_tokens=11)


def levels(**more):
    """Two latents of a summary and six of details."""
    return make(
        "llama", "aligned", pooling="blocks", encoder="modernbert", latents=8, summary=2, **more
    )


def test_the_summary_alone_is_the_model_with_hidden_details():
    model = levels()
    whole = model.encode(TEXTS)
    hidden = whole.mean.clone()
    hidden[:, 2:] = 0
    alone = model.decode(hidden, SHORT)
    assert model.decode(whole.mean[:, :2], SHORT) == alone
    assert model.decode(whole.mean, SHORT) != alone
    with summarised(model):
        summary = model.encode(TEXTS)
        torch.testing.assert_close(summary.mean, whole.mean[:, :2])
        assert model.decode(summary.mean, SHORT) == alone
        kl = model.terms(TEXTS).kl
    both = model.terms(TEXTS)
    torch.testing.assert_close(kl, both.kl[:, :2])
    assert model.latent_shape == (8, 4)


def test_other_threads_and_models_keep_all_latents():
    model, other = levels(), levels()
    with summarised(model), ThreadPoolExecutor(1) as threads:
        assert threads.submit(lambda: model.latent_shape).result() == (8, 4)
        assert other.latent_shape == (8, 4)
        assert model.latent_shape == (2, 4)
        with summarised(other):
            assert other.latent_shape == (2, 4)
        assert model.latent_shape == (2, 4)


def test_the_summary_alone_is_a_distribution_over_texts():
    # −log p(x|z) of every text of at most two words sums, with what is longer, to 1.
    model = levels()
    words = ["a", "b", "c"]
    texts = words + [f"{one} {two}" for one in words for two in words]
    with summarised(model), torch.no_grad():
        z = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0))
        batch = model.codec.prepare(texts).collate(range(len(texts)))
        losses = model.reconstruction(z.expand(len(texts), -1, -1).unsqueeze(0), batch)[0]
    assert 0 < losses.neg().exp().sum() < 1


@torch.no_grad()
def test_training_hides_all_details_or_the_end_or_some_and_never_the_summary():
    model = levels(latent_dropout=0.999).train()
    batch = model.codec.prepare(["a b c a b c a b c a"] * 600).collate(range(600))
    torch.manual_seed(0)
    seen = model.shown(torch.zeros(1, 600, 8, 4), batch).squeeze(-1)
    assert seen[:, :2].all()
    details = seen[:, 2:]  # 11 tokens to predict, two each: all six are in use
    none = ~details.any(1)
    beginning = (details[:, 1:] <= details[:, :-1]).all(1)
    # A uniform place or rate keeps each number of details equally often.
    assert 0.5 < none.double().mean() < 0.66
    assert 0.78 < beginning.double().mean() < 0.9
    kept = details[~none].sum(1).double()
    assert 3 < kept.mean() < 4


def test_hidden_details_get_no_gradient_and_the_summary_does():
    model = levels(latent_dropout=0.999).train()
    batch = model.codec.prepare(["a b c a b c a"] * 8).collate(range(8), noise_shape=(8, 4))
    torch.manual_seed(0)
    model(**batch).reconstruction.sum().backward()
    assert model.encoder.summary_head.weight.grad.abs().max() > 0
    model.zero_grad()
    with summarised(model):
        out = model(**batch | {"noise": batch["noise"][:, :2]})
        (out.reconstruction.sum() + out.kl.sum()).backward()
    assert model.encoder.head.weight.grad is None or not model.encoder.head.weight.grad.any()


def test_the_prior_of_both_levels_is_a_product_and_draws_hide_details():
    generator = torch.Generator().manual_seed(0)
    gaussians = DiagonalGaussian(torch.randn(3, 2, 4, generator=generator), torch.zeros(3, 2, 4))
    mixture = Mixture(gaussians, torch.tensor([0.2, 0.3, 0.5]).log())
    prior = WithDetails(mixture, 5)
    z = torch.randn(6, 7, 4, generator=generator)
    expected = mixture.log_prob(z[:, :2]) + StandardNormal(5, 4).log_prob(z[:, 2:])
    torch.testing.assert_close(prior.log_prob(z), expected)
    assert not prior.is_standard_normal
    assert WithDetails(StandardNormal(2, 4), 5).is_standard_normal
    drawn = prior.sample(4, torch.Generator().manual_seed(1))
    same = mixture.sample(4, torch.Generator().manual_seed(1))
    assert torch.equal(drawn[:, :2], same)
    assert not drawn[:, 2:].any()


def test_on_a_walk_the_details_of_the_nearer_end_give_way():
    start, end = torch.full((6, 2), 1.0), torch.full((6, 2), 2.0)
    start[4:] = 0  # two details in use, behind a summary of two
    walk = interpolate(start, end, 3, "lerp", summary=2)
    assert torch.equal(walk[0], start)
    assert torch.equal(walk[-1], end)
    torch.testing.assert_close(walk[:, 0, 0], torch.tensor([1, 1.25, 1.5, 1.75, 2]))
    used = [[int(row.any()) for row in point[2:]] for point in walk]
    assert used == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert walk[1, 2, 0] == 1
    assert walk[3, 2, 0] == 2
    alone = between(start[:2], end[:2], torch.tensor([0.5]), "lerp", summary=2)
    assert torch.equal(alone, torch.full((1, 2, 2), 1.5))


def test_tokens_among_the_same_others_get_similar_vectors():
    # 0 and 1 stand beside 2, 3; 4 and 5 beside 6, 7.
    texts = [[0, 2], [1, 2], [0, 3], [1, 3], [4, 6], [5, 6], [4, 7], [5, 7]]
    ids = np.asarray(texts, np.int32).flatten()
    vectors = token_vectors(ids, np.full(8, 2), vocabulary=9, size=6)
    cosine = vectors @ vectors.T
    torch.testing.assert_close(cosine[0, 1].item(), 1.0, atol=1e-5, rtol=0)
    torch.testing.assert_close(cosine[4, 5].item(), 1.0, atol=1e-5, rtol=0)
    assert cosine[:4, 4:8].abs().max() < 1e-5
    assert not vectors[8].any(), "it stands nowhere"
    # Sizes beyond the rank of the counts too are the same each time.
    again, more = (token_vectors(ids, np.full(8, 2), vocabulary=9, size=8) for _ in range(2))
    assert torch.equal(again, more)


def test_texts_of_one_token_have_no_vectors():
    assert not token_vectors(np.zeros(3, np.int32), np.ones(3, np.int64), 5, 4).any()


@torch.no_grad()
def test_a_fresh_summary_raises_the_probability_of_its_own_words():
    words = [f"w{number}" for number in range(40)]
    lines = [" ".join(words[(7 * i + 3 * j) % 40] for j in range(2 + i % 5)) for i in range(60)]
    from test_copying import _wide  # 32 wide, all words in the vocabulary

    recipe = _wide(
        settings("llama", "aligned", pooling="blocks", encoder="modernbert", latents=7, summary=1),
        "copy",
    )
    model = build(recipe, lines).eval()
    with summarised(model):
        z = model.encode(lines).mean.unsqueeze(0)
        batch = model.codec.prepare(lines).collate(range(60))
        own = model.reconstruction(z, batch)
        others = model.reconstruction(z.roll(1, 1), batch)
    assert (own < others).double().mean() > 0.9
    assert (others - own).mean() > 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pooling": "mean"}, r"model\.summary: got 2 with model\.encoder\.pooling mean"),
        (
            {"pooling": "blocks", "summary": 8},
            r"model\.summary: got 8 .* expected fewer",
        ),
        (
            {"pooling": "blocks", "prior": "mixture"},
            r"model\.prior: got mixture",
        ),
        (
            {"pooling": "blocks", "start": "copy", "summary": 5, "latents": 9},
            r"model\.summary: got 5 latents of 4, which are 20 numbers, expected at most 16",
        ),
    ],
)
def test_a_summary_that_cannot_be_is_refused_in_one_line(given, said):
    with pytest.raises(IsthmusError, match=said) as caught:
        build(
            settings(
                "llama", "aligned", encoder="modernbert", **{"latents": 8, "summary": 2} | given
            ),
            TEXTS,
            LABELS,
        )
    assert "\n" not in str(caught.value)


@torch.no_grad()
@pytest.mark.parametrize("labels", ["none", "given"])
def test_training_alone_has_the_terms_of_the_summary(labels):
    model = levels(latent_dropout=0.5, labels=labels)
    given = LABELS if labels == "given" else None
    batch = model.codec.prepare(TEXTS, given).collate(range(len(TEXTS)), noise_shape=(8, 4))
    assert not {"words", "summary_kl"} & set(model(**batch).extra)
    torch.manual_seed(0)
    found = model.train()(**batch)
    torch.testing.assert_close(found.extra["summary_kl"], found.kl[:, :2].flatten(1).sum(1))
    log_p = model.log_words(found.z)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(len(TEXTS)))
    counts = torch.zeros_like(log_p)
    for row, targets in enumerate(batch["targets"].tolist()):
        for token in targets:
            counts[row, max(token, 0)] += token >= 0
    torch.testing.assert_close(found.extra["words"], -(counts * log_p).sum(1))
