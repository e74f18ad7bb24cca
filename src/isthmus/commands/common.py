"""What the verbs share: arguments, reading data, loading a run, writing results."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import tyro

from isthmus.errors import IsthmusError, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from isthmus.data.corpus import TextCorpus
    from isthmus.data.kind import Corpus, Kind
    from isthmus.evaluation.usage import Estimate
    from isthmus.explore.documents import Windows
    from isthmus.latent.distribution import Posterior
    from isthmus.models.base import LatentModel
    from isthmus.models.generation import Generation
    from isthmus.models.optimus import Half
    from isthmus.models.workers import Workers
    from isthmus.progress import Progress

RunDirectory = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
Data = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
Precision = Literal["float32", "bf16"]
Example = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEXT|PICTURE")]


class Command(ABC):
    """A verb: its fields are its arguments."""

    @classmethod
    def in_full(cls, words: list[str]) -> list[str]:
        """The arguments with every flag under its full name."""
        return words

    @classmethod
    def starting_point(cls, words: list[str]) -> Self | None:
        """Defaults that depend on the arguments themselves; none for most verbs."""
        return None

    def with_local_runs(self) -> Self:
        """The same, with a folder here in the place of a run on the hub."""
        return self

    @abstractmethod
    def run(self) -> int | None:
        """Do it and return the exit code, None for 0."""


@dataclass(frozen=True, kw_only=True)
class Verifying(Command):
    """A verb that loads a run."""

    verify: bool = True
    """Check the SHA-256 of every file of the run."""


@dataclass(frozen=True, kw_only=True)
class OnRun(Verifying):
    """A verb that uses a run."""

    run_directory: RunDirectory
    """A run directory, or owner/name on the Hugging Face hub."""

    def with_local_runs(self) -> Self:
        return replace(self, run_directory=local_run(self.run_directory))

    def load(self, only: Half | None = None) -> LatentModel:
        """Its model, or the half of it that the verb uses, on the fastest device available."""
        quiet()
        from isthmus.commands.startup import import_models, importing

        with importing():
            import_models()
            from isthmus.runs.bundle import load_fast

            return load_fast(self.run_directory, self.verify, only)


@dataclass(frozen=True, kw_only=True)
class WithDecoder(OnRun):
    """A verb that uses the decoder of a run."""

    precision: Precision = "float32"
    """Precision of the decoder (a run with texts).
    bf16 is faster where the processor has it, takes half the memory, and rounds."""

    def load(self, only: Half | None = None) -> LatentModel:
        model = super().load(only)
        if self.precision == "bf16":
            from isthmus.models.text_model import hold_decoder

            hold_decoder(model)
            warn_of_bf16(model)
        return model


@dataclass(frozen=True, kw_only=True)
class Spread(OnRun):
    """A verb whose work other processes can share."""

    on: str = ""
    """Where to compute: ray for a worker on each core (or GPU) of this machine, ray:ADDRESS for a
    Ray cluster that runs. By default this process (pip install 'isthmus[scale]')."""

    @contextmanager
    def workers(self, only: Half | None = None) -> Iterator[Workers]:
        """Who computes, with as much of the run as :meth:`load` takes."""
        if self.on:
            from isthmus.commands.on_ray import cluster

            # A worker may be in another folder.
            there = replace(self, run_directory=os.path.abspath(self.run_directory))
            with cluster(self.on, partial(there.load, only)) as found:
                yield found
        else:
            from isthmus.models.workers import HERE

            yield HERE


@dataclass(frozen=True, kw_only=True)
class OnData(OnRun):
    """A verb that applies a run to data."""

    data: Data
    """Texts or pictures, in any form that train reads; "-" for texts from standard input."""
    embeddings: str = ""
    """The vectors of the texts (a run that was trained with --embeddings)."""


@dataclass(frozen=True, kw_only=True)
class OnCorpus(OnData):
    """A verb that prints a record for each example of some data."""

    limit: int = 0
    """Read only the first N examples; 0 for all."""
    json: bool = False
    """Print JSON Lines, one object per example."""

    def corpus(self) -> Any:
        """The examples."""
        return read_corpus(self.data, self.limit, self.run_directory, self.embeddings)


def check_on(on: str) -> None:
    """Refuse a place to compute that is none, before the work."""
    if on not in ("", "ray") and not on.startswith("ray:"):
        raise IsthmusError(
            f"--on: got {on}, expected ray for this machine or ray:ADDRESS for a cluster"
        )
    if on and not find_spec("ray"):
        raise IsthmusError("--on: Ray is not installed; run: pip install 'isthmus[scale]'")


def warn_of_bf16(model: LatentModel) -> None:
    """Say where bf16, which was asked for, only costs time."""
    from isthmus.models.bf16 import slow_bf16

    if line := slow_bf16(model.device):
        print(f"warning: {line}", file=sys.stderr)


def quiet() -> None:
    """As the function of progress, imported only when it is called."""
    from isthmus.progress import quiet as silence

    silence()


def console() -> Console:
    """Standard error."""
    from isthmus.progress import console as make

    return make()


def bar(what: str, total: int) -> AbstractContextManager[Progress]:
    """A progress bar on standard error."""
    from isthmus.progress import counting

    return counting(console(), what, total)


def read_corpus(data: str, limit: int = 0, run: str = "", embeddings: str = "") -> Any:
    """DATA as a run reads it, texts without a run; "-" reads texts from standard input.

    With embeddings each text carries its vector from that file.
    """
    from isthmus.data.corpus import read
    from isthmus.data.kinds import config_of

    if limit < 0:
        raise IsthmusError(f"limit must be ≥ 0, got {limit}; 0 takes all")
    kind = kind_of_run(run)
    if embeddings:
        corpus: Corpus = read(data, limit=limit or None, embeddings=embeddings)
    elif data == "-" and kind.has_text:
        corpus = kind.of_texts(_standard_input(limit))
    else:
        corpus = kind.read(data, config_of(run), limit or None)
    for line in [corpus.report(), *corpus.warnings]:
        print(line, file=sys.stderr)
    return corpus


def local_run(run: str) -> str:
    """The folder of a run: itself, or what the hub has under that name, fetched aloud."""
    from isthmus.runs.hub import local

    return str(local(run))


def kind_of_run(run: str) -> Kind:
    """The kind of data of a run."""
    from isthmus.data.kinds import of_run

    return of_run(run)


def read_standard_input() -> str:
    """All of standard input, UTF-8 whatever the machine's encoding, without a byte-order mark."""
    from isthmus.data.files import decode

    return decode(sys.stdin.buffer.read(), "standard input")


