"""What a user can set, as dataclasses: recipes are files of them, flags override their fields."""

from isthmus.settings.groups import (
    DataSettings,
    DecoderSettings,
    EncoderSettings,
    FirstPhaseSettings,
    ModelSettings,
    ObjectiveSettings,
    PictureSettings,
    Settings,
    StockSettings,
    TrainSettings,
)
from isthmus.settings.recipe import from_dict, load_recipe, recipe_names

__all__ = [
    "DataSettings",
    "DecoderSettings",
    "EncoderSettings",
    "FirstPhaseSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "PictureSettings",
    "Settings",
    "StockSettings",
    "TrainSettings",
    "from_dict",
    "load_recipe",
    "recipe_names",
]
