"""One latent, two doors: what may be missing changes nothing else, and each part goes its way."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from isthmus.data.captioned import Example
from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.metrics import evaluate, work
from isthmus.latent.objective import Objective
from isthmus.latent.schedule import Schedule
from isthmus.models.base import LatentModel
from isthmus.models.build import build
from isthmus.models.generation import Generation
from isthmus.models.joint.codec import JointExamples
from isthmus.models.joint.model import JointConfig, JointModel, part_of
from isthmus.runs.bundle import load, read_run, save
from isthmus.settings import (
    FirstPhaseSettings,
    PictureSettings,
    Settings,
    TextDataSettings,
    change_kind,
)
from tiny import LABELS, TEXTS, columns, loud, settings

COUNT = 12
SYSTEMS = {
    "gpt2": ("gpt2", "memory+embedding"),
    "lstm": ("lstm", "state+input"),
    "t5": ("t5", "cross-attention"),
}
ENCODERS = {"t5": {"encoder": "t5"}, "lstm": {"encoder": "lstm", "pooling": "last"}}
PICTURE = PictureSettings(network="conv", hidden_size=4, layers=1, likelihood="logistic")


def pairs(count: int = COUNT, picture: bool = True, caption: bool = True) -> list[Example]:
    """Whole examples, or ones without some of their parts."""
    levels = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 7)).astype(np.uint8)
    return [
        Example(levels[n] if picture else None, TEXTS[n % len(TEXTS)] if caption else None)
        for n in range(count)
    ]


def mixed() -> list[Example]:
    """Both parts, only a picture, only a caption, and so on."""
    known = [("picture", "caption"), ("picture",), ("caption",)]
    return [
        Example(**{name: getattr(example, name) for name in known[place % 3]})
        for place, example in enumerate(pairs())
    ]


def recipe(name: str = "lstm") -> Settings:
    base = settings(*SYSTEMS[name], **ENCODERS.get(name, {}))
    made = change_kind(base, "pictures-with-captions")
    return replace(made, model=replace(made.model, picture=PICTURE))


@cache
def system(name: str = "lstm") -> JointModel:
    return loud(build(recipe(name), pairs())).eval()


@pytest.fixture(params=SYSTEMS)
def model(request: pytest.FixtureRequest) -> JointModel:
    return system(request.param)


def batch_of(model: JointModel, examples: list[Example]) -> dict[str, torch.Tensor]:
    return model.codec.prepare(examples).collate(range(len(examples)), noise_shape=(3,))


@torch.no_grad()
def test_a_missing_part_changes_nothing_else_bit_for_bit(model):
    """A caption gone from every second example: their pictures say and cost what they did."""
    whole = pairs()
    some = [Example(e.picture, e.caption if n % 2 else None) for n, e in enumerate(whole)]
    full, holed = batch_of(model, whole), batch_of(model, some)
    z = torch.randn(2, COUNT, 3, generator=torch.Generator().manual_seed(1))
    before, after = model.part_losses(z, full), model.part_losses(z, holed)
    assert torch.equal(before["picture"], after["picture"])
    assert (after["caption"][:, ::2] == 0).all()
    torch.testing.assert_close(after["caption"][:, 1::2], before["caption"][:, 1::2])
    expert = model.parts["picture"].posterior(part_of(full, "picture"))
    precision = 1 + torch.exp(-expert.log_variance)
    alone = model.posterior(holed)[list(range(0, COUNT, 2))]
    assert torch.equal(alone.log_variance, -precision.log()[::2])


@torch.no_grad()
def test_posteriors_are_the_product_of_the_parts_own(model):
    whole = pairs()
    pictures = model.parts["picture"].encode([e.picture for e in whole])
    captions = model.parts["caption"].encode([e.caption for e in whole])
    precision = 1 + torch.exp(-pictures.log_variance) + torch.exp(-captions.log_variance)
    mean = pictures.mean * torch.exp(-pictures.log_variance)
    mean = (mean + captions.mean * torch.exp(-captions.log_variance)) / precision
    joint = model.encode(whole)
    torch.testing.assert_close(joint.mean, mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(joint.log_variance, -precision.log(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_parts_cost_what_their_own_models_say(model):
    whole, z = pairs(), torch.randn(1, COUNT, 3)
    losses = model.part_losses(z, batch_of(model, whole))
    for name, part in model.parts.items():
        own = part.codec.prepare([getattr(e, name) for e in whole]).collate(range(COUNT))
        torch.testing.assert_close(losses[name], part.reconstruction(z, own))
    total = model.reconstruction(z, batch_of(model, whole))
    torch.testing.assert_close(total, losses["picture"] + losses["caption"])


@torch.no_grad()
def test_batches_of_mixed_examples_are_those_of_single_ones(model):
    examples = model.codec.prepare(mixed())
    whole = columns(model(**examples.collate(range(COUNT), noise_shape=(3,))))
    for index in range(COUNT):
        single = columns(model(**examples.collate([index], noise_shape=(3,))))
        for name in whole:
            torch.testing.assert_close(single[name][0], whole[name][index], atol=1e-4, rtol=1e-5)
    terms = model.terms(mixed())
    expected = whole["reconstruction"]
    torch.testing.assert_close(terms.reconstruction, expected, atol=1e-3, rtol=1e-5)


def test_gradients_reach_every_weight_of_both_parts(model):
    examples = model.codec.prepare_training(pairs())
    batch = examples.collate(range(COUNT), noise_shape=(3,))
    model(**batch).terms.negative_elbo.sum().backward()
    dead = [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.abs().sum() > 0)
    ]
    model.zero_grad()
    assert not [name for name in dead if "pad" not in name and "position" not in name]


def test_the_weight_of_captions_is_in_the_objective_and_in_no_bound():
    model = system()
    batch = batch_of(model, mixed())
    terms = model(**batch).terms
    z = model.posterior(batch).rsample(noise=batch["noise"].unsqueeze(0))
    caption = terms.shares["caption"]
    torch.testing.assert_close(caption, model.part_losses(z, batch)["caption"][0])
    plain, weighted = (
        Objective(Schedule.constant(1.0), 1, weights={"caption": weight})(terms, 0)
        for weight in (1.0, 5.0)
    )
    torch.testing.assert_close(plain, terms.negative_elbo)
    torch.testing.assert_close(weighted - plain, 4 * caption, rtol=1e-3, atol=0.02)


def test_doors_open_in_every_way_alike_and_never_none():
    examples = JointExamples(system().codec, pairs(300), training=True)
    seen = []
    for epoch in range(4):
        batch = examples.collate(range(300), epoch=epoch)
        seen.append(torch.stack([batch["picture/open"], batch["caption/open"]], 1))
        assert batch["picture/given"].all()  # what is behind a closed door is predicted
    drawn = torch.cat(seen)
    assert drawn.any(1).all()
    for way in ([1, 0], [0, 1], [1, 1]):
        share = (drawn == torch.tensor(way).bool()).all(1).double().mean()
        assert share == pytest.approx(1 / 3, abs=0.05)  # 3.7 standard errors
    assert not torch.equal(seen[0], seen[1])
    again = examples.collate([7, 3], epoch=1)
    assert torch.equal(again["picture/open"], seen[1][[7, 3], 0])


def test_a_part_that_is_alone_is_always_open():
    batch = JointExamples(system().codec, mixed(), training=True).collate(range(COUNT))
    for name, other in (("picture", "caption"), ("caption", "picture")):
        alone = batch[f"{name}/given"] & ~batch[f"{other}/given"]
        assert batch[f"{name}/open"][alone].all()
        assert not batch[f"{name}/open"][~batch[f"{name}/given"]].any()


@torch.no_grad()
def test_a_closed_door_is_not_read():
    model = system()
    batch = batch_of(model, pairs())
    shut = batch | {"caption/open": torch.zeros(COUNT, dtype=torch.bool)}
    pictures = model.encode(pairs(caption=False))
    torch.testing.assert_close(model.posterior(shut).mean, pictures.mean, atol=1e-6, rtol=1e-5)
    ajar = torch.arange(COUNT) % 3 == 1
    open_parts = [
        replace(e, caption=e.caption if ajar[n] else None) for n, e in enumerate(pairs())
    ]
    half = model.posterior(batch | {"caption/open": ajar})
    torch.testing.assert_close(half.mean, model.encode(open_parts).mean, atol=1e-6, rtol=1e-5)
    nothing = {name: torch.zeros(COUNT, dtype=torch.bool) for name in ("picture", "caption")}
    prior = model.posterior(batch | {f"{name}/open": mask for name, mask in nothing.items()})
    assert not prior.mean.any()
    assert not prior.log_variance.any()


def test_a_part_is_drawn_as_its_own_model_draws_it(model):
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    whole = model.decode(z, Generation(max_new_tokens=5))
    captions = model.decode(z, Generation(max_new_tokens=5, part="caption"))
    pictures = model.decode(z, Generation(part="picture"))
    assert [example.caption for example in whole] == captions
    assert captions == model.parts["caption"].decode(z, Generation(max_new_tokens=5))
    for example, picture, own in zip(
        whole, pictures, model.parts["picture"].decode(z), strict=True
    ):
        assert (example.picture == picture).all()
        assert (picture == own).all()


def test_a_part_that_there_is_not_is_named():
    with pytest.raises(IsthmusError, match="part: got 'sound', this model has picture, caption"):
        system().decode(torch.zeros(1, 3), Generation(part="sound"))
    plain = build(settings(), TEXTS, LABELS)
    with pytest.raises(IsthmusError, match="it is a model of one kind"):
        plain.decode(torch.zeros(1, 3), Generation(part="picture"))


def test_an_example_of_nothing_is_refused():
    with pytest.raises(IsthmusError, match="example 1: got none of picture, caption"):
        system().encode([pairs()[0], Example()])


def test_training_data_of_one_kind_is_refused():
    with pytest.raises(IsthmusError, match="got no caption in the training data"):
        build(recipe(), pairs(caption=False))
    with pytest.raises(IsthmusError, match="got no picture"):
        build(recipe(), pairs(picture=False))


def test_a_first_phase_is_refused():
    with pytest.raises(IsthmusError, match=r"first\.epochs: got 1\.0, but a pictures-with"):
        replace(recipe(), first=FirstPhaseSettings(epochs=1.0))


def test_data_of_another_kind_is_refused():
    expected = "got TextDataSettings, expected CaptionedDataSettings"
    with pytest.raises(IsthmusError, match=expected):
        replace(recipe(), data=TextDataSettings())


def test_other_priors_are_refused(model):
    with pytest.raises(IsthmusError, match="standard normal prior"):
        JointModel(JointConfig(latent_size=3, prior="mixture"), {})


def test_what_is_loaded_is_bit_equal_to_what_was_saved(model, tmp_path):
    save(model, tmp_path / "run", {})
    again = load(tmp_path / "run")
    assert isinstance(again, JointModel)
    assert read_run(tmp_path / "run")["maximum_length"] == 12
    weights = again.state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weights[name], weight), name
    assert torch.equal(again.encode(mixed()).mean, model.encode(mixed()).mean)
    z = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    caption = Generation(max_new_tokens=6, part="caption")
    assert again.decode(z, caption) == model.decode(z, caption)


def test_pictures_alone_make_a_joint_model_too(tmp_path):
    """A part that there is not leaves the rest as it is: the place of a label beside pictures."""
    config = JointConfig(latent_size=3, picture=system().config.picture)
    alone = JointModel(config)
    assert alone.modalities == ("picture",)
    save(alone, tmp_path / "run", {})
    examples = pairs(caption=False)
    assert torch.equal(load(tmp_path / "run").encode(examples).mean, alone.encode(examples).mean)


def test_evaluate_tells_every_door_and_what_it_says_of_the_other():
    model, examples = system(), system().codec.prepare(mixed())
    done = []
    metrics = evaluate(model, examples, samples=4, texts=4, progress=done.append)
    assert sum(done) == work(model, examples, 4)
    assert (metrics["examples"], metrics["pictures"], metrics["captions"]) == (12, 8, 8)
    elbo = -metrics["reconstruction"] - metrics["kl"]
    assert metrics["elbo"] == pytest.approx(elbo)
    alone = [Example(e.picture) for e in mixed() if e.picture is not None]
    measured = bounds(model, model.codec.prepare(alone), samples=4)
    assert metrics["picture_elbo"] == pytest.approx(-measured.negative_elbo.mean().item())
    for name in ("caption_from_picture", "picture_from_caption"):
        for ending in ("", "_se", "_shuffled", "_shuffled_se"):
            assert metrics[name + ending] > 0
        assert metrics[f"{name}_shuffled"] != pytest.approx(metrics[name], rel=1e-4)
    assert 0 <= metrics["caption_from_picture_exact_match"] <= 1
    assert metrics["picture_from_caption_squared_error"] > 0


def test_every_part_is_a_model_of_its_own():
    for part in system().parts.values():
        assert isinstance(part, LatentModel)
