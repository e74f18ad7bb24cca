"""All settings of a run, and the kinds of model that decide which there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Any, Final, NamedTuple, get_type_hints

from isthmus.errors import IsthmusError
from isthmus.settings.choices import DISCRETE
from isthmus.settings.data import (
    CaptionedDataSettings,
    DataSettings,
    LanguageDataSettings,
    PictureDataSettings,
    TextDataSettings,
)
from isthmus.settings.models import (
    CaptionedPicturesSettings,
    LanguageModelSettings,
    ModelSettings,
    PictureVAESettings,
    TextVAESettings,
)
from isthmus.settings.objective import ObjectiveSettings
from isthmus.settings.ranges import check
from isthmus.settings.training import FirstPhaseSettings, TrainSettings


class Kind(NamedTuple):
    """What belongs to a kind of model."""

    model: type[ModelSettings]
    data: type[DataSettings]
    unused: tuple[str, ...]
    """Settings and groups that all models share but this kind does not use."""


DEFAULT_KIND: Final = "text-vae"
KINDS: Final = {
    "text-vae": Kind(
        TextVAESettings,
        TextDataSettings,
        ("objective.caption", "objective.uncertainty", "objective.feature"),
    ),
    "language-model": Kind(
        LanguageModelSettings,
        LanguageDataSettings,
        (
            *("objective.label_nats", "objective.balance", "objective.caption"),
            *("objective.adversary", "objective.uncertainty", "objective.feature", "first"),
            "objective.words",
            *("objective.summary_kl", "objective.codebook"),
            "train.fit_prior",
        ),
    ),
    "picture-vae": Kind(
        PictureVAESettings,
        PictureDataSettings,
        (
            *("objective.label_nats", "objective.caption", "objective.adversary"),
            *("objective.words", "objective.summary_kl", "objective.codebook", "first.trains"),
            *("train.gradient_checkpointing", "train.sampled_vocabulary"),
        ),
    ),
    "pictures-with-captions": Kind(
        CaptionedPicturesSettings,
        CaptionedDataSettings,
        (
            *("objective.label_nats", "objective.adversary", "objective.feature", "first"),
            "objective.words",
            *("objective.summary_kl", "objective.codebook"),
            "train.fit_prior",
            *("train.gradient_checkpointing", "train.sampled_vocabulary"),
        ),
    ),
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
        check(self)
        kind = KINDS[self.model.kind]
        if type(self.data) is not kind.data:
            raise IsthmusError(
                f"data: got {type(self.data).__name__}, expected {kind.data.__name__} for a model "
                f"of kind {self.model.kind}"
            )
        for conflict in self._conflicts():
            raise IsthmusError(conflict)

    def _conflicts(self) -> Iterator[str]:
        """One line for each pair of settings that cannot be combined."""
        model, data, train = self.model, self.data, self.train
        encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
        if train.start_from and (self.first.epochs or getattr(encoder, "start_from", "")):
            yield (
                "train.start_from gives all weights, which first.epochs or "
                "model.encoder.start_from would replace; leave out one of them"
            )
        if train.minutes and train.steps and self.first.epochs:
            yield (
                "train.minutes: two phases share the time by their epochs; give train.epochs in "
                "the place of train.steps"
            )
        for name, value, default in _unused(self, model.kind):
            if value != default:
                yield f"{name}: got {value!r}, but {why_unknown(name, model.kind)}"
        if self.objective.feature and train.semi_amortised:
            yield "objective.feature and train.semi_amortised cannot be combined; leave out one"
        labelled = model.labels == "given" and model.kind != "picture-vae"
        if train.semi_amortised and (labelled or getattr(model, "clusters", 0)):
            yield (
                "train.semi_amortised refines q(z|x) alone and cannot be combined with labels or "
                "clusters; leave out --train.semi-amortised, or model.labels and model.clusters"
            )
        if (posterior := getattr(model, "posterior", "")) in DISCRETE:
            for name in ("fit_prior", "semi_amortised"):
                if getattr(train, name):
                    yield f"train.{name} is for Gaussian posteriors, not {posterior}; leave it out"
        for name in ("code_dropout", "code_separator", "sampling"):
            value = getattr(data, name, "")
            if model.labels == "none" and value and value != "natural":
                yield (
                    f"data.{name}: got {value!r}, but nothing reads labels; "
                    "add --model.labels given"
                )
        if decoder and decoder.word_vectors and getattr(data, "tokenizer", "") != "word":
            yield (
                "model.decoder.word_vectors: got data.tokenizer 'bpe', whose tokens are not "
                "words; add --data.tokenizer word"
            )


_SHARED: Final[dict[str, Any]] = {
    "objective": ObjectiveSettings(),
    "train": TrainSettings(),
    "first": FirstPhaseSettings(),
}
"""The groups that are of one class for all kinds, with their defaults."""


def shared_fields(source: object, target: type) -> dict[str, Any]:
    """The values of a dataclass that another one has a field for, by name.

    Examples:
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
    for name, part in fields_of(kind.model, word).items():
        if name in model and isinstance(part, type) and dataclasses.is_dataclass(part):
            model[name] = part(**shared_fields(model[name], part))
    groups = {name: getattr(settings, name) for name in _SHARED}
    for name, _, default in _unused(settings, word):
        group, _, field = name.partition(".")
        groups[group] = dataclasses.replace(groups[group], **{field: default})
    return dataclasses.replace(
        settings,
        model=kind.model(**model),
        data=kind.data(**shared_fields(settings.data, kind.data)),
        **groups,
    )


def _unused(settings: Settings, word: str) -> Iterator[tuple[str, Any, Any]]:
    """The settings that a kind does not use: full name, value and default."""
    for group, default in _SHARED.items():
        for name, value in vars(getattr(settings, group)).items():
            if not is_used(f"{group}.{name}", word):
                yield f"{group}.{name}", value, getattr(default, name)


def is_used(name: str, word: str) -> bool:
    """Whether a kind uses a setting that all models share."""
    return not f"{name}.".startswith(tuple(f"{unused}." for unused in KINDS[word].unused))


def kind_named(word: object) -> Kind:
    """The kind of a word, or one line about the words there are."""
    if not isinstance(word, str) or word not in KINDS:
        raise IsthmusError(f"model.kind: got {word!r}, expected one of {', '.join(KINDS)}")
    return KINDS[word]


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
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            names |= {prefix + name, *setting_names(word, part, f"{prefix}{name}.")}
        elif is_used(prefix + name, word):
            names.add(prefix + name)
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
