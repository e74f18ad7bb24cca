"""Vector quantisation: an exact rate, draws that are entries, and all entries in use."""

import itertools
import math

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.refine import refine
from isthmus.evaluation.usage import mutual_information
from isthmus.explore.codebook import codebook
from isthmus.explore.refit import refit
from isthmus.latent.codebook import Codebook, CodebookPrior, Quantised
from isthmus.latent.prior_module import PriorSizes
from isthmus.models.build import build
from isthmus.settings import with_changes
from tiny import TEXTS, make, settings, system

CODES, LATENTS, SIZE = 3, 4, 2


def fresh(shape=(LATENTS, SIZE)):
    torch.manual_seed(0)
    module = CodebookPrior(PriorSizes(shape, CODES, hidden_size=8))
    with torch.no_grad():
        module.logits.weight.normal_()
    return module


def no_encoder(_):
    raise AssertionError("it has no pseudo-inputs")


def all_latents(module):
    codes = torch.tensor(list(itertools.product(range(CODES), repeat=LATENTS)))
    return module.codebook(codes)


@torch.no_grad()
def test_its_prior_sums_to_one_over_all_codes():
    module = fresh()
    log_p = module(no_encoder).log_prob(all_latents(module))
    assert log_p.shape == (CODES**LATENTS,)
    assert torch.logsumexp(log_p.double(), 0).item() == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_each_code_is_charged_under_those_before_it():
    module = fresh()
    z = all_latents(module)
    prior = module(no_encoder)
    rates = prior.rates(z)
    torch.testing.assert_close(-rates.sum(1), prior.log_prob(z))
    # Latents of equal beginnings have equal rates there: nothing behind is looked at.
    by_first = rates.view(CODES, -1, LATENTS)
    torch.testing.assert_close(by_first[:, :1, 0].expand(by_first.shape[:2]), by_first[:, :, 0])
    assert (rates[0, 1] - rates[CODES ** (LATENTS - 1), 1]).abs() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("shape", [(LATENTS, SIZE), (SIZE,)])
def test_draws_have_its_entropy_and_a_seed_repeats_them(shape):
    module = fresh(shape)
    prior = module(no_encoder)
    z = prior.sample(20_000, torch.Generator().manual_seed(1))
    assert z.shape == (20_000, *shape)
    assert torch.equal(z[:9], prior.sample(20_000, torch.Generator().manual_seed(1))[:9])
    every = all_latents(module) if len(shape) > 1 else module.codebook(torch.arange(CODES))
    log_p = prior.log_prob(every).double()
    entropy = -(log_p.exp() * log_p).sum().item()
    drawn = -prior.log_prob(z).double()
    assert drawn.mean().item() == pytest.approx(entropy, abs=4 * drawn.std().item() / 141)


def test_draws_are_entries_and_the_gradient_goes_to_the_points():
    book = fresh().codebook
    points = torch.randn(5, LATENTS, SIZE, requires_grad=True)
    q = Quantised(points, points).on(book)
    z = q.rsample(3)
    assert z.shape == (3, 5, LATENTS, SIZE)
    distance = torch.cdist(points.flatten(0, 1), book.entries)
    assert torch.equal(z[2].flatten(0, 1), book.entries[distance.argmin(1)])
    weights = torch.randn(z.shape)
    (z * weights).sum().backward()
    torch.testing.assert_close(points.grad, weights.sum(0))
    assert book.entries.grad is None


@torch.no_grad()
def test_it_is_certain_and_its_kl_is_the_rate():
    module = fresh()
    q = Quantised(torch.empty(0), torch.randn(6, LATENTS, SIZE)).on(module.codebook)
    z = q.rsample(2)
    assert torch.equal(q.log_prob(z), torch.zeros(2, 6))
    off = z.clone()
    off[1, 3, 0, 0] += 1e-3
    assert q.log_prob(off)[1].tolist() == [0, 0, 0, -math.inf, 0, 0]
    prior = module(no_encoder)
    torch.testing.assert_close(q.kl(prior)[:, 0], -prior.log_prob(q.mean))
    # Near an entry z counts as that entry, for p(z) and for what is decoded.
    torch.testing.assert_close(prior.log_prob(off), prior.log_prob(z))


@torch.no_grad()
def test_mutual_information_is_the_entropy_of_the_codes():
    book = Codebook(4, SIZE)
    codes = torch.tensor([0] * 8 + [1] * 4 + [2] * 3 + [3])
    q = Quantised(book(codes), book(codes))
    share = torch.tensor([8, 4, 3, 1]).double() / 16
    found = mutual_information(q, q.rsample()[0])
    assert found.value == pytest.approx(-(share * share.log()).sum().item(), abs=1e-9)


def test_its_loss_moves_entries_to_points_and_points_apart():
    torch.manual_seed(0)
    book, texts = Codebook(CODES, SIZE), 50
    spread = book.entries.detach()[torch.arange(texts) % CODES].unsqueeze(1)
    apart = Quantised(spread, 40 * spread)  # far from each other: every share is 0 or 1
    moves = (spread - 40 * spread).square().sum((1, 2))
    even = book.loss(Quantised(spread, spread))
    assert even.detach().max() < 0.3  # nothing to move, and every entry has its third
    torch.testing.assert_close(
        book.loss(apart) - moves * 1.25, torch.zeros(texts), atol=0.02, rtol=0
    )
    one = book.entries.detach()[:1].expand(texts, -1) + 0.0
    used = (-torch.cdist(one[:1], book.entries.detach()).square()).softmax(-1)
    worst = (used * (used * CODES).log()).sum()
    torch.testing.assert_close(book.loss(Quantised(one, one)).detach(), worst.expand(texts))


