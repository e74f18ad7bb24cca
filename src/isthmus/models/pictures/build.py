"""From settings and training pictures to a model that can be trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.models.pictures.model import PictureConfig, PictureModel
from isthmus.settings import PictureVAESettings, Settings, shared_fields


def build_pictures(
    settings: Settings,
    pictures: NDArray[np.uint8],
    names: Sequence[str] = (),
    labels: Sequence[str | None] = (),
) -> PictureModel:
    """A picture VAE for pictures [N C H W] of one shape.

    Args:
        settings: Of this kind.
        pictures: The training split.
        names: Of the labels that p(y|z) predicts; none without it.
        labels: Of the pictures, None where the label is missing.
    """
    from transformers import set_seed  # with which it imports peft

    set_seed(settings.train.seed)
    model = settings.model
    assert isinstance(model, PictureVAESettings)
    channels, height, width = pictures.shape[1:]
    config = PictureConfig(
        **{
            **shared_fields(model, PictureConfig),
            **shared_fields(model.picture, PictureConfig),
            "channels": channels,
            "height": height,
            "width": width,
            "labels": list(names) or None,
        }
    )
    built = PictureModel(config)
    if built.labels is not None:
        built.labels.start_prior([labels.count(name) for name in names])
    return built
