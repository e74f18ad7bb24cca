"""Recipes: settings from a .toml file, with every mistake in it named."""

from __future__ import annotations

import dataclasses
import tomllib
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from isthmus.errors import IsthmusError
from isthmus.settings.groups import Settings


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = files("isthmus") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_recipe(name: str) -> Settings:
    """A recipe by its name, or from a .toml file of the user's.

    Raises:
        IsthmusError: no such recipe, or a key in it that no setting has.
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


def from_dict(kind: type[Any], values: Any, where: str) -> Any:
    """Rebuild nested settings from plain values, refusing keys and types they do not have."""
    if not isinstance(values, dict):
        raise IsthmusError(f"{where}: expected a table of settings, got {values!r}")
    types = get_type_hints(kind)
    for key in values:
        if key not in types:
            near = get_close_matches(key, types, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(types)}"
            raise IsthmusError(f"{where}: unknown setting {key!r}{hint}")
    built = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(types[key]):
            built[key] = from_dict(types[key], value, f"{where}, {key}")
        else:
            built[key] = _typed(types[key], value, f"{where}, {key}")
    try:
        return kind(**built)
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
        words = {
            int: "a whole number",
            float: "a number",
            str: "a text in quotes",
            dict: "a table",
        }
        raise IsthmusError(f"{where}: got {value!r}, expected {words[plain]}")
    return value
