"""The kinds of data, and which of them a recipe, a run or a record is about.

Examples:
    >>> from isthmus.data import kinds
    >>> kinds.of_record({"pictures": 3}).unit
    'picture'
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.data.captioned import CAPTION_KEYS, JOINT, KEYWORDS_KEY
from isthmus.data.corpus import TEXT
from isthmus.data.folders import PICTURE_FORMS, has_pictures_alone
from isthmus.data.kind import Kind
from isthmus.data.pictures import CAPTIONS_FILE, PICTURE, folders_of
from isthmus.data.pictures.arrays import load_arrays
from isthmus.settings import Settings

__all__ = [
    "JOINT",
    "KINDS",
    "PICTURE",
    "TEXT",
    "config_of",
    "of_data",
    "of_model",
    "of_record",
    "of_run",
    "of_settings",
]

KINDS = (JOINT, PICTURE, TEXT)
"""Every kind. The records of the first count pictures as well, so it goes before them."""

_OF_MODELS: dict[str, Kind] = {
    "text-vae": TEXT,
    "language-model": TEXT,
    "picture-vae": PICTURE,
    "pictures-with-captions": JOINT,
    "isthmus-optimus": TEXT,
    "isthmus-language": TEXT,
    "isthmus-picture": PICTURE,
    "isthmus-joint": JOINT,
}
"""Kind of data by the kind of model in a recipe, and by the ``model_type`` of a configuration."""


def of_model(model_type: str) -> Kind:
    """The kind of data that a model reads, by the ``model_type`` of its configuration."""
    return _OF_MODELS.get(model_type, TEXT)


def of_run(run: str | Path) -> Kind:
    """The kind of data that a run reads, without loading its model."""
    return of_model(str(config_of(run).get("model_type")))


def config_of(run: str | Path) -> dict[str, Any]:
    """The configuration of a run; empty if it is damaged, which loading the run reports."""
    try:
        config = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def of_data(data: str) -> Kind:
    """The kind that DATA looks like, where no recipe says it; ``scenes`` are texts."""
    path = Path(data)
    if data == "digits" or path.suffix.lower() in PICTURE_FORMS:
        return PICTURE
    if path.suffix == ".npz" and path.is_file():
        named = {*CAPTION_KEYS, KEYWORDS_KEY}
        return JOINT if named & load_arrays(path).keys() else PICTURE
    if path.is_dir():
        if any((place / CAPTIONS_FILE).is_file() for place in folders_of(path).values()):
            return JOINT
        if has_pictures_alone(path):
            return PICTURE
    return TEXT


def of_settings(settings: Settings) -> Kind:
    """The kind of data that a recipe trains on."""
    return _OF_MODELS[settings.model.kind]


def of_record(record: Mapping[str, Any]) -> Kind:
    """The kind of data that metrics, or the data of a run.json, are about."""
    return next((kind for kind in KINDS if f"{kind.unit}s" in record), TEXT)
