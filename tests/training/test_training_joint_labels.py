"""Pictures, captions and labels in one run: any of them missing, and labels are predicted."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from test_training_doors import SETTINGS

from isthmus.data import captioned, scenes
from isthmus.data.captioned import CaptionedCorpus, Example
from isthmus.data.labelled import observed_labels
from isthmus.errors import IsthmusError
from isthmus.evaluation.modalities import predicted_label_metrics
from isthmus.models.build import build
from isthmus.settings import Settings, from_dict
from trainers import Do, PowerCut, cut_power, distance, log_of, trained, weights

LEARNED = {"steps": 200, "count": 960, "classification": 10_000.0}


@cache
def whole(split: str, count: int) -> list[Example]:
    """Scenes whose label is the place: the ground of the picture, a word of the caption."""
    examples = captioned.read("scenes", split=split, limit=count).examples
    places = [sentence.factors["place"] for sentence in scenes.generate(split, count)]
    return [replace(e, label=place) for e, place in zip(examples, places, strict=True)]


def holed(count: int) -> CaptionedCorpus:
    """A third has no caption, another no picture, and every fourth has no label."""
    examples = [
        Example(
            e.picture if n % 3 else None,
            e.caption if n % 3 != 1 else None,
            e.label if n % 4 else None,
        )
        for n, e in enumerate(whole("train", count))
    ]
    return CaptionedCorpus(examples, [""] * count, "holed")


def fit(out: Path, steps: int, resume=False, callbacks=(), count=96, observed=None, **objective):
    values = SETTINGS | {
        "model": SETTINGS["model"] | {"labels": "given"},
        "objective": SETTINGS["objective"] | objective,
        "train": SETTINGS["train"] | {"steps": steps},
    }
    settings, corpus = from_dict(Settings, values, "test"), holed(count)
    labels = observed or observed_labels(corpus, 0, 0)
    model = build(settings, corpus.examples, labels)
    return trained(
        out,
        settings,
        model,
        model.codec.prepare_training(corpus.examples, labels),
        model.codec.prepare(whole("valid", 40)),
        resume=resume,
        callbacks=callbacks,
    )


def test_a_resumed_run_is_bit_identical(tmp_path):
    terms = {"classification": 50.0, "uncertainty": 2.0, "balance": 3.0}
    run = fit(tmp_path / "whole", 12, **terms)
    with pytest.raises(PowerCut):
        fit(tmp_path / "cut", 12, callbacks=[Do(6, cut_power)], **terms)
    resumed = fit(tmp_path / "cut", 12, resume=True, **terms)
    assert any(name.startswith("labels.") for name in run.model.state_dict())
    assert distance(weights(run), weights(resumed)) == 0


def test_the_log_tells_the_terms_and_the_loss_has_them_at_their_weights(tmp_path):
    weights = {"classification": 50.0, "uncertainty": 2.0, "balance": 3.0, "caption": 3.0}
    fit(tmp_path / "run", 4, **weights)
    row = next(row for row in log_of(tmp_path / "run") if "loss" in row)
    terms = row["reconstruction"] + row["beta"] * row["kl"]
    terms += sum((weight - (name == "caption")) * row[name] for name, weight in weights.items())
    assert row["loss"] == pytest.approx(terms, rel=0.02)  # β is that of the last of four steps
    assert set(row["reconstruction_per_label"]) == set(scenes_places())


def scenes_places() -> list[str]:
    return sorted({example.label for example in whole("train", 96)})


def learned(folder: Path, shuffled: bool = False) -> dict[str, float]:
    """How well a run of 200 steps predicts the labels of 200 other scenes."""
    observed = observed_labels(holed(LEARNED["count"]), 0, 0)
    order = torch.randperm(len(observed), generator=torch.Generator().manual_seed(1)).tolist()
    labels = [observed[place] for place in order] if shuffled else observed
    model = fit(folder, **LEARNED, observed=labels).model.eval()
    return predicted_label_metrics(model, model.labels, whole("test", 200))


def test_labels_are_told_through_both_doors(tmp_path_factory):
    """Six places, the commonest a fifth of all: two thirds of the examples have each door."""
    metrics = learned(tmp_path_factory.mktemp("true") / "run")
    assert metrics["label_commonest"] < 0.25
    for door, least in (("label_from_picture", 0.9), ("label_from_caption", 0.3), ("label", 0.9)):
        assert metrics[f"{door}_accuracy"] > least
        assert metrics[f"{door}_nats"] < metrics["label_from_prior_nats"] - 0.25


def test_labels_that_belong_to_others_teach_nothing(tmp_path_factory):
    """A planted fault: the same run with its labels shuffled is no better than guessing."""
    metrics = learned(tmp_path_factory.mktemp("false") / "run", shuffled=True)
    for door in ("label_from_picture", "label_from_caption", "label"):
        assert metrics[f"{door}_accuracy"] < 0.3
        assert metrics[f"{door}_nats"] > metrics["label_from_prior_nats"] - 0.1


def test_some_labels_are_hidden_and_none_is_invented():
    corpus = holed(96)
    observed = observed_labels(corpus, 12, seed=3)
    assert sum(label is not None for label in observed) == 12
    assert all(
        label in (None, own) for label, own in zip(observed, corpus.known_labels, strict=True)
    )
    assert {label for label in observed if label} == set(scenes_places())
    assert observed_labels(corpus, 0, seed=3) == corpus.known_labels
    with pytest.raises(IsthmusError, match="at most the 72 labelled examples of holed"):
        observed_labels(corpus, 73, seed=3)
    bare = CaptionedCorpus([Example(caption="a")], ["a"], "bare")
    with pytest.raises(IsthmusError, match="bare: the examples have no labels"):
        observed_labels(bare, 0, seed=3)
