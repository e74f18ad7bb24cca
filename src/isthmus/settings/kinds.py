"""All settings of a run, and the kinds of model that decide which there are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Any, Final, NamedTuple, get_type_hints

from isthmus.errors import IsthmusError
from isthmus.settings.data import (
    CaptionedDataSettings,
    DataSettings,
    LanguageDataSettings,
    PictureDataSettings,
    TextDataSettings,
    TokenSettings,
)
from isthmus.settings.models import (
    CaptionedPicturesSettings,
    LanguageModelSettings,
    ModelSettings,
    PictureVAESettings,
    TextVAESettings,
)
from isthmus.settings.objective import ObjectiveSettings
from isthmus.settings.training import FirstPhaseSettings, TrainSettings


class Kind(NamedTuple):
    """What belongs to a kind of model."""

    model: type[ModelSettings]
    data: type[DataSettings]
    first_phase: bool
    """Whether it can begin with a phase as an autoencoder."""


DEFAULT_KIND: Final = "text-vae"
KINDS: Final = {
    "text-vae": Kind(TextVAESettings, TextDataSettings, True),
    "language-model": Kind(LanguageModelSettings, LanguageDataSettings, False),
    "picture-vae": Kind(PictureVAESettings, PictureDataSettings, True),
    "pictures-with-captions": Kind(CaptionedPicturesSettings, CaptionedDataSettings, False),
}
"""Every kind of model, by the word that recipes and ``--model.kind`` use."""


@dataclass(frozen=True)
class Settings:
    """A recipe: everything that, with the data, determines a run."""

    model: ModelSettings = field(default_factory=TextVAESettings)
    data: DataSettings = field(default_factory=TextDataSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    first: FirstPhaseSettings = field(default_factory=FirstPhaseSettings)

    def __post_init__(self) -> None:
        kind = KINDS[self.model.kind]
        if type(self.data) is not kind.data:
            raise IsthmusError(
                f"data: got {type(self.data).__name__}, expected {kind.data.__name__} for a model "
                f"of kind {self.model.kind}"
            )
        self._check_start(kind)
        self._check_terms()
        for name in ("code_dropout", "code_separator", "sampling"):
            value = getattr(self.data, name, "")
            if self.model.labels == "none" and value and value != "natural":
                raise IsthmusError(
                    f"data.{name}: got {value!r}, but nothing reads labels; "
                    "add --model.labels given"
                )
        words = isinstance(self.data, TokenSettings) and self.data.tokenizer == "word"
        if (
            not words
            and (decoder := getattr(self.model, "decoder", None))
            and decoder.word_vectors
        ):
            raise IsthmusError(
                "model.decoder.word_vectors: got data.tokenizer 'bpe', whose tokens are not "
                "words; add --data.tokenizer word"
            )

    def _check_start(self, kind: Kind) -> None:
        encoder = getattr(self.model, "encoder", None)
        if self.train.start_from and (self.first.epochs or getattr(encoder, "start_from", "")):
            raise IsthmusError(
                "train.start_from gives all weights, which first.epochs or "
                "model.encoder.start_from would replace; leave out one of them"
            )
        if self.first.epochs and not kind.first_phase:
            raise IsthmusError(
                f"first.epochs: got {self.first.epochs:g}, but a {self.model.kind} has no first "
                "phase as an autoencoder; use --first.epochs 0"
            )

    def _check_terms(self) -> None:
        """Refuse terms of the loss that the model does not have."""
        if self.objective.feature and not isinstance(self.model, PictureVAESettings):
            raise IsthmusError(
                f"objective.feature: got {self.objective.feature}, but only a picture-vae has "
                f"this term, and this model is a {self.model.kind}; use --objective.feature 0"
            )
        if self.objective.feature and self.train.semi_amortised:
            raise IsthmusError(
                "objective.feature and train.semi_amortised cannot be combined; leave out one"
            )
        labelled = self.model.labels == "given" and self.model.kind != "picture-vae"
        if self.train.semi_amortised and (labelled or getattr(self.model, "clusters", 0)):
            raise IsthmusError(
                "train.semi_amortised refines q(z|x) alone and cannot be combined with labels or "
                "clusters; leave out --train.semi-amortised, or model.labels and model.clusters"
            )


def shared_fields(source: object, target: type) -> dict[str, Any]:
    """The values of a dataclass that another one has a field for, by name.

    Example:
        >>> shared_fields(PictureDataSettings(limit=3), TokenSettings)
        {'limit': 3, 'labelled': 0, 'sampling': 'natural'}
    """
    names = {field.name for field in dataclasses.fields(target)}
    return {name: value for name, value in vars(source).items() if name in names}


def change_kind(settings: Settings, word: str) -> Settings:
    """The same settings for another kind of model, as far as it has them.

    Args:
        settings: Of any kind.
        word: A key of ``KINDS``.

    Raises:
        IsthmusError: There is no such kind.
    """
    kind = kind_named(word)
    model = {**shared_fields(settings.model, kind.model), "kind": word}
    for name, part in get_type_hints(kind.model).items():
        if name in model and dataclasses.is_dataclass(part):
            model[name] = part(**shared_fields(model[name], part))  # type: ignore[operator]
    objective = settings.objective
    if kind.model is not PictureVAESettings:
        objective = dataclasses.replace(objective, feature=0.0)
    return dataclasses.replace(
        settings,
        model=kind.model(**model),
        data=kind.data(**shared_fields(settings.data, kind.data)),
        objective=objective,
        first=settings.first if kind.first_phase else FirstPhaseSettings(),
    )


def kind_named(word: object) -> Kind:
    """The kind of a word, or one line about the words there are."""
    if not isinstance(word, str) or word not in KINDS:
        raise IsthmusError(f"model.kind: got {word!r}, expected one of {', '.join(KINDS)}")
    return KINDS[word]


@cache
def fields_of(settings: type, word: str) -> dict[str, Any]:
    """The fields of a class of settings with their types: those of a kind, for unions."""
    kind = KINDS[word]
    chosen = {ModelSettings: kind.model, DataSettings: kind.data}
    types = get_type_hints(settings)
    return {k: chosen[t] if isinstance(t, UnionType) else t for k, t in types.items()}


@cache
def setting_names(word: str, settings: type = Settings, prefix: str = "") -> frozenset[str]:
    """The full names of a kind's settings and groups, such as model.encoder.layers."""
    names = set()
    for name, part in fields_of(settings, word).items():
        names.add(prefix + name)
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            names |= setting_names(word, part, f"{prefix}{name}.")
    return frozenset(names)


def why_unknown(name: str, word: str, value: object = None) -> str:
    """What to say about a setting that a kind does not have; empty if no kind has it.

    Args:
        name: Its full name.
        word: The kind of the recipe.
        value: What it was set to, if known.
    """
    match name, value:  # spellings of version 0.1.0
        case "model.latent", "none":
            return 'write model.kind "language-model" instead'
        case "model.latent", _:
            return "leave it out: model.kind decides whether there is a latent vector"
        case "model.captions", _:
            return 'write model.kind "pictures-with-captions" instead, or leave it out for "none"'
        case "model.picture.network", "none":
            return 'write model.kind "text-vae" instead'
    having = [kind for kind in KINDS if name in setting_names(kind)]
    if word in having or not having:
        return ""
    return f"a {word} has no such setting; with model.kind {' or '.join(having)} there is one"
