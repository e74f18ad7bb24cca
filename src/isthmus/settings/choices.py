"""The choices that a table of the package offers, read without importing what is in it.

Help and errors must appear in milliseconds, and importing torch takes seconds. So the kinds of a
setting come from the source text of the table that builds them, and each is written once.
"""

from __future__ import annotations

import ast
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Final, Literal

from typing_extensions import Doc


def keys_of(module: str, table: str) -> tuple[str, ...]:
    """Keys of a literal dictionary at the top of a module, in their order.

    Args:
        module: full name, for example "isthmus.latent.prior".
        table: name of the dictionary; every key must be a literal string.

    Raises:
        LookupError: the module has no such literal dictionary.
    """
    return tuple(key for key, _ in _rows(module, table))


def summaries(module: str, table: str) -> dict[str, str]:
    """First docstring line of each class that a literal dictionary of its module holds, by key.

    Args:
        module: full name; the classes must be defined in it.
        table: name of the dictionary.
    """
    classes = {node.name: node for node in _body(module) if isinstance(node, ast.ClassDef)}
    docs = {key: ast.get_docstring(classes[ast.unparse(v)]) for key, v in _rows(module, table)}
    return {key: (text or "").partition("\n")[0].rstrip(".") for key, text in docs.items()}


def _body(module: str) -> list[ast.stmt]:
    package, *path = module.split(".")
    text = files(package).joinpath(*path[:-1], f"{path[-1]}.py").read_text(encoding="utf-8")
    return ast.parse(text).body


def _rows(module: str, table: str) -> list[tuple[str, ast.expr]]:
    """Keys and values of a literal dictionary."""
    for node in _body(module):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys, values=values))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(keys=keys, values=values))
            ) if name == table:
                rows = zip(keys, values, strict=True)
                return [(ast.literal_eval(key), value) for key, value in rows if key is not None]
    raise LookupError(f"{module}: no literal dictionary named {table}")


DISCRETE: Final = {"quantised": "codebook", "bits": "bits"}
"""Posteriors of discrete latents, and the prior that belongs to each."""

if TYPE_CHECKING:
    PosteriorKind = str
    PriorKind = str
    ChosenPriorKind = str
    FittedPriorKind = str
    BridgeName = str
else:
    PosteriorKind = Literal[*keys_of("isthmus.latent.posterior", "POSTERIORS")]
    PriorKind = Literal[*keys_of("isthmus.latent.prior", "PRIORS")]
    _CHOSEN = [kind for kind in PriorKind.__args__ if kind not in DISCRETE.values()]
    ChosenPriorKind = Literal[*_CHOSEN]
    FittedPriorKind = Literal["best", *(kind for kind in _CHOSEN if kind != "standard")]
    BridgeName = Annotated[
        str,
        Doc(
            "How z and a label enter the decoder: a bridge, or several joined by +.\n"
            + "\n".join(
                f"{name}: {summary}."
                for name, summary in summaries("isthmus.models.bridges", "BRIDGES").items()
            )
        ),
    ]
