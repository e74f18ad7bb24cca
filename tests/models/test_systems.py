"""What must hold for every system and every kind of decoder; the list is in tiny.py."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor

from isthmus.data import kinds
from isthmus.data.captioned import Example
from isthmus.evaluation.metrics import evaluate
from isthmus.models import base, decoder
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation, SpecialTokens
from isthmus.models.language import LanguageModel
from isthmus.models.optimus import OptimusModel
from tiny import SYSTEMS, TEXT_SYSTEMS, TEXTS, columns, examples_of, system

END, PAD, IGNORED = 2, 0, -100


@pytest.fixture(params=SYSTEMS)
def model(request: pytest.FixtureRequest) -> LatentModel:
    return system(request.param)


of_texts = pytest.mark.parametrize("model", TEXT_SYSTEMS, indirect=True)
"""What only texts have: tokens, prompts, a stock decoder."""


def batch_of(model: LatentModel, indices: list[int] | None = None, seed: int = 0):
    examples = model.codec.prepare(examples_of(model))
    rows = list(range(len(TEXTS))) if indices is None else indices
    return examples.collate(rows, seed=seed, noise_shape=model.latent_shape)


def latents(model: LatentModel, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *model.latent_shape, generator=generator)


def conditioning(model: LatentModel, z: Tensor, label: int | None = None) -> decoder.Conditioning:
    """What the decoder gets for z, by default with the label that greedy text has."""
    y = None
    if model.labels is not None:
        chosen = model.labels.chosen(len(z), Generation())
        y = chosen if label is None else model.labels.one_hot(label, len(z))
    return model.conditioning(z, y)


def logits(model: LatentModel, z: Tensor, ids: Tensor, label: int | None = None) -> Tensor:
    return model.decoder.logits(model.decoder.hidden(conditioning(model, z, label), ids))


def widened(tensor: Tensor, value: int, columns: int = 3) -> Tensor:
    """More padding on the right, [N T] → [N T + columns]."""
    return torch.cat([tensor, tensor.new_full((len(tensor), columns), value)], dim=1)


def same(actual: Tensor, expected: Tensor) -> None:
    """To 1e-5, and to the last digits of float32 where a number is large."""
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=4e-6)


def gradients(model: LatentModel) -> dict[str, Tensor | None]:
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    return found


@of_texts
@torch.no_grad()
def test_padding_changes_nothing(model):
    batch = batch_of(model)
    # Ids under the mask are never looked at, so any id pads as well as the pad token does.
    wider = {
        "input_ids": widened(batch["input_ids"], 6),
        "attention_mask": widened(batch["attention_mask"], 0),
        "decoder_input_ids": widened(batch["decoder_input_ids"], 6),
        "targets": widened(batch["targets"], IGNORED),
        "noise": batch["noise"],
    }
    padded = columns(model(**wider))
    for name, plain in columns(model(**batch)).items():
        same(padded[name], plain)


@torch.no_grad()
def test_order_and_size_of_batches_change_nothing(model):
    whole = columns(model(**batch_of(model)))
    order = [3, 0, 5, 1, 4, 2]
    permuted = columns(model(**batch_of(model, order)))
    for name in whole:
        same(permuted[name], whole[name][order])
        for index in order:
            single = columns(model(**batch_of(model, [index])))[name]
            same(single[0], whole[name][index])


def test_examples_come_back_in_their_order_whatever_the_batches(model, monkeypatch):
    given = examples_of(model)
    whole, posterior = model.terms(given, seed=3), model.encode(given)
    with torch.no_grad():
        straight = model(**batch_of(model, seed=3))
    same(whole.reconstruction, straight.reconstruction)
    same(whole.kl, straight.kl)
    monkeypatch.setattr(base, "TOKENS_AT_ONCE", 12)
    parts, singly = model.terms(given, seed=3), model.encode(given)
    same(parts.reconstruction, whole.reconstruction)
    same(parts.kl, whole.kl)
    same(singly.mean, posterior.mean)
    same(singly.log_variance, posterior.log_variance)
    alone = torch.cat([model.encode([one]).mean for one in given])
    same(alone, posterior.mean)


@of_texts
def test_latents_of_a_batch_never_mix(model):
    if isinstance(model, LanguageModel):
        pytest.skip("a language model has no latent")
    z = latents(model, len(TEXTS)).requires_grad_()
    out = logits(model, z, batch_of(model)["decoder_input_ids"])
    for i in range(len(TEXTS)):
        [gradient] = torch.autograd.grad(out[i].square().sum(), z, retain_graph=True)
        others = [j for j in range(len(TEXTS)) if j != i]
        assert gradient[others].abs().max() == 0
        assert gradient[i].flatten().abs().min() > 1e-6  # every dimension is used


@of_texts
@torch.no_grad()
def test_rows_that_are_kept_go_on_with_their_own_text(model):
    """As beams do, over whatever cache or state a decoder has."""
    given = conditioning(model, latents(model, 1)).repeat(3)
    stream, start = decoder.Stream(model.decoder, given), model.decoder.special.start
    ids = torch.tensor([[start, 5, 6], [start, 7, 5], [start, 6, 6]])
    rows, new = torch.tensor([2, 0, 0]), torch.tensor([[5], [6], [7]])
    stream.read(ids)
    stream.keep(rows)
    whole = model.decoder.hidden(given, torch.cat([ids[rows], new], dim=1))
    same(stream.read(new), model.decoder.logits(whole)[:, -1])


def test_several_draws_are_those_of_each_alone(model):
    batch = batch_of(model)
    z = torch.stack([latents(model, len(TEXTS), seed) for seed in range(3)])
    together = model.reconstruction(z, batch)
    for draw, expected in zip(z, together, strict=True):
        alone = model.reconstruction(draw.unsqueeze(0), batch)[0]
        same(alone, expected)


@of_texts
def test_reconstruction_is_the_sum_over_target_tokens(model):
    batch = batch_of(model)
    z = latents(model, len(TEXTS))
    targets = batch["targets"]

    def log_likelihood(label: int | None) -> Tensor:
        log_p = logits(model, z, batch["decoder_input_ids"], label).log_softmax(-1)
        chosen = log_p.gather(-1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        return (chosen * (targets >= 0)).sum(1)

    if names := model.config.label_names:  # a sum over them, weighted by p(y)
        prior = model.labels.log_prior.exp()
        each = [prior[y] * log_likelihood(y).double().exp() for y in range(len(names))]
        expected = -torch.stack(each).sum(0).log().float()
    else:
        expected = -log_likelihood(None)
    actual = model.reconstruction(z.unsqueeze(0), batch)[0]
    same(actual, expected)


def test_terms_are_reconstruction_and_kl_of_the_posterior(model):
    batch = batch_of(model)
    out, posterior = model(**batch), model.posterior(batch)
    z = posterior.rsample(noise=batch["noise"].unsqueeze(0))
    torch.testing.assert_close(out.reconstruction, model.reconstruction(z, batch)[0])
    expected = posterior.log_prob(z[0]) - model.prior.log_prob(z[0])
    if posterior.has_exact_kl(model.prior):  # exact: the mean over many draws
        few = posterior[:3]  # one of each kind that has several parts
        noise = torch.randn(200_000, *few.mean.shape)
        draws = few.rsample(noise=noise)
        ratios = few.log_prob(draws) - model.prior.log_prob(draws)
        error = ratios.std(0) / len(noise) ** 0.5
        difference = out.kl.flatten(1).sum(1)[:3] - ratios.mean(0)
        assert (difference.abs() <= 4.5 * error + 1e-5).all()
    else:
        torch.testing.assert_close(out.kl, expected.unsqueeze(-1), atol=1e-4, rtol=1e-5)


@of_texts
@torch.no_grad()
def test_all_sequences_together_have_probability_one(model):
    """Σ over texts that end within L tokens, plus what is cut there, for every z."""
    vocabulary, longest = 8, 3
    assert len(model.codec.decoder_tokenizer) == vocabulary
    words = [token for token in range(vocabulary) if token != END]
    rows = [
        (*text, END) if length < longest else text
        for length in range(longest + 1)
        for text in itertools.product(words, repeat=length)
    ]
    targets = torch.tensor([[*row, *[IGNORED] * (longest - len(row))] for row in rows])
    start = torch.full((len(rows), 1), model.decoder.special.start)
    ids = torch.cat([start, targets[:, :-1].clamp_min(PAD)], dim=1)
    for seed in range(2):
        z = latents(model, 1, seed).expand(len(rows), *model.latent_shape)
        losses = model.decoder.reconstruction(conditioning(model, z), ids, targets)
        assert abs(losses.double().neg().exp().sum() - 1) < 1e-5


@of_texts
def test_no_bridge_is_the_stock_model(model):
    """z = 0 adds nothing: embedding and language model give the stock log-probabilities.

    A memory or prefix of zeros is still a slot that takes attention mass, so for those "no
    bridge" means none at all; a context of zeros is compared with the same context.
    """
    ids = batch_of(model)["decoder_input_ids"]
    if isinstance(model, LanguageModel):
        given = decoder.Conditioning()
    else:
        nothing = None if model.labels is None else torch.zeros(len(ids), model.labels.size)
        zero = model.conditioning(torch.zeros(len(ids), *model.latent_shape), nothing)
        given = decoder.Conditioning(embedding=zero.embedding, context=zero.context)
    ours = model.decoder.logits(model.decoder.hidden(given, ids))
    stock = model.decoder.stock_logits(given.context, ids)
    same(ours, stock)


def argmax_loop(model: LatentModel, z: Tensor, most: int) -> list[list[int]]:
    """Greedy text by whole forward passes, without a cache and one at a time."""
    texts = []
    for row in z.split(1):
        ids = [model.decoder.special.start]
        while len(ids) <= most:
            best = int(logits(model, row, torch.tensor([ids]))[0, -1].argmax())
            if best == END:
                break
            ids.append(best)
        texts.append(ids[1:])
    return texts


@of_texts
@torch.no_grad()
def test_cached_greedy_text_is_the_argmax_of_whole_passes(model):
    z = 2 * latents(model, 6)
    most = 7
    given = conditioning(model, z)
    found = model.decoder.generate(given, len(z), Generation(max_new_tokens=most))
    assert found == argmax_loop(model, z, most)


@of_texts
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_of_a_batch_is_one_by_one(model, beams):
    z = 2 * latents(model, 6)
    settings = Generation(max_new_tokens=6, beams=beams)
    assert model.decode(z, settings) == [model.decode(row, settings)[0] for row in z]


@of_texts
def test_generation_ends_at_its_limit_be_it_beyond_the_positions(model, monkeypatch):
    never = SpecialTokens(model.decoder.special.start, end=8, pad=PAD)  # no token has id 8
    monkeypatch.setattr(model.decoder, "special", never)
    given = conditioning(model, latents(model, 4))
    short = model.decoder.generate(given, 4, Generation(max_new_tokens=5))
    assert [len(row) for row in short] == [5] * 4
    assert (model.decoder.positions or 0) < 40
    long = model.decoder.generate(given, 4, Generation(max_new_tokens=40))
    assert [len(row) for row in long] == [40] * 4
    assert [row[:5] for row in long] == short


def test_sampling_depends_on_its_seed_alone(model):
    z = latents(model, 16)
    before = torch.random.get_rng_state()

    def drawn(seed: int) -> list[tuple]:
        decoded = model.decode(z, Generation(max_new_tokens=8, sample=True, seed=seed))
        return [parts_of(one) for one in decoded]

    first = drawn(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert drawn(1) == first
    assert drawn(2) != first


def parts_of(given: object) -> tuple[list | None, str | None]:
    """What an example of any kind consists of, to be compared."""
    example = Example.of(given)
    return (
        example.picture if example.picture is None else example.picture.tolist(),
        example.caption,
    )


@pytest.mark.parametrize("model", [n for n in SYSTEMS if n not in TEXT_SYSTEMS], indirect=True)
@torch.no_grad()
def test_decoding_of_a_batch_is_one_by_one(model):
    z = 2 * latents(model, 6)
    alone = [model.decode(row)[0] for row in z]
    assert [parts_of(one) for one in model.decode(z)] == [parts_of(one) for one in alone]


def test_evaluation_has_the_counts_of_its_kind(model):
    metrics = evaluate(model, model.codec.prepare(examples_of(model)), samples=2, texts=3)
    assert metrics[f"{model.kind.unit}s"] == len(TEXTS)
    assert kinds.of_record(metrics) is model.kind
    assert metrics["elbo"] <= -metrics["nll_iw"] + 1e-6


@of_texts
def test_sampling_cut_to_one_token_is_greedy(model):
    z = latents(model, 6)
    label = next(iter(model.config.label_names), None)  # without one, sampling draws it
    greedy = model.decode(z, Generation(max_new_tokens=6, label=label))
    for cut in ({"top_k": 1}, {"temperature": 1e-4}, {"top_p": 1e-6}):
        sampling = Generation(max_new_tokens=6, sample=True, label=label, **cut)
        assert model.decode(z, sampling) == greedy


@of_texts
def test_gradient_reaches_every_parameter_that_is_read_and_the_others_are_fixed(model):
    trained = copy.deepcopy(model).train()
    batch = batch_of(model)
    if model.config.label_names:
        batch["labels"] = torch.tensor([0, 1, -1, -1, 1, -1])
    terms = trained(**batch).terms
    own = sum(terms.extra.get(name, 0) for name in ("adversary", "codebook"))
    (terms.negative_elbo + own).sum().backward()
    fixed = {name for name, p in trained.named_parameters() if not p.requires_grad}
    dead = {n for n, g in gradients(trained).items() if g is None or not g.abs().sum() > 0}
    # Softmax ignores what is the same for all keys, and so has no use for a bias on them.
    dead = {n for n in dead if not (n.endswith("bias") and ("k_proj" in n or "key" in n))}
    assert dead - fixed == set()
    with torch.no_grad():
        for name in fixed:
            trained.get_parameter(name).fill_(torch.nan)
        again = trained.eval()(**batch_of(model))
    same(again.reconstruction, model(**batch_of(model)).reconstruction)
    assert bool(fixed) == (model.decoder.context_size is not None and not reads_context(model))


def reads_context(model: LatentModel) -> bool:
    return conditioning(model, latents(model, 1)).context is not None


@of_texts
def test_cross_entropy_in_chunks_is_the_whole(model, monkeypatch):
    trained = copy.deepcopy(model)
    batch = batch_of(model)

    def value_and_gradients():
        reconstruction = trained(**batch).reconstruction
        reconstruction.sum().backward()
        return reconstruction.detach(), gradients(trained)

    whole, expected = value_and_gradients()
    monkeypatch.setattr(decoder, "LOGITS_AT_ONCE", 8 * 5)  # five tokens at a time
    monkeypatch.setattr(decoder, "FEWEST_ROWS", 1)
    chunked, found = value_and_gradients()
    same(chunked, whole)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-4)


@of_texts
def test_padding_never_reaches_the_output_layer(model):
    rows = []

    def count(module, inputs, output):
        rows.append(inputs[0].shape[:-1].numel())

    handle = model.decoder.model.get_output_embeddings().register_forward_hook(count)
    try:
        batch = batch_of(model)
        model(**batch)
    finally:
        handle.remove()
    passes = max(1, len(model.config.label_names))
    assert sum(rows) == passes * int((batch["targets"] >= 0).sum())
    assert sum(rows) < passes * batch["targets"].numel()


def test_posterior_of_a_grid_has_the_shape_of_its_prior():
    model = system("grid")
    assert isinstance(model, OptimusModel)
    posterior = model.encode(TEXTS)
    assert model.prior.sample(4).shape[1:] == posterior.mean.shape[1:] == (2, 3)
    # both latents of the grid are read from the text, and differently
    assert (posterior.mean[:, 0] - posterior.mean[:, 1]).abs().min() > 1e-4
