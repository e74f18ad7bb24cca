"""What the verbs share: quiet libraries, reading texts, writing results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from rich.console import Console

    from isthmus.data.corpus import Corpus
    from isthmus.models.base import LatentModel


class Command:
    """A verb: fields are its arguments, :meth:`run` does it."""

    @classmethod
    def starting_point(cls, words: list[str]) -> Self | None:
        """Defaults that depend on the arguments themselves; none for most verbs."""
        return None

    def run(self) -> None:
        """Do it."""
        raise NotImplementedError


def quiet() -> None:
    """Keep libraries' chatter off the user's terminal; our own warnings stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def console() -> Console:
    """Standard error."""
    from isthmus.progress import console as make

    return make()


def load_model(run: str) -> LatentModel:
    """The model of a run directory, on the fastest device there is."""
    quiet()
    import torch

    from isthmus.bundle import load

    model = load(run)
    return model.to("cuda") if torch.cuda.is_available() else model


def read_corpus(data: str, limit: int = 0) -> Corpus:
    """Texts of DATA; "-" reads lines from standard input."""
    from isthmus.data.corpus import Corpus, read

    if data == "-":
        texts = [line for line in sys.stdin.read().split("\n") if line.strip()]
        if not texts:
            raise IsthmusError("standard input: no texts in it, expected one a line")
        return Corpus(texts[: limit or None], None, "standard input")
    corpus = read(data, limit=limit or None)
    for line in [corpus.report(), *corpus.warnings]:
        print(line, file=sys.stderr)
    return corpus


def emit(records: Sequence[dict[str, Any]], as_json: bool, plain: str) -> None:
    """Write records to standard output: JSON Lines, or lines of a format string."""
    for record in records:
        line = json.dumps(record, ensure_ascii=False) if as_json else plain.format(**record)
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def check_can_write(path: str) -> Path:
    """A file to write, its folder being there; asked before the work, not after it."""
    target = Path(path)
    if not target.parent.is_dir():
        raise IsthmusError(f"{path}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise IsthmusError(f"{path}: is a folder, expected the name of a file")
    return target
