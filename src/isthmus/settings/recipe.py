"""Recipes: settings from a .toml file, with every mistake in it named."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from isthmus.errors import IsthmusError
from isthmus.settings.kinds import (
    DEFAULT_KIND,
    Settings,
    change_kind,
    fields_of,
    is_used,
    kind_named,
    why_unknown,
)

_TYPES = {int: "a whole number", float: "a number", str: "a text in quotes", dict: "a table"}


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = files("isthmus") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_recipe(name: str) -> Settings:
    """A recipe of the package by its name, or one from a .toml file.

    Raises:
        IsthmusError: There is no such recipe, or it has a mistake.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise IsthmusError(f"recipe: {name} does not exist")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise IsthmusError(f"recipe: {name} cannot be read: {error}") from error
    else:
        if name not in recipe_names():
            raise IsthmusError(
                f"recipe: got {name!r}, expected one of {', '.join(recipe_names())}, "
                "or a .toml file"
            )
        text = (files("isthmus") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise IsthmusError(f"recipe: {name} is not TOML: {error}") from error
    return from_dict(Settings, values, f"recipe {name}")


def to_toml(settings: Settings) -> str:
    """A recipe that :func:`load_recipe` reads as these settings."""
    return "\n".join(_tables(dataclasses.asdict(settings))).strip() + "\n"


def _tables(values: dict[str, Any], name: str = "") -> Iterator[str]:
    """The lines of a table, and of those in it."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    if plain:
        yield from ["", f"[{name}]"] if name else []
        # JSON and TOML write numbers, booleans and texts alike.
        yield from (f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in plain.items())
    for key, value in values.items():
        if key not in plain:
            yield from _tables(value, f"{name}.{key}".lstrip("."))


def from_dict(cls: type[Settings], values: Any, where: str) -> Settings:
    """Settings from nested plain values, such as those of a recipe.

    Args:
        cls: `Settings`.
        values: Groups of settings by name; ``model.kind`` decides which settings there are.
        where: What errors call them.

    Raises:
        IsthmusError: A setting that the kind of model does not have, or a value of a wrong type.
    """
    if isinstance(values, dict):
        values = {"model": {}, "data": {}} | values  # their defaults depend on the kind
    model = values.get("model") if isinstance(values, dict) else None
    kind = model.get("kind", DEFAULT_KIND) if isinstance(model, dict) else DEFAULT_KIND
    try:
        kind_named(kind)
    except IsthmusError as error:
        raise IsthmusError(f"{where}: {error}") from None
    built: Settings = _build(cls, values, where, kind)
    return built


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested plain values with changes laid over them."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(base.get(key, {}), value) if isinstance(value, dict) else value
    return result


def with_changes(settings: Settings, changes: dict[str, Any], where: str) -> Settings:
    """Settings with nested changes.

    Args:
        settings: What to start from.
        changes: Groups of settings by name. With ``model.kind`` the settings first become those
            of that kind, see `change_kind`.
        where: What errors call the result.
    """
    model = changes.get("model")
    if isinstance(model, dict) and "kind" in model:
        settings = change_kind(settings, model["kind"])
    return from_dict(Settings, merged(dataclasses.asdict(settings), changes), where)


def _build(cls: type, values: Any, where: str, kind: str, prefix: str = "") -> Any:
    """An object of a class of settings, refusing keys and types that it does not have."""
    if not isinstance(values, dict):
        raise IsthmusError(f"{where}: expected a table of settings, got {values!r}")
    types = fields_of(cls, kind)
    built = {}
    for key, value in values.items():
        if value == getattr(cls(), key, None) and not is_used(prefix + key, kind):
            continue
        why = why_unknown(prefix + key, kind, value)
        if not why and key not in types:
            near = get_close_matches(key, types, n=1)
            why = f"did you mean {near[0]}?" if near else f"known: {', '.join(types)}"
        if why:
            what = f"value {value!r} of" if key in types else "setting"
            raise IsthmusError(f"{where}: unknown {what} {key!r}; {why}")
        if dataclasses.is_dataclass(types[key]):
            built[key] = _build(types[key], value, f"{where}, {key}", kind, f"{prefix}{key}.")
        else:
            built[key] = _typed(types[key], value, f"{where}, {key}")
    try:
        return cls(**built)
    except IsthmusError as error:
        raise IsthmusError(f"{where}: {error}") from None


def _typed(expected: Any, value: Any, where: str) -> Any:
    """A plain value of the type that a setting has; a whole number serves as a float."""
    if get_origin(expected) is Literal:
        if value not in get_args(expected):
            choices = ", ".join(get_args(expected))
            raise IsthmusError(f"{where}: got {value!r}, expected one of {choices}")
        return value
    plain = get_origin(expected) or expected
    if plain is float and type(value) is int:
        return float(value)
    if type(value) is not plain:
        raise IsthmusError(f"{where}: got {value!r}, expected {_TYPES[plain]}")
    return value
