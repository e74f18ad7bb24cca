"""From settings and training examples of pictures with captions to a model that can be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isthmus.data.captioned import Example
from isthmus.errors import IsthmusError
from isthmus.models.joint.model import JointConfig, JointModel
from isthmus.models.optimus import OptimusModel
from isthmus.models.pictures.build import build_pictures
from isthmus.models.texts import build_text
from isthmus.settings import CaptionedPicturesSettings, Settings, change_kind


def build_joint(
    settings: Settings,
    examples: Sequence[Example],
    names: Sequence[str] = (),
    labels: Sequence[str | None] = (),
    *,
    loaded: bool = False,
) -> JointModel:
    """A model of pictures and captions.

    Args:
        settings: Of this kind.
        examples: The training split; any part of each may be missing.
        names: Of the labels that p(y|z) predicts; none without it.
        labels: Of the examples, None where the label is missing.
        loaded: As for `isthmus.models.build.build`.

    Raises:
        IsthmusError: There is no picture or no caption at all.
    """
    first = next((e.picture for e in examples if e.picture is not None), None)
    captions = [example.caption for example in examples if example.caption is not None]
    if first is None or not captions:
        raise IsthmusError(
            f"model.kind: got {'no picture' if first is None else 'no caption'} in the training "
            "data, expected some of both; use text-vae or picture-vae for a model of one modality"
        )
    model = settings.model
    assert isinstance(model, CaptionedPicturesSettings)
    unlabelled = replace(  # labels belong to neither part alone
        settings,
        model=replace(model, labels="none"),
        data=replace(settings.data, labelled=0, sampling="natural"),
    )
    picture = build_pictures(change_kind(unlabelled, "picture-vae"), np.stack([first]))
    caption = build_text(change_kind(unlabelled, "text-vae"), captions, loaded=loaded)
    assert isinstance(caption, OptimusModel)
    config = JointConfig(
        latent_size=model.latent_size,
        picture=picture.config,
        caption=caption.config,
        labels=list(names) or None,
        label_head=model.picture.label_head,
    )
    built = JointModel(config, {"picture": picture, "caption": caption})
    if built.labels is not None:
        built.labels.start_prior([labels.count(name) for name in names])
    return built
