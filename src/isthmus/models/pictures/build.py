"""From settings and training pictures to a model that can be trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import set_seed

from isthmus.errors import IsthmusError
from isthmus.models.pictures.model import PictureConfig, PictureModel
from isthmus.settings import DataSettings, ModelSettings, Settings


def build_pictures(
    settings: Settings,
    pictures: NDArray[np.uint8],
    names: Sequence[str] = (),
    labels: Sequence[str | None] = (),
) -> PictureModel:
    """A model as the settings describe it, of the shape that the pictures [N C H W] have.

    Arguments:
        settings: a recipe.
        pictures: the training split.
        names: of the labels that p(y|z) tells; none without it.
        labels: of the pictures, None where one is not told.

    Raises:
        IsthmusError: settings that only a model of texts has.
    """
    _check(settings)
    set_seed(settings.train.seed)
    model, picture = settings.model, settings.model.picture
    assert picture.network != "none"
    channels, height, width = pictures.shape[1:]
    config = PictureConfig(
        channels=channels,
        height=height,
        width=width,
        latent_size=model.latent_size,
        prior=model.prior,
        prior_components=model.prior_components,
        network=picture.network,
        hidden_size=picture.hidden_size,
        layers=picture.layers,
        likelihood=picture.likelihood,
        binarisation=picture.binarisation,
        fit=picture.fit,
        label_head=picture.label_head,
        labels=list(names) or None,
        scale=picture.scale,
    )
    built = PictureModel(config)
    if built.labels is not None:
        built.labels.start_prior([labels.count(name) for name in names])
    return built


def _check(settings: Settings) -> None:
    """Refuse what would be read by nothing."""
    groups = (
        ("model", settings.model, ModelSettings(), ("latent", "bridge", "clusters", "rivals")),
        ("model", settings.model, ModelSettings(), ("encoder", "decoder", "adversary")),
        ("data", settings.data, DataSettings(), ("deletion", "masking", "word_dropout")),
        ("data", settings.data, DataSettings(), ("code_dropout", "code_separator")),
    )
    for group, given, default, names in groups:
        for name in names:
            if vars(given)[name] != vars(default)[name]:
                raise IsthmusError(
                    f"{group}.{name}: is for texts, and a model of pictures does not read it; "
                    "leave it out, or leave out model.picture.network"
                )
