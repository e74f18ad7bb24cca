"""Labels told from the latent of pictures and captions: what they cost, and what none changes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from test_joint import COUNT, SYSTEMS, mixed, pairs, recipe
from torch.nn import functional

from isthmus.data.captioned import Example
from isthmus.errors import IsthmusError
from isthmus.evaluation.metrics import evaluate
from isthmus.latent.objective import Objective
from isthmus.latent.schedule import Schedule
from isthmus.models.build import build
from isthmus.models.generation import Generation
from isthmus.models.joint.model import JointModel
from isthmus.runs.bundle import load, save
from isthmus.settings import ObjectiveSettings, TrainSettings
from tiny import loud

NAMES = ["even", "odd", "third"]
LABELS = [NAMES[place % 3] if place % 4 else None for place in range(COUNT)]


def settings_of(name: str = "lstm", head: str = "softmax"):
    base = recipe(name)
    picture = replace(base.model.picture, label_head=head)
    return replace(base, model=replace(base.model, labels="given", picture=picture))


@cache
def system(name: str = "lstm", head: str = "softmax") -> JointModel:
    return loud(build(settings_of(name, head), pairs(), LABELS)).eval()


@pytest.fixture(params=[("lstm", "softmax"), ("t5", "softmax"), ("lstm", "svm")], ids="-".join)
def model(request: pytest.FixtureRequest) -> JointModel:
    return system(*request.param)


def batch_of(model, examples, labels) -> dict[str, torch.Tensor]:
    prepared = model.codec.prepare(examples, labels)
    return prepared.collate(range(len(examples)), noise_shape=(3,))


@torch.no_grad()
def test_the_term_of_a_label_is_minus_its_log_softmax_at_z():
    model = system()
    batch = batch_of(model, pairs(), LABELS)
    z = torch.randn(5, COUNT, 3, generator=torch.Generator().manual_seed(1))
    terms = model.extra_terms(z, batch)
    head = model.labels.linear
    log_p = (z @ head.weight.T + head.bias).log_softmax(-1).detach()
    for place, label in enumerate(LABELS):
        nats = 0.0 if label is None else -log_p[:, place, NAMES.index(label)].mean()
        assert terms["classification"][place].item() == pytest.approx(float(nats), abs=1e-6)
        entropy = 0.0 if label else -(log_p.exp() * log_p).sum(-1).mean(0)[place]
        assert terms["uncertainty"][place].item() == pytest.approx(float(entropy), abs=1e-6)


def test_the_svm_charges_the_hinge_of_every_label():
    model = system(head="svm")
    z = torch.randn(1, COUNT, 3, generator=torch.Generator().manual_seed(1))
    terms = model.extra_terms(z, batch_of(model, pairs(), LABELS))
    margins = functional.pad(z[0], (0, 1), value=1.0) @ model.labels.weight.T
    for place, label in enumerate(LABELS):
        if label is not None:
            sign = torch.tensor([1.0 if name == label else -1.0 for name in NAMES])
            hinge = 2 * (1 - sign * margins[place]).clamp_min(0).sum()
            torch.testing.assert_close(terms["classification"][place], hinge, atol=1e-3, rtol=0)


def test_labels_change_no_term_of_the_parts_bit_for_bit(model):
    told = model(**batch_of(model, mixed(), LABELS))
    without = model(**batch_of(model, mixed(), None))
    for name in ("reconstruction", "kl", "z"):
        assert torch.equal(told[name], without[name]), name
    assert all(map(torch.equal, told.posterior, without.posterior))
    assert torch.equal(told.shares["caption"], without.shares["caption"])
    assert not without.extra
    torch.testing.assert_close(told.terms.negative_elbo, without.terms.negative_elbo)


def gradients(model, labels) -> dict[str, torch.Tensor]:
    model.zero_grad()
    terms = model(**batch_of(model, mixed(), labels)).terms
    weights = ObjectiveSettings(classification=7.0).weights
    Objective(Schedule.constant(1.0), 1, weights=weights)(terms, 0).sum().backward()
    found = {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}
    model.zero_grad()
    return found


def test_a_missing_label_has_no_gradient_anywhere(model):
    none = gradients(model, [None] * COUNT)
    plain = gradients(model, None)
    for name, gradient in plain.items():
        assert torch.equal(none[name], gradient), name
    extra = none.keys() - plain.keys()
    assert all(name.startswith("labels.") for name in extra)
    assert not any(none[name].any() for name in extra)


def test_a_label_moves_the_doors_that_were_read_and_no_decoder(model):
    """Examples 0, 3, … have both parts, then a picture, then a caption: only 1 has its label."""
    told = gradients(model, ["odd" if place == 1 else None for place in range(COUNT)])
    plain = gradients(model, [None] * COUNT)
    moved = {name for name, gradient in told.items() if not torch.equal(gradient, plain[name])}
    assert any(name.startswith("parts.picture.encoder") for name in moved)
    assert any(name.startswith("labels.") for name in moved)
    assert all(name.startswith(("parts.picture.encoder", "labels.")) for name in moved)


def test_batches_of_mixed_examples_are_those_of_single_ones(model):
    prepared = model.codec.prepare(mixed(), LABELS)
    whole = model(**prepared.collate(range(COUNT), noise_shape=(3,)))
    back = model(**prepared.collate(range(COUNT)[::-1], noise_shape=(3,)))
    for name in ("classification", "uncertainty"):
        torch.testing.assert_close(
            back.extra[name].flip(0), whole.extra[name], atol=1e-5, rtol=1e-5
        )
    for index in range(COUNT):
        single = model(**prepared.collate([index], noise_shape=(3,)))
        for name in ("classification", "uncertainty"):
            torch.testing.assert_close(
                single.extra[name][0], whole.extra[name][index], atol=1e-5, rtol=1e-5
            )


def test_what_is_told_is_the_average_over_the_posterior(model):
    """E_q[p(y|z)] of each door by quadrature over q, against 64 draws: errors below ½ / √64."""
    points, weights = torch.tensor([-1.7320508, 0.0, 1.7320508]), torch.tensor([1, 4, 1]) / 6
    grid = torch.cartesian_prod(points, points, points)
    weight = torch.cartesian_prod(weights, weights, weights).prod(-1)
    for parts in ({"picture": True, "caption": False}, {"picture": False, "caption": True}):
        examples = pairs(**parts)
        q = model.encode(examples)
        z = q.mean + grid.unsqueeze(1) * q.standard_deviation
        p = model.labels.log_probabilities(model.labels.scores(z)).exp()
        exact = (weight.view(-1, 1, 1) * p).sum(0)
        assert (model.classify(examples) - exact).abs().max() < 3 * 0.5 / math.sqrt(64)


def test_the_frequencies_of_told_labels_are_the_prior():
    counts = [LABELS.count(name) for name in NAMES]
    prior = system().labels.log_prior.exp().tolist()
    assert prior == pytest.approx([count / sum(counts) for count in counts])
    assert system().config.label_names == tuple(NAMES)


def test_a_label_alone_is_refused_in_one_line():
    examples = [*pairs()[:2], Example(label="odd")]
    message = "example 2: got none of picture, caption, expected one at least: a label alone"
    with pytest.raises(IsthmusError, match=message):
        system().codec.prepare_training(examples, ["odd"] * 3)


def test_labels_that_were_never_told_are_named_and_a_single_one_is_none():
    with pytest.raises(IsthmusError, match="got 'prime', which this model does not know"):
        system().codec.prepare_training(pairs(), ["prime", *LABELS[1:]])
    with pytest.raises(IsthmusError, match="expected at least 2 labels, got 1"):
        build(settings_of(), pairs(), ["odd"] * COUNT)


REFUSED = {
    "objective.feature": {"objective": ObjectiveSettings(feature=1.0)},
    "train.semi_amortised": {"train": TrainSettings(semi_amortised=2)},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nothing_would_read_is_refused(name):
    with pytest.raises(IsthmusError, match=f"^{name}"):
        replace(settings_of(), **REFUSED[name])


def test_a_label_cannot_steer_what_is_drawn():
    with pytest.raises(IsthmusError, match="its decoders do not read it"):
        system().decode(torch.zeros(1, 3), Generation(label="odd"))


@pytest.mark.parametrize("head", ["softmax", "svm"])
def test_what_is_loaded_tells_what_was_saved(head, tmp_path):
    model = system(head=head)
    save(model, tmp_path / "run", {})
    again = load(tmp_path / "run")
    assert again.config.label_names == tuple(NAMES)
    assert type(again.labels) is type(model.labels)
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert torch.equal(again.classify(mixed()), model.classify(mixed()))


def judged(model, labels):
    examples = [replace(e, label=label) for e, label in zip(mixed(), labels, strict=True)]
    return examples, evaluate(model, model.codec.prepare(examples), samples=2, texts=0)


def test_evaluate_judges_labels_through_each_door():
    model = system()
    examples, metrics = judged(model, LABELS)
    assert metrics["labels"] == 9
    for door in ("picture", "caption"):
        having = [e for e in examples if e.label and getattr(e, door) is not None]
        alone = [Example(**{door: getattr(e, door)}) for e in having]
        p = model.classify(alone)
        truth = [NAMES.index(e.label) for e in having]
        right = (p.argmax(-1) == torch.tensor(truth)).double()
        assert metrics[f"label_from_{door}_accuracy"] == pytest.approx(right.mean().item())
        error = right.std().item() / math.sqrt(len(right))
        assert metrics[f"label_from_{door}_accuracy_se"] == pytest.approx(error)
        nats = -p[range(len(truth)), truth].log().mean().item()
        assert metrics[f"label_from_{door}_nats"] == pytest.approx(nats, rel=1e-5)
    share = max(LABELS.count(name) for name in NAMES) / 9
    assert metrics["label_commonest"] == pytest.approx(share)
    assert {"label_accuracy", "label_nats", "label_from_prior_nats"} <= metrics.keys()


def test_labels_of_the_data_change_no_other_figure():
    _, told = judged(system(), LABELS)
    _, without = judged(system(), [None] * COUNT)
    assert without == {key: told[key] for key in without}
    assert "label_accuracy" not in without


def test_labels_never_told_are_counted_wrong_and_have_no_nats():
    model = system()
    own = [NAMES[place] for place in model.classify(mixed()).argmax(-1)]
    perfect = judged(model, own)[1]
    assert perfect["label_accuracy"] == 1
    assert "labels_unknown" not in perfect
    spoilt = judged(model, [*own[:6], *["prime"] * 6])[1]
    assert spoilt["labels_unknown"] == 6
    assert spoilt["label_accuracy"] == 0.5
    assert math.isfinite(spoilt["label_nats"])
    swapped = judged(model, [NAMES[(NAMES.index(name) + 1) % 3] for name in own])[1]
    assert swapped["label_accuracy"] == 0  # a planted fault: labels and names out of step


def test_every_system_takes_labels():
    assert all(system(name).labels is not None for name in SYSTEMS)
