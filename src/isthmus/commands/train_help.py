"""``isthmus train --help``: the most common settings, then all others by group."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from typing_extensions import Doc

from isthmus.settings import KINDS, Settings, fields_of, is_used

FIRST: Final = (
    *("model.kind", "model.latent_size"),
    *(
        "train.minutes",
        "train.epochs",
        "train.steps",
        "train.tokens_per_batch",
        "train.sentences_per_batch",
    ),
    *("train.learning_rate", "objective.beta", "objective.free_bits"),
    *("data.embeddings", "data.limit", "train.seed"),
)
"""The most common settings, in the order of the help."""
_TYPES: Final = {int: "INT", float: "FLOAT", str: "STR"}


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """The bodies of the classes of a module, by their names."""
    body = ast.parse(inspect.getsource(sys.modules[module])).body
    return {node.name: node.body for node in body if isinstance(node, ast.ClassDef)}


def _docstrings(cls: type) -> dict[str, str]:
    """The description of each field of a dataclass, as one line.

    It is the docstring under the field, in the class or a base, or the ``Doc`` of its type.
    """
    found: dict[str, str] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        for doc in getattr(hint, "__metadata__", ()):
            if isinstance(doc, Doc):
                found[name] = " ".join(doc.documentation.split())
    for base in reversed(cls.__mro__[:-1]):
        for field, text in pairwise(_classes(base.__module__)[base.__name__]):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(words))):
                    found[name] = " ".join(words.split())
    return found


def _entry(name: str, kind: Any, doc: str, value: object) -> tuple[str, str]:
    """A flag with its values, and its description with the default."""
    flag = f"--{name.replace('_', '-')}"
    if name == "model.kind":
        kind = Literal[*KINDS]
    if kind is bool:
        group, _, last = flag.rpartition(".")
        return f"{flag}, {group}.no-{last}", f"{doc} (default: {'on' if value else 'off'})"
    if get_origin(kind) is dict:
        return f"{flag} NAME VALUE …", doc
    values = f"{{{','.join(get_args(kind))}}}" if get_origin(kind) is Literal else _TYPES[kind]
    return f"{flag} {values}", doc if value == "" else f"{doc} (default: {value})"


def _entries(settings: object, word: str, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Group, name, flag and description of every setting; inner groups come last."""
    inner = []
    group, docs = inspect.getdoc(type(settings)) or "", _docstrings(type(settings))
    for name, kind in fields_of(type(settings), word).items():
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            inner.append((name, value))
        elif isinstance(value, dict) and value:
            for key, one in value.items():
                full = f"{prefix}{name}.{key}"
                yield group, full, *_entry(full, type(one), docs[name], one)
        else:
            yield group, prefix + name, *_entry(prefix + name, kind, docs.get(name, ""), value)
    for name, value in inner:
        yield from _entries(value, word, f"{prefix}{name}.")


def train_help(command: type, data: str, settings: Settings, recipe: str) -> str:
    """The help text, as wide as the terminal.

    Args:
        command: The dataclass of the verb; its docstrings describe it and its own arguments.
        data: What DATA can be, one paragraph per line.
        settings: Those of the recipe, as defaults.
        recipe: Its name; empty if settings are chosen for the data.
    """
    width = min(max(shutil.get_terminal_size().columns, 60), 120)
    own, kind = _docstrings(command), settings.model.kind
    values = f"of the recipe {recipe}" if recipe else "chosen for 100,000 sentences and two cores"
    values = f"of the recipe {recipe}" if recipe else "for 100,000 sentences and two cores"
    first = [
        ("--out DIR", f"{own['out']} (required)"),
        (
            "--recipe NAME",
            f"{own['recipe']} (default: {recipe or 'settings chosen for the data'})",
        ),
        ("--resume", own["resume"]),
        ("--report-to NAME …", f"{own['report_to']} (default: none)"),
    ]
    groups = {"The most common settings": first}
    entries = [entry for entry in _entries(settings, kind) if is_used(entry[1], kind)]
    first += [(flag, text) for n in FIRST for _, name, flag, text in entries if name == n]
    for group, name, flag, text in entries:
        if name not in FIRST:
            groups.setdefault(group, []).append((flag, text))
    lines = [
        "usage: isthmus train DATA --out DIR [--recipe NAME] [SETTINGS]",
        "",
        *_wrapped(inspect.getdoc(command) or "", width),
        "",
        *_wrapped(
            f"Below are the settings for --model.kind {kind}, with the values {values} as "
            "defaults. Add --recipe or --model.kind to --help to see those of another recipe or "
            "kind of model.",
            width,
        ),
        "",
        "DATA",
        *_wrapped(data.replace("\n", "\n\n"), width, "  "),
    ]
    for group, of_group in groups.items():
        title, _, more = group.partition("\n")
        lines += ["", *_wrapped(title.removesuffix("."), width), *_wrapped(more, width, "  ")]
        lines += [line for flag, text in of_group for line in _columns(flag, text, width)]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """The paragraphs of a text, filled."""
    fill = textwrap.TextWrapper(
        width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    return [line for paragraph in text.split("\n\n") for line in fill.wrap(paragraph.strip())]


def _columns(flag: str, text: str, width: int) -> list[str]:
    """A flag on the left and its text on the right; below a long flag, and below its values."""
    left = width * 2 // 5
    lines = _wrapped(text, width, " " * left)
    if len(flag) > width - 2:
        name, _, values = flag.partition(" ")
        return [f"  {name}", f"    {values}", *lines]
    if len(flag) > left - 4:
        return [f"  {flag}", *lines]
    return [f"  {flag:<{left - 2}}{lines[0][left:]}", *lines[1:]]
