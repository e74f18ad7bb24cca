"""From settings and training examples to a model that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from isthmus.data.labelled import codes
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.joint.build import build_joint
from isthmus.models.pictures.build import build_pictures
from isthmus.models.texts import build_text
from isthmus.settings import CodeSettings, Settings

_BUILDERS: Final[dict[str, Callable[..., LatentModel]]] = {
    "text-vae": build_text,
    "language-model": build_text,
    "picture-vae": build_pictures,
    "pictures-with-captions": build_joint,
}
"""Kind of model → settings, training examples, names of the labels, labels → model."""


def build(
    settings: Settings,
    examples: Sequence[Any],
    labels: Sequence[str | None] | None = None,
    *,
    loaded: bool = False,
) -> LatentModel:
    """A model as the settings describe it.

    Args:
        settings: A recipe.
        examples: The training split and nothing else: texts, pictures [N C H W], or
            `isthmus.data.captioned.Example` for pictures with captions.
        labels: Of the examples, None where the label is missing; read if ``model.labels`` is
            "given".
        loaded: Its weights are loaded next: a start at a pretrained decoder, which takes passes
            through it, is left out.

    Raises:
        IsthmusError: Settings that cannot be combined, or do not fit the data.
    """
    names: Sequence[str] = ()
    if settings.model.labels == "given":
        data = settings.data
        separator = data.code_separator if isinstance(data, CodeSettings) else ""
        names = sorted({name for name in codes(labels, separator) if name})
        if len(names) < 2:
            raise IsthmusError(
                f'model.labels is "given": expected at least 2 labels, got {len(names)}'
            )
    more = {} if settings.model.kind == "picture-vae" else {"loaded": loaded}
    return _BUILDERS[settings.model.kind](settings, examples, names, labels or (), **more)
