"""The run that comes with Isthmus, for a studio that opens without one: a space of scenes.

Small enough for the package and for any machine; made, measured and written down by
``benchmarks/bundle.py`` → ``benchmarks/results/studio_bundle.json``.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from isthmus.data.corpus import TextCorpus, read
from isthmus.errors import IsthmusError

LABEL = "tense"
"""What stands beside its z. Not the style: styles share no words, so nothing would tell a model
which word of one is which of another, and a scene would change with its style."""
SENTENCES = 4000
"""Of the map: enough for every part of the world, encoded in a few seconds."""


def bundle_path() -> Path:
    """Its folder, a run directory like any other.

    Raises:
        IsthmusError: the installation lacks it.
    """
    folder = Path(str(files("isthmus.studio"))) / "bundle"
    if not folder.is_dir():
        raise IsthmusError(
            f"{folder}: the run that comes with Isthmus is not there; install Isthmus again, or "
            "give a run of your own"
        )
    return folder


def bundle_corpus() -> TextCorpus:
    """Sentences for its map, made on the spot, always the same ones.

    Their label is the style, which z holds and the map shows; the tense stands beside z.
    """
    return read("scenes", split="test", limit=SENTENCES)


def labelled(corpus: TextCorpus) -> TextCorpus:
    """Sentences of scenes with the label that the run learns from, see benchmarks/bundle.py."""
    assert corpus.factors is not None
    labels = [str(factors[LABEL]) for factors in corpus.factors]
    return replace(corpus, labels=labels, notes=[f"label = {LABEL}"])