def test_points_on_one_entry_come_to_use_all():
    torch.manual_seed(0)
    book = Codebook(CODES, SIZE)
    centre = book.entries.detach().mean(0)
    points = book.entries.detach()[0] + 0.3 * (centre - book.entries.detach()[0])
    points = points + 0.3 * torch.randn(60, SIZE)
    assert len(book.codes(points).unique()) == 1
    for _ in range(200):
        points.requires_grad_()
        loss = book.loss(Quantised(points, points).on(book)).mean()
        [slope] = torch.autograd.grad(loss, points)
        points = (points - 6 * slope).detach()
    assert (book.codes(points).bincount(minlength=CODES) > 0).all()


@torch.no_grad()
def test_the_bound_is_below_the_exact_log_probability():
    model = system("codebook")
    examples = model.codec.prepare(TEXTS)
    entries = model.codebook.entries
    log_p = model.prior.log_prob(entries)
    every = torch.stack(
        [
            log_p[code] - found.reconstruction
            for code in range(len(entries))
            for found in [at(model, entries[code])]
        ]
    )
    exact = torch.logsumexp(every, 0)
    terms = model.terms(TEXTS)
    codes = model.codebook.codes(model.encode(TEXTS).mean)
    chosen = every.gather(0, codes.unsqueeze(0))[0]
    torch.testing.assert_close(-terms.negative_elbo, chosen, atol=1e-4, rtol=0)
    assert (chosen < exact).all()
    # One draw is all draws: more samples bring the bound no nearer.
    measured = bounds(model, examples, samples=5)
    torch.testing.assert_close(measured.nll_iw.float(), -chosen, atol=1e-4, rtol=0)


def test_more_samples_cost_no_pass_more(monkeypatch):
    model, draws = system("codebook-aligned"), []
    whole = type(model).reconstruction
    spy = lambda self, z, batch: draws.append(len(z)) or whole(self, z, batch)  # noqa: E731
    monkeypatch.setattr(type(model), "reconstruction", spy)
    bounds(model, model.codec.prepare(TEXTS), samples=50)
    assert set(draws) == {1}


def at(model, entry):
    rows = entry.expand(len(TEXTS), -1)
    return model.terms(TEXTS, posterior=Quantised(rows, rows))


def test_a_decoded_point_is_its_nearest_entry():
    model = system("codebook-aligned")
    z = model.encode(TEXTS).mean
    assert model.decode(z + 1e-3) == model.decode(z)


def test_what_needs_a_density_is_refused_in_one_line():
    model = system("codebook")
    with pytest.raises(IsthmusError, match="no gradient step moves"):
        refine(model, TEXTS, steps=1)
    with pytest.raises(IsthmusError, match="latents are discrete"):
        refit(model, TEXTS, "mixture")
    with pytest.raises(IsthmusError, match="no entries of one"):
        codebook(system("grid"), TEXTS)
    own = settings(posterior="quantised")
    for changes, reason in (
        ({"model": {"prior": "flow"}}, "a prior of its own"),
        ({"model": {"latents": 4, "summary": 2}}, "one level of latents"),
        ({"train": {"semi_amortised": 2}}, "for Gaussian posteriors"),
        ({"train": {"fit_prior": 0.1}}, "for Gaussian posteriors"),
    ):
        with pytest.raises(IsthmusError, match=reason):
            with_changes(own, changes, "test")


def test_a_new_model_spreads_its_texts_over_the_codebook():
    torch.manual_seed(0)
    plain = build(settings(posterior="quantised"), TEXTS, None)
    mean = plain.encode(TEXTS).tensors[1]
    torch.testing.assert_close(mean.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(mean.square().mean(0), torch.ones(3), atol=1e-3, rtol=0)


def test_entries_are_described_by_what_has_them():
    model = make("llama", "aligned", pooling="blocks", latents=5, posterior="quantised")
    found = codebook(model, TEXTS)
    codes = model.codebook.codes(model.encode(TEXTS).mean)
    spans = {}
    for row, text in enumerate(TEXTS):
        words = [*text.split(), "(end)"]
        for latent in range(0, len(words), 2):
            said = " ".join(words[latent : latent + 2]).removesuffix(" (end)")
            spans.setdefault(codes[row, latent // 2].item(), []).append(said)
    assert {entry.code: entry.count for entry in found} == {c: len(s) for c, s in spans.items()}
    total = sum(map(len, spans.values()))
    for entry in found:
        assert entry.latent == -1
        assert entry.share == entry.count / total
        own = spans[entry.code]
        for piece in entry.pieces:
            everywhere = sum(s.count(piece.text) for s in spans.values()) / total
            assert piece.share == own.count(piece.text) / len(own)
            assert piece.lift == pytest.approx(piece.share / everywhere)
        assert entry.example in TEXTS
