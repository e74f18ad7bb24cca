"""What a user can set, as dataclasses: recipes are files of them, flags override their fields."""

from isthmus.settings.data import (
    CaptionedDataSettings,
    CodeSettings,
    DataSettings,
    LanguageDataSettings,
    PictureDataSettings,
    StreamSettings,
    TextDataSettings,
    TokenSettings,
)
from isthmus.settings.kinds import (
    KINDS,
    Settings,
    change_kind,
    fields_of,
    is_used,
    setting_names,
    shared_fields,
    why_unknown,
)
from isthmus.settings.models import (
    CaptionedPicturesSettings,
    LanguageModelSettings,
    ModelSettings,
    PictureVAESettings,
    TextVAESettings,
)
from isthmus.settings.networks import (
    CaptionEncoderSettings,
    DecoderSettings,
    EncoderSettings,
    PictureSettings,
    StockSettings,
)
from isthmus.settings.objective import ObjectiveSettings
from isthmus.settings.recipe import (
    from_dict,
    load_recipe,
    merged,
    recipe_names,
    to_toml,
    with_changes,
)
from isthmus.settings.training import FirstPhaseSettings, TrainSettings

__all__ = [
    "KINDS",
    "CaptionEncoderSettings",
    "CaptionedDataSettings",
    "CaptionedPicturesSettings",
    "CodeSettings",
    "DataSettings",
    "DecoderSettings",
    "EncoderSettings",
    "FirstPhaseSettings",
    "LanguageDataSettings",
    "LanguageModelSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "PictureDataSettings",
    "PictureSettings",
    "PictureVAESettings",
    "Settings",
    "StockSettings",
    "StreamSettings",
    "TextDataSettings",
    "TextVAESettings",
    "TokenSettings",
    "TrainSettings",
    "change_kind",
    "fields_of",
    "from_dict",
    "is_used",
    "load_recipe",
    "merged",
    "recipe_names",
    "setting_names",
    "shared_fields",
    "to_toml",
    "why_unknown",
    "with_changes",
]
