"""What the verbs share: quiet libraries, reading texts, writing results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import tyro

from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from isthmus.data.corpus import TextCorpus
    from isthmus.data.kind import Kind
    from isthmus.latent.distribution import Posterior
    from isthmus.models.base import LatentModel
    from isthmus.models.generation import Generation

RunDirectory = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
Data = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
Text = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEXT")]


class Command:
    """A verb: fields are its arguments, :meth:`run` does it."""

    @classmethod
    def starting_point(cls, words: list[str]) -> Self | None:
        """Defaults that depend on the arguments themselves; none for most verbs."""
        return None

    def run(self) -> int | None:
        """Do it; the exit code, None for 0."""
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
    from isthmus.runs.bundle import load_fast

    return load_fast(run)


def read_corpus(data: str, limit: int = 0, run: str = "") -> Any:
    """DATA as a run reads it, texts without a run; "-" reads texts from standard input."""
    from isthmus.data.kinds import config_of

    if limit < 0:
        raise IsthmusError(f"limit must be ≥ 0, got {limit}; 0 takes all")
    kind = kind_of_run(run)
    if data == "-" and kind.has_text:
        corpus = kind.of_texts(_standard_input(limit))
    else:
        corpus = kind.read(data, config_of(run), limit or None)
    for line in [corpus.report(), *corpus.warnings]:
        print(line, file=sys.stderr)
    return corpus


def kind_of_run(run: str) -> Kind:
    """The kind of data of a run; imported only when it is asked for."""
    from isthmus.data.kinds import of_run

    return of_run(run)


def read_standard_input() -> str:
    """All of standard input."""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise IsthmusError(
            f"standard input: not UTF-8 ({error.reason} at byte {error.start}); "
            "convert it, for example with iconv -f LATIN1 -t UTF-8"
        ) from None


def _standard_input(limit: int) -> TextCorpus:
    from isthmus.data.corpus import TextCorpus
    from isthmus.data.files import Rows

    rows = Rows("standard input")
    lines = read_standard_input().split("\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1], start=1):
        rows.add(line.removesuffix("\r"), None, number)
    if not rows.texts:
        raise IsthmusError("standard input: no texts in it, expected one a line")
    return TextCorpus(rows.texts[: limit or None], None, rows.source, dict(rows.skipped))


def check_refine(steps: int) -> None:
    """Refuse a number of steps that cannot be made; asked before the work."""
    if steps < 0:
        raise IsthmusError(f"refine must be ≥ 0, got {steps}; 0 takes the encoder's posterior")


def encode(model: LatentModel, texts: Sequence[Any], refine: int = 0) -> Posterior:
    """q(z|x) of examples, with a bar; the encoder's, or improved by N steps for each."""
    from isthmus.evaluation.refine import refine as improve
    from isthmus.progress import counting

    with counting(console(), "encoding", len(texts)) as progress:
        if refine:
            return improve(model, texts, steps=refine, progress=progress)
        return model.encode(texts, progress)


def decode(
    model: LatentModel, z: Tensor, generation: Generation, labels: Sequence[str] = ()
) -> list[Any]:
    """Texts or pictures of latents, with a bar."""
    from isthmus.explore.walks import decode_as
    from isthmus.progress import counting

    with counting(console(), "decoding", len(z)) as progress:
        return decode_as(model, z, labels, generation, progress)


def emit(records: Sequence[dict[str, Any]], as_json: bool, plain: str) -> None:
    """Write records to standard output: JSON Lines, or lines of a format string."""
    for record in records:
        line = json.dumps(record, ensure_ascii=False) if as_json else plain.format(**record)
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def check_can_write(path: str) -> Path:
    """A file that can be written; asked before the work, not after it."""
    target = Path(path)
    if not target.parent.is_dir():
        raise IsthmusError(f"{path}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise IsthmusError(f"{path}: is a folder, expected the name of a file")
    new = not target.exists()
    try:
        target.open("ab").close()
    except OSError as error:
        raise IsthmusError(f"{path}: cannot be written ({error.strerror})") from error
    if new:
        target.unlink()
    return target
