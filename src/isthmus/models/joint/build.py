"""From settings and training examples of several kinds to a model that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isthmus.data.captioned import Example
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.joint.model import JointConfig, JointModel
from isthmus.models.pictures.build import build_pictures
from isthmus.settings import DataSettings, ModelSettings, PictureSettings, Settings

Builder = Callable[[Settings, Sequence[str]], LatentModel]
"""Builds a model of texts."""


def build_joint(
    settings: Settings,
    examples: Sequence[Example],
    texts: Builder,
    names: Sequence[str] = (),
    labels: Sequence[str | None] = (),
) -> JointModel:
    """A model of pictures and captions as the settings describe it.

    Arguments:
        settings: ``model.picture`` for the pictures, all the rest for the captions.
        examples: of the training split, any part of each missing.
        texts: builds the model of the captions.
        names: of the labels that p(y|z) tells; none without it.
        labels: of the examples, None where one is not told.

    Raises:
        IsthmusError: no picture or no caption at all, or settings that do not fit.
    """
    shown = next((e.picture for e in examples if e.picture is not None), None)
    captions = [example.caption for example in examples if example.caption is not None]
    if shown is None or not captions:
        raise IsthmusError(
            f"model.captions: got {'no picture' if shown is None else 'no caption'} in the "
            "training data, expected some of both; leave it out for a model of one kind"
        )
    _check(settings)
    model = settings.model
    of_text = replace(model, picture=PictureSettings(), captions="none", labels="none")
    data = replace(settings.data, sampling="natural")  # of labels, which no part has
    of_picture = ModelSettings(latent_size=model.latent_size, picture=model.picture)
    parts = {
        "picture": build_pictures(
            replace(settings, model=of_picture, data=DataSettings()), np.stack([shown])
        ),
        "caption": texts(replace(settings, model=of_text, data=data), captions),
    }
    configs: dict[str, Any] = {name: part.config for name, part in parts.items()}
    config = JointConfig(
        latent_size=model.latent_size,
        **configs,
        labels=list(names) or None,
        label_head=model.picture.label_head,
    )
    built = JointModel(config, parts)
    if built.labels is not None:
        built.labels.start_prior([labels.count(name) for name in names])
    return built


def _check(settings: Settings) -> None:
    """Refuse what would be read by nothing."""
    model = settings.model
    refused = {
        'model.latent "none"': model.latent == "none",
        "first.epochs": settings.first.epochs > 0,
        "model.encoder.start_from": bool(model.encoder.start_from),
        "model.clusters": model.clusters > 0,
        "model.adversary": model.adversary,
        "data.code_dropout": settings.data.code_dropout > 0,
        "data.code_separator": bool(settings.data.code_separator),
        "objective.feature": settings.objective.feature > 0,
        "train.semi_amortised with labels": bool(
            settings.train.semi_amortised and model.labels == "given"
        ),
    }
    for name, asked in refused.items():
        if asked:
            raise IsthmusError(
                f'{name}: a model with model.captions "given" does not go with it; leave it out'
            )