def _standard_input(limit: int) -> TextCorpus:
    from isthmus.data.corpus import TextCorpus
    from isthmus.data.files import Rows, lines_of

    rows = Rows("standard input")
    for number, line in enumerate(lines_of(read_standard_input()), start=1):
        rows.add(line, None, number)
    if not rows.texts:
        raise IsthmusError("standard input: no texts in it, expected one per line")
    return TextCorpus(rows.texts[: limit or None], None, rows.source, dict(rows.skipped))


def check_positive(**values: int) -> None:
    """Refuse a number of things below 1."""
    for name, value in values.items():
        if value < 1:
            raise IsthmusError(f"{name.replace('_', '-')} must be ≥ 1, got {value}")


def check_refine(steps: int) -> None:
    """Refuse a negative number of steps."""
    if steps < 0:
        raise IsthmusError(f"refine must be ≥ 0, got {steps}; 0 takes the encoder's posterior")


def encode(
    model: LatentModel, examples: Sequence[Any], refine: int = 0, bf16: bool = False
) -> Posterior:
    """What :func:`posterior` finds, with a progress bar."""
    with bar("encoding", len(examples)) as progress:
        return posterior(model, examples, None, refine, bf16, progress)


def posterior(
    model: LatentModel,
    examples: Sequence[Any],
    places: Sequence[int] | None,
    refine: int,
    bf16: bool,
    progress: Progress,
) -> Posterior:
    """q(z|x) of examples: the encoder's, or improved by N steps of gradient ascent for each.

    With ``bf16`` matrix products are computed in bfloat16. The draws of the ascent depend on the
    places of the examples in the whole of which they are a part.
    """
    import torch

    from isthmus.evaluation.refine import refine as improve

    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        if refine:
            return improve(model, examples, steps=refine, places=places, progress=progress)
        return model.encode(examples, progress)


def decode(model: LatentModel, z: Tensor, generation: Generation) -> list[Any]:
    """Texts or pictures from latents."""
    with bar("decoding", len(z)) as progress:
        return model.decode(z, generation, progress)


def in_windows(model: LatentModel, texts: Sequence[Any]) -> Windows:
    """Texts of any length as windows that the model reads whole, with a progress bar."""
    from isthmus.explore import in_windows as cut

    with bar("cutting", len(texts)) as progress:
        return cut(model, texts, progress)


def rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """A record for each place in columns of equal lengths."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def emit(records: Iterable[dict[str, Any]], as_json: bool, plain: str) -> None:
    """Write records to standard output: JSON Lines, or lines of a format string.

    A text in a line keeps to it: line breaks and tabs are escaped.
    """
    # JSON loses nothing where standard output has another encoding: it can escape.
    wide = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    for record in records:
        if as_json:
            line = json.dumps(record, ensure_ascii=not wide)
        else:
            shown = {
                name: one_line(value) if isinstance(value, str) else value
                for name, value in record.items()
            }
            line = plain.format(**shown)
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def accuracy_line(found: Estimate, unit: str) -> str:
    """An accuracy with its standard error."""
    error = "" if found.standard_error is None else f" ± {found.standard_error:.4f}"
    return f"accuracy: {found.value:.4f}{error} of {found.count:,} {unit}s"


def figures(values: Mapping[str, float | None], as_json: bool) -> str:
    """Values by name with their ``…_se``, as an object of JSON or in words."""
    if as_json:
        return json.dumps(values)
    shown = []
    for name, value in values.items():
        if not name.endswith("_se"):
            error = values.get(f"{name}_se")
            number = "–" if value is None else f"{value:.3f}"
            shown.append(
                f"{name.replace('_', ' ')} {number}" + ("" if error is None else f" ± {error:.3f}")
            )
    return ", ".join(shown)


def table_console() -> Console:
    """Standard output for a table, wide enough if it is no terminal."""
    from rich.console import Console

    # No markup and no emoji codes: a label like [b] or :cat: must come out as it is.
    width = None if sys.stdout.isatty() else 100
    return Console(width=width, markup=False, emoji=False, highlight=False)


def check_new(out: str) -> Path:
    """The path of a run directory to make; refuses one that exists."""
    if Path(out).exists():
        raise IsthmusError(f"{out}: exists already; choose another folder with --out")
    return Path(out)


def check_can_write(path: str, endings: tuple[str, ...] = ()) -> Path:
    """A file that can be written, with one of some endings, checked before the work."""
    target = Path(path)
    if endings and not path.endswith(endings):
        raise IsthmusError(f"{path}: expected a name that ends with {' or '.join(endings)}")
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
