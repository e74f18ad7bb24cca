"""``isthmus encode``, ``decode``, ``reconstruct`` and ``sample``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from isthmus.commands import common
from isthmus.commands.writing import Writing, write_sheet
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from isthmus.latent.codebook import Codebook
    from isthmus.models.base import LatentModel
    from isthmus.models.generation import Generation
    from isthmus.models.optimus import Half
    from isthmus.progress import Progress

MALFORMED = (OSError, ValueError, TypeError, AttributeError, KeyError)
"""What reading a file of latents raises if it is something else."""
ON_A_SHEET = 128
"""Pictures on a sheet of reconstructions without --limit."""


def with_latent(verb: common.OnRun, only: Half | None = None) -> LatentModel:
    """The model of the run of a verb, which must have a latent; see :meth:`common.OnRun.load`."""
    model = verb.load(only)
    if not math.prod(model.latent_shape):
        raise IsthmusError(
            f"{verb.run_directory}: is a plain language model, which has no latent to encode to; "
            "train one of another --model.kind"
        )
    return model


@dataclass(frozen=True, kw_only=True)
class Encode(common.Spread, common.OnData):
    """Write the latents of texts or pictures: JSON Lines on standard output, or a file.

    The first --model.summary latents of a run with a summary are the summary, mean[:, :G] of an
    array. Use them as embeddings; the others are details, with which decode gives the text back.

    A .parquet file is a map of the data for other programs (embedding-atlas, latent-scope, pandas)
    and for isthmus studio --data, which need not encode it again: a row for each example with
    text, label, mean, spread, bound, place (x, y) and nearest neighbours. Of a run with a summary
    it is about the summary.
    """

    out: str = ""
    """An .npz file with mean, log_variance and the texts (or the names of the pictures), or a
    .parquet file, a map. Latents of a codebook have their codes in the place of log_variance."""
    summary: bool = False
    """Write the summary alone, without details (a run with --model.summary); decode takes it."""
    refine: int = 0
    """Steps of gradient ascent to improve the posterior of each example; 0 for none."""
    precision: common.Precision = "float32"
    """Precision of matrix products; bf16 is faster where the processor has it, and rounds."""

    def run(self) -> None:
        target = common.check_can_write(self.out, (".npz", ".parquet")) if self.out else None
        common.check_refine(self.refine)
        drawn = target is not None and target.suffix == ".parquet"
        if drawn and self.refine:
            raise IsthmusError("--refine: a map has the encoder's own posteriors; leave it out")
        if drawn and self.on:
            raise IsthmusError("--on: a map is drawn here; leave it out, or give an .npz to --out")
        common.check_on(self.on)
        corpus = common.read_corpus(self.data, run=self.run_directory, embeddings=self.embeddings)
        half: Half | None = None if self.refine or drawn else "encoder"
        model = with_latent(self, half)
        bf16 = self.precision == "bf16"
        if bf16:
            common.warn_of_bf16(model)
        if target is not None and drawn:
            self._draw(target, model, corpus)
            return
        if self.summary and not model.config.summary:
            raise IsthmusError(
                f"--summary: {self.run_directory} has latents of one level; leave it out"
            )
        work = partial(encoded, refine=self.refine, bf16=bf16, summary=self.summary)
        with self.workers(half) as workers, common.bar("encoding", len(corpus)) as progress:
            mean, other = workers.map(work, model, corpus.examples, progress=progress)
        name, means, others = second(model), mean.numpy(), other.numpy()
        if target is not None:
            import numpy as np

            arrays: dict[str, Any] = {
                "mean": means,
                name: others,
                **packed(corpus.kind.field, corpus.names),
            }
            np.savez(target, **arrays)
            return
        # One at a time: as lists of all, numbers take eight times the memory.
        records = (
            {corpus.kind.field: text, "mean": mean.tolist(), name: other.tolist()}
            for text, mean, other in zip(corpus.names, means, others, strict=True)
        )
        common.emit(records, True, "")

    def _draw(self, target: Path, model: LatentModel, corpus: Any) -> None:
        """Write the map of a corpus."""
        import torch

        from isthmus.runs.bundle import read_run
        from isthmus.studio import map_file

        bf16 = torch.autocast(model.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with common.bar("mapping", map_file.work(len(corpus))) as progress, bf16:
            map_file.write(target, model, corpus, read_run(self.run_directory), progress)


def encoded(
    model: LatentModel,
    examples: Sequence[Any],
    places: Sequence[int],
    *,
    refine: int,
    bf16: bool,
    summary: bool,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Mean of q(z|x) of some examples, and their log variance, or codes."""
    from isthmus.models.base import summarised

    with summarised(model) if summary else nullcontext():
        found = common.posterior(model, examples, places, refine, bf16, progress)
    if (codebook := codebook_of(model)) is not None:
        return found.mean, codebook.codes(found.mean.to(model.device)).cpu()
    return found.mean, found.log_variance


