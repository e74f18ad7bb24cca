"""What each entry of the open run's codebook stands for."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from isthmus.errors import IsthmusError
from isthmus.explore.codebook import codebook
from isthmus.studio import bodies
from isthmus.studio.code import Script, command
from isthmus.studio.space import Space

TEXTS: Final = 2_000
"""Texts of the corpus that entries are read off."""


def listed(space: Space, body: bodies.Empty) -> dict[str, Any]:
    """The entries that the first texts of the corpus use, the most used first."""
    space.check_space()
    if space.corpus is None:
        raise IsthmusError("codebook: start the studio with --data FILE to see what entries mean")
    entries = codebook(space.model, space.corpus.texts[:TEXTS])
    script = Script(space)
    script.read_corpus()
    script.say(f"for entry in codebook(model, corpus.texts[:{TEXTS}]):")
    script.say("    print(entry.code, f'{entry.share:.2%}', *(one.text for one in entry.pieces))")
    flags = ["--limit", TEXTS]
    line = None
    if not space.is_shipped and space.whole_data:
        line = command(space, "codebook", [space.whole_data], flags)
    return {
        "entries": [dataclasses.asdict(entry) for entry in entries],
        "size": space.model.config.prior_components,
        "texts": min(TEXTS, len(space.corpus)),
        "python": script.text(),
        "command": line,
    }
