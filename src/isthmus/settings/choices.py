"""The choices that a table of the package offers, read without importing what is in it.

Help and errors must appear in milliseconds, and importing torch takes seconds. So the kinds of a
setting come from the source text of the table that builds them, and each is written once.
"""

from __future__ import annotations

import ast
from importlib.resources import files
from typing import TYPE_CHECKING, Literal


def keys_of(module: str, table: str) -> tuple[str, ...]:
    """Keys of a literal dictionary at the top of a module, in their order.

    Args:
        module: full name, for example "isthmus.latent.prior".
        table: name of the dictionary; every key must be a literal string.

    Raises:
        LookupError: the module has no such literal dictionary.
    """
    package, *path = module.split(".")
    text = files(package).joinpath(*path[:-1], f"{path[-1]}.py").read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(keys=keys))
            ) if name == table:
                return tuple(ast.literal_eval(key) for key in keys if key is not None)
    raise LookupError(f"{module}: no literal dictionary named {table}")


if TYPE_CHECKING:
    PosteriorKind = str
    PriorKind = str
    LearnedPriorKind = str
else:
    PosteriorKind = Literal[*keys_of("isthmus.latent.posterior", "POSTERIORS")]
    PriorKind = Literal[*keys_of("isthmus.latent.prior", "PRIORS")]
    LearnedPriorKind = Literal[*(k for k in PriorKind.__args__ if k != "standard")]
