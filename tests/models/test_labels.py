"""A label y beside z: its terms by hand, y summed out by enumeration, texts that follow it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from isthmus.errors import IsthmusError
from isthmus.evaluation.attribution import log_likelihoods
from isthmus.evaluation.calibration import marginal
from isthmus.evaluation.labels import label_information
from isthmus.evaluation.likelihood import bounds
from isthmus.explore.walks import decode_as, likely_labels, sample
from isthmus.latent.noise import gumbel_noise
from isthmus.latent.objective import Objective
from isthmus.latent.schedule import Schedule
from isthmus.models import base
from isthmus.models.build import build
from isthmus.models.generation import Generation
from isthmus.models.label_input import LabelInput
from isthmus.models.optimus import OptimusModel
from isthmus.models.text_model import sample_labels
from isthmus.runs.bundle import load, save
from tiny import LABELS, TEXTS, grid, make, settings, system

END, PAD, IGNORED = 2, 0, -100


@pytest.fixture
def model() -> OptimusModel:
    return system("labels")


@pytest.fixture
def batch(model):
    examples = model.codec.prepare(TEXTS, LABELS)
    return examples.collate(range(len(TEXTS)), seed=1, noise_shape=model.latent_shape)


def part_of(*frequencies: int) -> LabelInput:
    """A part with labels a, b, … of these frequencies."""
    names = [chr(ord("a") + place) for place in range(len(frequencies))]
    part = LabelInput(names, hidden_size=4)
    part.start_prior([name for name, n in zip(names, frequencies, strict=True) for _ in range(n)])
    return part


def test_terms_of_two_texts_by_hand():
    """The first has the label b, the second none; p(a) = 3/4."""
    q = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    terms = part_of(3, 1).terms(q.log(), torch.tensor([1, -1]))
    own = 0.3 * math.log(0.3 / 0.75) + 0.7 * math.log(0.7 / 0.25)
    assert terms["label"].tolist() == pytest.approx([math.log(4), own])
    assert terms["classification"].tolist() == pytest.approx([-math.log(0.2), 0])
    mean = 0.55 * math.log(0.55 / 0.75) + 0.45 * math.log(0.45 / 0.25)
    assert terms["balance"].tolist() == pytest.approx([mean, mean])


def test_a_given_label_costs_log_k_under_a_uniform_prior():
    """Published code adds log 1/K, the wrong sign."""
    log_q = torch.zeros(4, 4).log_softmax(-1)
    terms = LabelInput("abcd").terms(log_q, torch.tensor([0, 1, 2, -1]))
    assert terms["label"].tolist() == pytest.approx([math.log(4)] * 3 + [0], abs=1e-6)


def test_divergences_are_those_of_categorical_distributions():
    part, prior = part_of(5, 2, 1), torch.tensor([5, 2, 1]) / 8
    log_q = (3 * torch.randn(7, 3)).log_softmax(-1)
    terms = part.terms(log_q, torch.full((7,), -1))
    expected = kl_divergence(Categorical(log_q.exp()), Categorical(prior))
    torch.testing.assert_close(terms["label"], expected)
    together = kl_divergence(Categorical(log_q.exp().mean(0)), Categorical(prior))
    torch.testing.assert_close(terms["balance"], together.expand(7))


def test_certain_classifiers_have_finite_terms():
    log_q = torch.tensor([[0.0, -1e4], [0.0, -1e4]])
    terms = part_of(1, 1).terms(log_q, torch.tensor([-1, 0]))
    assert terms["label"].tolist() == pytest.approx([math.log(2)] * 2)
    assert terms["balance"][0].item() == pytest.approx(math.log(2))


def test_the_bound_is_tight_at_the_true_posterior_of_the_label():
    """E_q[−log p(x|z,y)] + KL(q‖p) ≥ −log Σ_y p(y) p(x|z,y), equal for q = p(y|x,z)."""
    part = part_of(3, 1, 2)
    losses = 5 * torch.rand(3, 8)  # −log p(x|z, y), [C N]
    unknown = torch.full((8,), -1)

    def bound(log_q):
        return (log_q.exp() * losses.T).sum(-1) + part.terms(log_q, unknown)["label"]

    exact = part.summed_out(losses)
    best = (part.log_prior - losses.T).log_softmax(-1)
    torch.testing.assert_close(bound(best), exact)
    assert (bound((best + torch.randn(8, 3)).log_softmax(-1)) > exact).all()


def test_gumbel_noise_draws_from_the_distribution_it_disturbs():
    count = 20_000
    noise = gumbel_noise(3, 0, range(count), 3)
    assert noise.mean().item() == pytest.approx(0.57722, abs=0.02)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.05)
    q = torch.tensor([0.6, 0.3, 0.1])
    drawn = torch.bincount((q.log() + noise).argmax(-1), minlength=3) / count
    assert ((drawn - q).abs() < 4.5 * (q * (1 - q) / count).sqrt()).all()
    relaxed = LabelInput("abc").draw(q.log().expand(count, 3), torch.full((count,), -1), noise)
    assert torch.equal(relaxed.argmax(-1), (q.log() + noise).argmax(-1))
    torch.testing.assert_close(relaxed.sum(-1), torch.ones(count))


def test_label_noise_is_a_function_of_seed_epoch_and_index():
    whole = gumbel_noise(1, 2, [5, 6, 7], 4)
    assert torch.equal(gumbel_noise(1, 2, [7, 5], 4), whole[[2, 0]])
    for other in (gumbel_noise(2, 2, [5], 4), gumbel_noise(1, 3, [5], 4)):
        assert not torch.equal(other[0], whole[0])


def test_training_reads_given_labels_and_relaxed_ones(model, batch):
    """Reconstruction, KL and label term of every row, from the parts of the model."""
    assert batch["labels"].tolist() == [1, 0, 1, -1, 1, -1]  # down, up
    output, posterior = model(**batch), model.posterior(batch)
    z = posterior.rsample(noise=batch["noise"].unsqueeze(0))
    log_q = model.label_posterior(batch)
    relaxed = ((log_q + batch["label_noise"]) / (2 / 3)).softmax(-1)
    given = torch.tensor([[0.0, 1], [1, 0], [0, 1], [0, 0], [0, 1], [0, 0]])
    y = torch.where(batch["labels"].unsqueeze(-1) >= 0, given, relaxed)
    expected = model.token_losses(z[0], y, batch).sum(-1)
    torch.testing.assert_close(output.reconstruction, expected)
    prior = torch.tensor([1, 3]) / 4
    kl = kl_divergence(Categorical(log_q.exp()), Categorical(prior))
    label = torch.where(batch["labels"] >= 0, -prior.log()[batch["labels"].clamp_min(0)], kl)
    terms = output.terms
    torch.testing.assert_close(terms.label, label)
    bound = expected + posterior.kl(model.prior).sum(-1) + label
    torch.testing.assert_close(terms.negative_elbo, bound)


def test_a_dropped_label_is_read_as_the_null_code_and_stays_in_the_bound(batch):
    model = system("labels-both")
    dropped = torch.tensor([True, False, False, False, True, True])
    output, kept = model(**batch | {"dropped": dropped}), model(**batch)
    y = model.labels.rows(batch["labels"].masked_fill(dropped, -1))
    relaxed = ((model.label_posterior(batch) + batch["label_noise"]) / (2 / 3)).softmax(-1)
    untold = (batch["labels"] < 0) & ~dropped
    y[untold] = torch.nn.functional.pad(relaxed[untold], (1, 0))  # the null code comes first
    read = model.token_losses(output.z, y, batch).sum(-1)
    torch.testing.assert_close(output.reconstruction, read)
    torch.testing.assert_close(output.label, kept.label)
    torch.testing.assert_close(output.kl, kept.kl)


def test_the_encoder_reads_a_batch_once(model, batch):
    calls = []
    handle = model.encoder.model.register_forward_hook(lambda *_: calls.append(1))
    try:
        model(**batch)
    finally:
        handle.remove()
    assert len(calls) == 1


@torch.no_grad()
def test_all_sequences_together_have_probability_one_with_the_label_summed_out(model):
    longest = 3
    words = [token for token in range(8) if token != END]
    rows = [
        (*text, END) if length < longest else text
        for length in range(longest + 1)
        for text in itertools.product(words, repeat=length)
    ]
    targets = torch.tensor([[*row, *[IGNORED] * (longest - len(row))] for row in rows])
    start = torch.full((len(rows), 1), model.decoder.special.start)
    ids = torch.cat([start, targets[:, :-1].clamp_min(PAD)], dim=1)
    z = torch.randn(1, 1, 3).expand(1, len(rows), 3)
    losses = model.reconstruction(z, {"decoder_input_ids": ids, "targets": targets})
    assert losses.double().neg().exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_evaluation_never_looks_at_a_label(model, batch):
    """Bounds of a batch with labels are those of the same batch without."""
    bare = {name: batch[name] for name in batch if not name.startswith("label")}
    z = torch.randn(2, len(TEXTS), 3)
    assert torch.equal(model.reconstruction(z, batch), model.reconstruction(z, bare))
    output = model(**bare)
    assert output.label is None
    own = model.posterior(bare).rsample(noise=batch["noise"].unsqueeze(0))
    torch.testing.assert_close(output.reconstruction, model.reconstruction(own, bare)[0])
    torch.testing.assert_close(
        model.terms(TEXTS, seed=1).negative_elbo, output.terms.negative_elbo
    )


def test_the_bounds_under_each_label_sum_to_the_bound_without_one(model):
    """log 1/K Σ_k Σ_y p(y) p(x|z_k, y) p(z_k) / q(z_k|x), in either order of the sums."""
    examples = model.codec.prepare(TEXTS)
    under_each = log_likelihoods(model, examples, samples=5, seed=3)
    measured = bounds(model, examples, samples=5, seed=3)
    torch.testing.assert_close(marginal(under_each, model.labels.log_prior), -measured.nll_iw)


def test_texts_follow_their_label(model):
    z = torch.randn(12, 3)
    up, down = (model.decode(z, Generation(8, label=label)) for label in ("up", "down"))
    assert sum(a != b for a, b in zip(up, down, strict=True)) > 6
    assert model.decode(z, Generation(8)) == up  # the commoner one
    labels = ["up", "down"] * 6
    each = decode_as(model, z, labels, Generation(8))
    assert each == [{"up": a, "down": b}[y] for y, a, b in zip(labels, up, down, strict=True)]
    assert decode_as(model, z, labels, Generation(8, label="down")) == down


def test_samples_draw_their_labels(model):
    greedy = sample(model, 40, seed=2, generation=Generation(8))
    generator = torch.Generator().manual_seed(2)
    z = model.prior.sample(40, generator)
    labels = sample_labels(model, 40, generator)
    assert set(labels) == {"up", "down"}
    assert greedy == decode_as(model, z, labels, Generation(8))
    many = sample_labels(model, 4000, generator)
    assert many.count("up") / 4000 == pytest.approx(0.75, abs=0.04)
    drawn = model.labels.chosen(4000, Generation(sample=True)).mean(0)
    assert drawn.tolist() == pytest.approx([0.25, 0.75], abs=0.04)


def test_classification_is_that_of_each_text_alone(model, monkeypatch):
    monkeypatch.setattr(base, "TOKENS_AT_ONCE", 12)  # so that batches change the order
    probabilities = model.classify(TEXTS)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(TEXTS)))
    alone = torch.cat([model.classify([text]) for text in TEXTS])
    torch.testing.assert_close(probabilities, alone)
    names = model.config.label_names
    assert likely_labels(model, TEXTS) == [names[row.argmax()] for row in alone]


def test_a_saved_model_keeps_its_labels(model, tmp_path):
    save(model, tmp_path / "run", {})
    again = load(tmp_path / "run")
    assert again.config.labels == ["down", "up"]
    assert again.codec.label_names == ("down", "up")
    assert torch.equal(again.labels.log_prior, model.labels.log_prior)
    torch.testing.assert_close(again.classify(TEXTS), model.classify(TEXTS))
    clusters = system("clusters")
    save(clusters, tmp_path / "clusters", {})
    assert load(tmp_path / "clusters").config.label_names == ("0", "1", "2")


def test_a_label_that_is_not_known(model):
    with pytest.raises(IsthmusError, match=r"got 'upp', .* did you mean up\?"):
        model.decode(torch.zeros(1, 3), Generation(label="upp"))
    with pytest.raises(IsthmusError, match=r"got '7', .* expected one of down, up$"):
        model.codec.prepare(["a"], ["7"])
    for name in ("lstm", "language"):
        other = system(name)
        with pytest.raises(IsthmusError, match="this model has none"):
            other.decode(torch.zeros(1, *other.latent_shape), Generation(label="up"))
        with pytest.raises(IsthmusError, match="this model has none"):
            other.classify(TEXTS)
        assert likely_labels(other, TEXTS) == []


def test_labels_that_cannot_be_learned():
    for labels in (None, ["up"] * 6, [None] * 6):
        with pytest.raises(IsthmusError, match="at least 2 labels"):
            build(settings(labels="given"), TEXTS, labels)
    for wrong in ({"clusters": 1}, {"clusters": 3, "labels": "given"}):
        with pytest.raises(IsthmusError, match=r"model\.clusters must be 0 or at least 2"):
            settings(**wrong)


def test_each_of_several_latents_has_the_label_beside_it():
    """A bridge in rows maps each latent with y as it does in a model with that latent alone."""
    one = make("gpt2", "prefix+memory", labels="given")
    two = grid("gpt2", "prefix+memory", labels="given")
    two.bridge.load_state_dict(one.bridge.state_dict())
    z, y = torch.randn(4, 2, 3), one.labels.rows(torch.tensor([0, 1, 1, 0]))
    apart = [one.conditioning(rows, y) for rows in z.unbind(1)]
    whole = two.conditioning(z, y)
    torch.testing.assert_close(whole.prefix, torch.cat([part.prefix for part in apart], 1))
    other = two.conditioning(z, y.flip(1))
    assert (whole.prefix - other.prefix).abs().amin(-1).amax() > 0
    for layer, found in enumerate(whole.memory):
        expected = torch.cat([part.memory[layer] for part in apart], 2)
        torch.testing.assert_close(found, expected)


SUMMER, WINTER = ["a b", "b a a", "a b b"], ["c", "c c", "c c c"]


@pytest.mark.parametrize("constrained", [True, False])
def test_the_constraint_undoes_a_planted_collapse(constrained):
    """All texts start in the first of two clusters, by a classifier that is sure of it."""
    kind = settings("lstm", "state+input", encoder="lstm", clusters=2)
    model = build(kind, SUMMER + WINTER)
    with torch.no_grad():
        model.labels.classifier[-1].bias.copy_(torch.tensor([4.0, -4.0]))
    objective = Objective(
        Schedule.constant(),
        80,
        label_nats=0.8 * math.log(2) if constrained else 0.0,
        weights={"classification": 1.0, "balance": 10.0 if constrained else 0.0},
    )
    examples = model.codec.prepare(SUMMER + WINTER, [None] * 6)
    optimiser = torch.optim.Adam(model.parameters(), 3e-2)
    for step in range(80):
        batch = examples.collate(range(6), epoch=step, noise_shape=model.latent_shape)
        objective(model.train()(**batch).terms, step).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    probabilities = model.classify(SUMMER + WINTER)
    information = label_information(probabilities.log()).value
    if constrained:
        assert information > 0.6 * math.log(2)
        first = probabilities.argmax(1).tolist()
        assert first in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    else:
        assert information < 0.05


def test_the_adversary_learns_from_the_label_and_the_encoder_to_hide_it():
    torch.manual_seed(0)
    part = LabelInput("ab", adversary_size=4)
    part.start_prior(["a", "b", "b", "b"])
    mean = torch.randn(6, 4, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 1, -1, 0])
    found = part.adversary_loss(mean, labels)
    found.sum().backward()
    told = labels >= 0
    again = mean.detach().clone().requires_grad_()
    log_q = part.adversary(again).log_softmax(-1)
    accused = -log_q[told, labels[told]]
    hidden = kl_divergence(Categorical(torch.tensor([0.25, 0.75])), Categorical(logits=log_q))[
        told
    ]
    torch.testing.assert_close(found[told], accused + hidden)
    assert found[4] == 0
    own = torch.autograd.grad(accused.sum(), list(part.adversary.parameters()), retain_graph=True)
    for parameter, expected in zip(part.adversary.parameters(), own, strict=True):
        torch.testing.assert_close(parameter.grad, expected)
    [expected] = torch.autograd.grad(hidden.sum(), again)
    torch.testing.assert_close(mean.grad, expected)


def test_a_classifier_whose_hidden_units_are_all_below_zero_still_learns():
    """What a large learning rate once did to 12,000 captions: q(y|x) was its prior for good."""
    torch.manual_seed(0)
    part = LabelInput(["a", "b"], hidden_size=4)
    pooled, labels = torch.randn(64, 4), torch.arange(64) % 2
    pooled[:, 0] = 2.0 * labels - 1
    with torch.no_grad():
        part.classifier[0].bias.fill_(-20.0)
    optimiser = torch.optim.Adam(part.parameters(), 0.05)
    for _ in range(300):
        loss = torch.nn.functional.nll_loss(part(pooled), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (part(pooled).argmax(-1) == labels).all()
