"""Is the open space worth walking in? The figures of ``isthmus evaluate --meaning``, of less."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from isthmus.data.corpus import TEXT
from isthmus.errors import IsthmusError
from isthmus.evaluation.meaning import find_encoder
from isthmus.evaluation.metrics import finite
from isthmus.evaluation.readings import readings_of
from isthmus.evaluation.walkability import walkability
from isthmus.evaluation.walking import Extent, walked
from isthmus.models.base import TEXTS_AT_ONCE
from isthmus.studio import bodies
from isthmus.studio.code import Script
from isthmus.studio.space import Space

EXTENT = Extent(texts=200, pairs=50, samples=200, moved=50, nearest=500)
CORPUS = 5_000
"""Texts of the corpus that are looked at, a random sample."""
LONGEST = 64
"""Tokens of a text, for the length of a progress bar."""
PASSES = LONGEST * math.ceil(EXTENT.work(CORPUS) / TEXTS_AT_ONCE)


class Measure(bodies.Body):
    """Nothing to choose."""

    @property
    def passes(self) -> int:
        """About as many as the decoder takes."""
        return PASSES


def meaning(space: Space, body: Measure) -> dict[str, Any]:
    """Readings of meaning, walks and fluency, and how far a text reaches."""
    space.check_space()
    if space.kind is not TEXT or space.corpus is None:
        raise IsthmusError("meaning: expected a run of texts, opened with --data FILE")
    texts = space.corpus.sample(CORPUS, 0).examples
    encoder, notes = find_encoder()
    found = walked(space.model, texts, extent=EXTENT)
    metrics, more = walkability(found, encoder, extent=EXTENT)
    script = Script(space)
    script.read_corpus()
    given = ", ".join(f"{name}={value}" for name, value in asdict(EXTENT).items())
    script.say(
        f"extent = Extent({given})",
        f"found = walked(model, corpus.sample({CORPUS}, 0).examples, extent=extent)",
        "figures, _ = walkability(found, find_encoder()[0], extent=extent)",
        'print({name: value for name, value in figures.items() if name != "smoothness"})',
    )
    answer = {
        "readings": [asdict(row) for row in readings_of(metrics, space.record)],
        "smoothness": metrics["smoothness"],
        "posterior_radius": metrics["posterior_radius"],
        "random": metrics["meaning_random"],
        "judge": metrics["judge"],
        "encoder": metrics["sentence_encoder"],
        "notes": notes + more,
        "python": script.text(),
        "command": None,
    }
    return dict(finite(answer))