def codebook_of(model: LatentModel) -> Codebook | None:
    """The entries that its latents are; None where they are vectors."""
    found: Codebook | None = getattr(model, "codebook", None)
    return found


def second(model: LatentModel) -> str:
    """What :func:`encoded` gives beside the mean."""
    return "log_variance" if codebook_of(model) is None else "codes"


def packed(field: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Texts as arrays without a pickle and without the length of the longest for each of them.

    Returns:
        ``FIELD_utf8``, the bytes of all; ``FIELD_ends`` [N], where each ends.
    """
    import numpy as np

    encoded = [name.encode() for name in names]
    return {
        f"{field}_utf8": np.frombuffer(b"".join(encoded), np.uint8),
        f"{field}_ends": np.cumsum([len(one) for one in encoded], dtype=np.int64),
    }


def read_latents(source: str) -> Tensor:
    """Latents as encode writes them; "-" for standard input.

    They are an .npz, a .parquet, or JSON Lines with "mean" or "z", or codes of a codebook.
    """
    import numpy as np

    readers = {".npz": _npz_latents, ".parquet": _parquet_latents}
    try:
        rows = readers.get(Path(source).suffix, _jsonl_latents)(source)
        values = np.asarray(rows, dtype=np.float32)
    except MALFORMED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IsthmusError(
            f"{source}: expected latents as encode writes them, an .npz with an array mean or z, "
            f'or JSON Lines with "mean", "z" or "codes" ({reason})'
        ) from error
    if not values.size:
        raise IsthmusError(f"{source}: no latents in it")
    broken = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
    if len(broken):
        raise IsthmusError(
            f"{source}: {len(broken):,} of {len(values):,} latents hold NaN or infinity, "
            f"the first is number {broken[0] + 1}"
        )
    import torch

    return torch.from_numpy(values)


def _npz_latents(source: str) -> Any:
    from isthmus.data.pictures.arrays import load_arrays

    arrays = load_arrays(Path(source))
    return arrays[_key(arrays)]


def _parquet_latents(source: str) -> Any:
    from isthmus.studio.map_file import read_means

    return read_means(Path(source))


def _jsonl_latents(source: str) -> list[Any]:
    text = common.read_standard_input() if source == "-" else Path(source).read_text("utf-8-sig")
    # Not splitlines: a text may hold U+2028, which JSON leaves as it is.
    records = [json.loads(line) for line in text.split("\n") if line.strip()]
    return [record[_key(record)] for record in records]


def _key(record: Any) -> str:
    """Codes before means: whoever changes codes expects the text to follow."""
    return next((key for key in ("codes", "mean") if key in record), "z")


@dataclass(frozen=True, kw_only=True)
class Decode(common.Spread, Writing):
    """Turn latents back into texts or pictures."""

    latents: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="LATENTS")]
    """The output of encode: an .npz, .parquet or .jsonl file, or "-" for standard input."""

    def run(self) -> None:
        target, generation = self.prepared()
        common.check_on(self.on)
        z = read_latents(self.latents)
        model = self.load("decoder")
        z = of_codes(model, z, self.latents)
        shape, summary = model.latent_shape, model.config.summary
        if tuple(z.shape[1:]) not in (shape, (summary, shape[-1])):
            raise IsthmusError(
                f"{self.latents}: latents of shape {list(z.shape[1:])}, but the run has "
                f"{list(shape)}"
            )
        work = partial(decoded, generation=generation)
        with self.workers("decoder") as workers, common.bar("decoding", len(z)) as progress:
            [made] = workers.map(work, model, z, progress=progress)
        self.write(target, made)


def of_codes(model: LatentModel, z: Tensor, source: str) -> Tensor:
    """The entries of codes [N K], of a run that has a codebook; other latents as they are."""
    codebook = codebook_of(model)
    if codebook is None or tuple(z.shape[1:]) != model.latent_shape[:-1]:
        return z
    most = len(codebook.entries) - 1
    codes = z.long()
    if not (codes == z).all() or codes.min() < 0 or codes.max() > most:
        raise IsthmusError(f"{source}: codes of this run are whole numbers from 0 to {most}")
    return codebook.entries.detach()[codes.to(model.device)].cpu()


def decoded(
    model: LatentModel,
    z: Tensor,
    places: Sequence[int],
    *,
    generation: Generation,
    progress: Progress,
) -> tuple[list[Any]]:
    """Texts or pictures from some latents."""
    from isthmus.explore.walks import decode_as

    seeded = replace(generation, seed=generation.seed + places[0])
    return (decode_as(model, z, (), seeded, progress),)


@dataclass(frozen=True, kw_only=True)
class Reconstruct(common.Spread, Writing, common.OnCorpus):
    """Encode texts or pictures and decode the posterior mean.

    On a sheet of pictures, each row of originals is above the row of their reconstructions.
    """

    refine: int = 0
    """Steps of gradient ascent to improve the posterior of each example; 0 for none."""
    windows: bool = False
    """Read texts that are longer than the run's --data.maximum-length whole, as several windows of
    words (docs/documents.md). White space becomes single spaces."""
    out: str = ""
    """A .png file for the pictures (a run with pictures): the first 128, or --limit."""
    json: bool = False
    """Print JSON Lines with the text, its reconstruction, and both terms of the bound in nats."""

    def run(self) -> None:
        common.check_refine(self.refine)
        target, generation = self.prepared()
        common.check_on(self.on)
        limit = self.limit or (0 if target is None else ON_A_SHEET)
        corpus = common.read_corpus(self.data, limit, self.run_directory, self.embeddings)
        model = with_latent(self)
        windows = common.in_windows(model, corpus.examples) if self.windows else None
        examples = corpus.examples if windows is None else windows.texts
        work = partial(reconstructed, refine=self.refine, generation=generation, seed=self.seed)
        bar = common.bar("reconstructing", 2 * len(examples))
        with self.workers() as workers, bar as progress:
            back, nats, kl = workers.map(work, model, examples, progress=progress)
        if windows is not None:
            back, nats, kl = windows.joined(back), windows.sums(nats), windows.sums(kl)
        columns = {
            corpus.kind.field: corpus.names,
            "reconstruction": back if target is None else [str(target)] * len(back),
            "reconstruction_nats": nats.tolist(),
            "kl_nats": kl.tolist(),
        }
        plain = f"{{{corpus.kind.field}}}\n  → {{reconstruction}}"
        if target is not None:
            write_sheet(back, target, corpus.examples)
            plain = f"{{{corpus.kind.field}}}  {{reconstruction_nats:.2f}} + {{kl_nats:.2f}} nats"
        common.emit(common.rows(columns), self.json, plain)


def reconstructed(
    model: LatentModel,
    examples: Sequence[Any],
    places: Sequence[int],
    *,
    refine: int,
    generation: Generation,
    seed: int,
    progress: Progress,
) -> tuple[list[Any], Tensor, Tensor]:
    """What comes back of some examples, and both terms of the bound."""
    from isthmus.explore.walks import decode_as, likely_labels

    posterior = common.posterior(model, examples, places, refine, False, progress)
    own = likely_labels(model, examples)
    seeded = replace(generation, seed=generation.seed + places[0])
    back = decode_as(model, posterior.mean, own, seeded, progress)
    terms = model.terms(examples, seed, posterior, places)
    return back, terms.reconstruction, terms.kl_total


@dataclass(frozen=True, kw_only=True)
class Sample(Writing):
    """Draw latents from the prior and decode them to texts or pictures."""

    count: int = 10
    """Number of samples."""

    def run(self) -> None:
        common.check_positive(count=self.count)
        target, generation = self.prepared()
        model = self.load("decoder")
        from isthmus.explore.walks import sample

        with common.bar("sampling", self.count) as progress:
            made = sample(model, self.count, self.seed, generation, progress)
        self.write(target, made)
