"""The run that Isthmus ships, which the studio opens by default: a space of ``scenes``.

``benchmarks/bundle.py`` trains and measures it; its figures are in
``benchmarks/results/studio_bundle.json``.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from isthmus.data.corpus import TextCorpus, read
from isthmus.errors import IsthmusError

LABEL = "tense"
"""The label that its decoder reads alongside z. It is not the style: styles share no words, so a
model could not learn which words correspond, and changing the style would change the scene."""
SENTENCES = 4000
"""On its map: enough to cover the grammar, encoded in a few seconds."""


def bundle_path() -> Path:
    """Its run directory.

    Raises:
        IsthmusError: The installation lacks it.
    """
    folder = Path(str(files("isthmus.studio"))) / "bundle"
    if not folder.is_dir():
        raise IsthmusError(
            f"{folder}: the run that Isthmus ships is missing; reinstall Isthmus, or open a run "
            "of your own"
        )
    return folder


def bundle_corpus() -> TextCorpus:
    """Sentences for its map, generated on each call, always the same.

    Their label is the style, which z encodes and the map shows; the tense is not in z.
    """
    return read("scenes", split="test", limit=SENTENCES)


def labelled(corpus: TextCorpus) -> TextCorpus:
    """Sentences of ``scenes`` with the label that the run is trained on."""
    assert corpus.factors is not None
    labels = [str(factors[LABEL]) for factors in corpus.factors]
    return replace(corpus, labels=labels, notes=[f"label = {LABEL}"])
