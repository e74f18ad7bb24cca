"""From settings and training examples of several kinds to a model that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from isthmus.data.captioned import Example
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.joint.model import JointConfig, JointModel
from isthmus.models.pictures.build import build_pictures
from isthmus.settings import DataSettings, ModelSettings, PictureSettings, Settings

Builder = Callable[[Settings, Sequence[str]], LatentModel]
"""Builds a model of texts."""


def build_joint(settings: Settings, examples: Sequence[Example], texts: Builder) -> JointModel:
    """A model of pictures and captions as the settings describe it.

    Arguments:
        settings: ``model.picture`` for the pictures, all the rest for the captions.
        examples: of the training split, any part of each missing.
        texts: builds the model of the captions.

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
    of_text = replace(model, picture=PictureSettings(), captions="none")
    of_picture = ModelSettings(latent_size=model.latent_size, picture=model.picture)
    parts = {
        "picture": build_pictures(
            replace(settings, model=of_picture, data=DataSettings()), np.stack([shown])
        ),
        "caption": texts(replace(settings, model=of_text), captions),
    }
    config = JointConfig(
        latent_size=model.latent_size,
        picture=parts["picture"].config,
        caption=parts["caption"].config,
    )
    return JointModel(config, parts)


def _check(settings: Settings) -> None:
    """Refuse what would be read by nothing."""
    refused = {
        'model.latent "none"': settings.model.latent == "none",
        "first.epochs": settings.first.epochs > 0,
        "model.encoder.start_from": bool(settings.model.encoder.start_from),
    }
    for name, asked in refused.items():
        if asked:
            raise IsthmusError(
                f'{name}: a model with model.captions "given" does not go with it; leave it out'
            )
