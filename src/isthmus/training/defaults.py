"""The settings and the data of a run that names no recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.choice import MINUTES, TYPICAL, at_most, choose, reasons
from isthmus.data.choice_given import BETA, WIDEST, choose_given, reasons_given
from isthmus.data.kind import Kind, Splits
from isthmus.data.kinds import JOINT, PICTURE, of_model
from isthmus.data.profile import profile
from isthmus.data.vectors import width_of
from isthmus.models.stock import check_sources, with_own_options
from isthmus.runs.bundle import read_run
from isthmus.runs.folders import SETTINGS_FILE, read_json
from isthmus.runs.hub import local
from isthmus.settings import Settings, TextVAESettings, from_dict, load_recipe, with_changes
from isthmus.training.machine import this_machine
from isthmus.training.pretrained import (
    Source,
    around_decoder,
    beside_encoder,
    named_source,
    reasons_around,
)

_RECIPES = {PICTURE: "picture-vae-conv", JOINT: "doors"}
"""What is not texts alone is trained with a recipe."""


def without_recipe(
    kind: Kind,
    read: Callable[[Settings], Splits[Any]],
    changes: dict[str, Any],
    say: Callable[[str], None],
    former: Path | None = None,
) -> tuple[Settings, Splits[Any]]:
    """Choose the settings of a run by its data and this machine, and say what and why.

    Args:
        kind: what the data look like; ``model.kind`` among the changes takes precedence.
        read: reads the data for some settings.
        changes: nested settings that the user gives; they are kept.
        say: called with each line.
        former: the directory of the run that is to be resumed: its choice is kept.

    Returns:
        The settings, and the data as they read them.
    """
    model = changes.get("model")
    if isinstance(model, dict) and isinstance(model.get("kind"), str):
        kind = of_model(model["kind"])
    if former is not None and (former / SETTINGS_FILE).is_file():
        path = former / SETTINGS_FILE
        before = from_dict(Settings, read_json(path).get("settings"), str(path))
        settings = _changed(before, changes)
        check_sources(settings)
        return settings, read(settings)
    if (named := _named(kind, changes, say)) is not None:
        return named, read(named)
    asked = _changed(TYPICAL, changes)
    source = named_source(asked)
    splits = read(asked)
    if source is not None and source.role == "decoder":
        return _around(source, splits.train.examples, changes, say), splits
    own = changes.get("data", {}).get("tokenizer")
    looks = profile(splits.train.examples, splits.train.known_labels, own)
    machine = this_machine()
    width, minutes_given = width_of(splits.train.examples), asked.train.minutes
    if width:
        choice = choose_given(looks, machine, minutes_given, width)
    else:
        choice = choose(looks, machine, minutes_given)
    if source is not None and source.role == "encoder":
        choice = beside_encoder(choice, source.name)
    settings = _with_room(_changed(choice, changes), changes)
    shown = settings if isinstance(settings.model, TextVAESettings) else choice
    if width:
        lines = reasons_given(shown, looks, machine, width)
    else:
        lines = reasons(shown, looks, machine)
    for line in lines:
        say(f"chosen: {line}")
    return settings, splits


def _around(
    decoder: Source, texts: Sequence[str], changes: dict[str, Any], say: Callable[[str], None]
) -> Settings:
    """The settings around a pretrained decoder, said and why."""
    asked, width = changes.get("model", {}).get("encoder", {}), width_of(texts)
    found = around_decoder(decoder, texts, {**asked, "source": ""} if width else asked)
    choice = found.settings
    if width:
        values = {"latent_size": min(width, WIDEST)}
        bound = {"schedule": "constant", "beta": BETA, "free_bits": 0.0}
        choice = with_changes(choice, {"model": values, "objective": bound}, "choice")
    settings = _changed(choice, changes)
    for line in reasons_around(found, settings, len(texts), width):
        say(f"chosen: {line}")
    return settings


def _named(kind: Kind, changes: dict[str, Any], say: Callable[[str], None]) -> Settings | None:
    """The settings of the run to start from, or of the recipe for what is not texts alone."""
    start = changes.get("train", {}).get("start_from")
    if start and (its_own := _of_run(start)):
        found, what = its_own, f"the model and the settings of {start}"
    elif kind in _RECIPES:
        found = load_recipe(_RECIPES[kind])
        pictures = "pictures with captions" if kind is JOINT else "pictures"
        what = f"the recipe {_RECIPES[kind]} for {pictures}"
    else:
        return None
    limited = with_changes(found, {"train": {"minutes": MINUTES}}, "choice")
    settings = _changed(limited, changes)
    say(f"chosen: {what}{at_most(settings)}")
    return settings


def _of_run(start: str) -> Settings | None:
    """The settings of a run, for more training on other data; None of other people's weights."""
    record = read_run(local(start)).get("settings") or {}
    if "train" not in record:
        return None
    before = from_dict(Settings, record, f"{start}/run.json")
    changes: dict[str, Any] = {"data": {"limit": 0}, "first": {"epochs": 0}}
    if isinstance(before.model, TextVAESettings):
        changes["model"] = {"encoder": {"start_from": ""}}
    for name, none in (("embeddings", ""), ("streaming", False)):
        if getattr(before.data, name, none):
            changes["data"][name] = none
    return with_changes(before, changes, "choice")


def _with_room(settings: Settings, changes: dict[str, Any]) -> Settings:
    """The chosen summary, made smaller where flags leave it a narrower model."""
    model, given = settings.model, changes.get("model", {})
    if not isinstance(model, TextVAESettings) or not model.summary or "summary" in given:
        return settings
    summary = min(model.summary, max(1, model.decoder.hidden_size // model.latent_size))
    smaller = {"summary": summary, "latents": model.latents - model.summary + summary}
    return _changed(with_changes(settings, {"model": smaller}, "choice"), changes)


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    own = with_own_options(settings, changes.get("model"))
    return with_changes(own, changes, "settings")
