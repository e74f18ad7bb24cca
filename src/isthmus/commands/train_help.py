"""``isthmus train --help``: the settings that people change first, then all others by group."""

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

from isthmus.settings import KINDS, Settings, fields_of

FIRST: Final = (
    *("model.kind", "model.latent_size"),
    *("train.epochs", "train.steps", "train.tokens_per_batch", "train.sentences_per_batch"),
    *("train.learning_rate", "objective.beta", "objective.free_bits"),
    *("data.limit", "train.seed"),
)
"""Settings that people change first."""
_TYPES: Final = {int: "INT", float: "FLOAT", str: "STR"}


@cache
def _docstrings(cls: type) -> dict[str, str]:
    """What a dataclass says of its fields, each on one line.

    That is the docstring under the field, in the class or a base, or the ``Doc`` of its type.
    """
    found: dict[str, str] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        for doc in getattr(hint, "__metadata__", ()):
            if isinstance(doc, Doc):
                found[name] = " ".join(doc.documentation.split())
    for base in reversed(cls.__mro__[:-1]):
        module = ast.parse(inspect.getsource(sys.modules[base.__module__]))
        [body] = [n.body for n in module.body if getattr(n, "name", "") == base.__name__]
        for field, text in pairwise(body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(words))):
                    found[name] = " ".join(words.split())
    return found


def _entry(name: str, kind: Any, doc: str, value: object) -> tuple[str, str]:
    """A flag with its values, and what it does with its default."""
    flag = f"--{name.replace('_', '-')}"
    if name == "model.kind":
        kind = Literal[*KINDS]
    if kind is bool:
        head, _, tail = flag.rpartition(".")
        flag += f", {head}.no-{tail}" if head else ""
        default = ""
    else:
        choice = get_origin(kind) is Literal
        flag += f" {{{','.join(get_args(kind))}}}" if choice else f" {_TYPES[kind]}"
        default = "" if value == "" else f" (default: {value})"
    return flag, doc + (f" (default: {'on' if value else 'off'})" if kind is bool else default)


def _settings(settings: Any, word: str, prefix: str = "") -> Iterator[tuple[str, str, str, Any]]:
    """Every setting of a group and the groups in it: group, flag, text and the group's object."""
    groups = []
    for name, kind in fields_of(type(settings), word).items():
        value, doc = getattr(settings, name), _docstrings(type(settings)).get(name, "")
        if dataclasses.is_dataclass(kind):
            groups.append((name, value))
        elif isinstance(value, dict):
            for key, one in value.items():
                yield prefix, *_entry(f"{prefix}{name}.{key}", type(one), doc, one), settings
            if not value:
                yield prefix, f"--{prefix}{name} NAME VALUE …", doc, settings
        else:
            yield prefix, *_entry(prefix + name, kind, doc, value), settings
    for name, value in groups:
        yield from _settings(value, word, f"{prefix}{name}.")


def train_help(command: type, data: str, settings: Settings, recipe: str) -> str:
    """The help text, as wide as the terminal.

    Args:
        command: The dataclass of the verb; its docstrings describe it and its own arguments.
        data: What DATA can be, one paragraph a line.
        settings: The recipe, for the defaults and for the kind of model.
        recipe: Its name.
    """
    width = min(max(shutil.get_terminal_size().columns, 60), 120)
    own, kind = _docstrings(command), settings.model.kind
    groups: dict[str, list[tuple[str, str]]] = {
        "What people change first": [
            ("--out DIR", f"{own['out']} (required)"),
            ("--recipe NAME", f"{own['recipe']} (default: {recipe})"),
            ("--resume", own["resume"]),
        ]
    }
    [first] = groups.values()
    rest = {}
    for _, flag, text, group in _settings(settings, kind):
        rest[flag] = (text, inspect.getdoc(type(group)) or "")
    for name in FIRST:
        flag = next((f for f in rest if f.split()[0] == f"--{name.replace('_', '-')}"), None)
        if flag:
            first.append((flag, rest.pop(flag)[0]))
    for flag, (text, heading) in rest.items():
        groups.setdefault(heading, []).append((flag, text))
    lines = [
        "usage: isthmus train DATA --out DIR [--recipe NAME] [SETTINGS]",
        "",
        *_wrapped(inspect.getdoc(command) or "", width),
        "",
        *_wrapped(
            f"Below are the settings of kind {kind} with their values in the recipe {recipe}. "
            "With --recipe or --model.kind, --help shows those of another recipe or kind.",
            width,
        ),
        "",
        "DATA",
        *_wrapped(data.replace("\n", "\n\n"), width, "  "),
    ]
    for heading, entries in groups.items():
        title, _, more = heading.partition("\n")
        lines += ["", title.removesuffix("."), *_wrapped(more.strip(), width, "  ")]
        lines += [line for entry in entries for line in _columns(*entry, width)]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    paragraphs = text.split("\n\n") if text else []
    return [
        line
        for paragraph in paragraphs
        for line in textwrap.wrap(
            " ".join(paragraph.split()),
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
    ]


def _columns(flag: str, text: str, width: int) -> list[str]:
    """A flag on the left and its text on the right, the text lower where the flag is long."""
    left = width * 2 // 5
    lines = _wrapped(text, width, " " * left)
    if len(flag) > left - 4:
        return [f"  {flag}", *lines]
    return [f"  {flag:<{left - 2}}{lines[0][left:]}", *lines[1:]]
