"""``isthmus encode``, ``decode``, ``reconstruct`` and ``sample``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zipfile import BadZipFile

import tyro

from isthmus.commands.common import (
    Command,
    Data,
    RunDirectory,
    check_can_write,
    check_refine,
    console,
    decode,
    emit,
    encode,
    load_model,
    read_corpus,
    read_standard_input,
)
from isthmus.commands.pictures import part_shown, sheet, write, write_sheet
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from torch import Tensor

    from isthmus.models.generation import Generation


@dataclass(frozen=True)
class Decoding:
    """How text is drawn; greedy unless --sample."""

    sample: bool = False
    """Draw tokens instead of taking the most probable one."""
    temperature: float = 1.0
    """Of sampling, > 0."""
    top_k: int = 0
    """Draw among the N most probable tokens only; 0 for all."""
    top_p: float = 1.0
    """Draw among the smallest set of tokens with this probability (nucleus)."""
    beams: int = 1
    """Width of beam search."""
    max_new_tokens: int = 64
    """Longest text."""
    label: str = ""
    """Write texts with this label (a run with labels). Without it texts keep the most probable
    label of the text that they come from, and samples draw one."""
    guidance: float = 1.0
    """γ: move γ times as far towards the label as it is from --against; 1 for none."""
    against: str = ""
    """The label to move away from. Without it reconstructions move away from their own, other
    texts from the null code (a run with --data.code-dropout)."""
    guidance_top_p: float = 1.0
    """Under guidance write only tokens in this nucleus of the label's own distribution."""
    penalty: float = 1.0
    """θ > 1 makes tokens that are already in the text less probable (Keskar et al. 2019)."""
    penalty_mode: Literal["transformers", "paper", "additive"] = "transformers"
    """How: see docs/control.md; additive divides odds by θ, whatever the logits' zero."""
    penalise_prompt: bool = True
    """The tokens of the prompt count as seen."""

    def settings(self, seed: int = 0, part: str = "") -> Generation:
        """The same for a model."""
        from isthmus.control.sampling import Penalty
        from isthmus.models.generation import Generation

        return Generation(
            self.max_new_tokens,
            self.sample,
            self.temperature,
            self.top_k,
            self.top_p,
            self.beams,
            seed,
            self.label or None,
            guidance=self.guidance,
            against=self.against or None,
            guidance_top_p=self.guidance_top_p,
            penalty=Penalty(self.penalty, self.penalty_mode, self.penalise_prompt),
            part=part,
        )


GREEDY = Decoding()

ON_A_SHEET = 128
"""Pictures on a sheet unless --limit says how many."""


@dataclass(frozen=True)
class Encode(Command):
    """Write the latents of texts or pictures: JSON Lines on standard output, or an .npz file."""

    run_directory: RunDirectory
    """A run directory."""
    data: Data
    """Texts, in any form that train reads; "-" for standard input."""
    out: str = ""
    """An .npz file for mean, log_variance and text (or picture, or example: its name); standard
    output if absent."""
    refine: int = 0
    """Steps of gradient ascent on each text's own posterior; 0 takes the encoder's."""

    def run(self) -> None:
        """Encode."""
        if self.out and not self.out.endswith(".npz"):
            raise IsthmusError(f"--out: expected a name that ends with .npz, got {self.out}")
        check_refine(self.refine)
        target = check_can_write(self.out) if self.out else None
        corpus = read_corpus(self.data, run=self.run_directory)
        posterior = encode(load_model(self.run_directory), corpus.examples, self.refine)
        if target is not None:
            import numpy as np

            arrays: dict[str, Any] = {
                "mean": posterior.mean.numpy(),
                "log_variance": posterior.log_variance.numpy(),
                corpus.kind.field: np.asarray(corpus.names),
            }
            np.savez(target, **arrays)
            return
        rows = zip(
            corpus.names, posterior.mean.tolist(), posterior.log_variance.tolist(), strict=True
        )
        emit([{corpus.kind.field: t, "mean": m, "log_variance": v} for t, m, v in rows], True, "")


def read_latents(source: str) -> Tensor:
    """Latents from encode's output: .npz, or JSON Lines with "mean" or "z"; "-" for stdin."""
    import numpy as np

    try:
        rows = _npz_latents(source) if source.endswith(".npz") else _jsonl_latents(source)
        values = np.asarray(rows, dtype=np.float32)
    except (
        OSError,
        EOFError,
        BadZipFile,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IsthmusError(
            f"{source}: expected latents as encode writes them, an .npz with an array mean or z, "
            f'or JSON Lines with "mean" or "z" ({reason})'
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
    import numpy as np

    with Path(source).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays["mean" if "mean" in arrays else "z"]


def _jsonl_latents(source: str) -> list[Any]:
    text = read_standard_input() if source == "-" else Path(source).read_text("utf-8")
    # Not splitlines: a text may hold U+2028, which JSON leaves as it is.
    records = [json.loads(line) for line in text.split("\n") if line.strip()]
    return [record["mean"] if "mean" in record else record["z"] for record in records]


@dataclass(frozen=True)
class Decode(Command):
    """Turn latents back into texts or pictures."""

    run_directory: RunDirectory
    """A run directory."""
    latents: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="LATENTS")]
    """What encode wrote: an .npz or .jsonl file, "-" for standard input."""
    out: str = ""
    """A .png file for a sheet of pictures (a picture run)."""
    json: bool = False
    """JSON Lines."""
    seed: int = 0
    """Of sampling."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def run(self) -> None:
        """Decode."""
        target = sheet(self.run_directory, self.out)
        generation = self.decoding.settings(self.seed, part_shown(self.run_directory, target))
        z = read_latents(self.latents)
        model = load_model(self.run_directory)
        if tuple(z.shape[1:]) != model.latent_shape:
            raise IsthmusError(
                f"{self.latents}: latents of shape {list(z.shape[1:])}, but the run has "
                f"{list(model.latent_shape)}"
            )
        texts = decode(model, z, generation)
        write(texts, target, self.json)


@dataclass(frozen=True)
class Reconstruct(Command):
    """Send texts or pictures through the latent and back, from the posterior mean.

    Pictures go to a sheet on which each row of originals is above its reconstructions.
    """

    run_directory: RunDirectory
    """A run directory."""
    data: Data
    """Texts, in any form that train reads; "-" for standard input."""
    limit: int = 0
    """The first N only; 0 for all."""
    refine: int = 0
    """Steps of gradient ascent on each text's own posterior; 0 takes the encoder's."""
    out: str = ""
    """A .png file for a sheet of pictures (a picture run), of the first 128 if no --limit."""
    json: bool = False
    """JSON Lines with text, reconstruction, and its terms in nats."""
    seed: int = 0
    """Of sampling, and of the draw behind the terms."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def run(self) -> None:
        """Encode and decode."""
        check_refine(self.refine)
        target = sheet(self.run_directory, self.out)
        generation = self.decoding.settings(self.seed, part_shown(self.run_directory, target))
        limit = self.limit or (0 if target is None else ON_A_SHEET)
        corpus = read_corpus(self.data, limit, self.run_directory)
        model = load_model(self.run_directory)
        from isthmus.explore.walks import likely_labels

        posterior = encode(model, corpus.examples, self.refine)
        own = likely_labels(model, corpus.examples)
        back = decode(model, posterior.mean, generation, own)
        terms = model.terms(corpus.examples, self.seed, posterior)
        shown = back if target is None else [str(target)] * len(back)
        records = [
            {
                corpus.kind.field: name,
                "reconstruction": again,
                "reconstruction_nats": loss,
                "kl_nats": kl,
            }
            for name, again, loss, kl in zip(
                corpus.names,
                shown,
                terms.reconstruction.tolist(),
                terms.kl_total.tolist(),
                strict=True,
            )
        ]
        if target is not None:
            write_sheet(back, target, corpus.examples)
            form = f"{{{corpus.kind.field}}}  {{reconstruction_nats:.2f}} + {{kl_nats:.2f}} nats"
            emit(records, self.json, form)
            return
        emit(records, self.json, f"{{{corpus.kind.field}}}\n  → {{reconstruction}}")


@dataclass(frozen=True)
class Sample(Command):
    """Draw texts or pictures from the prior."""

    run_directory: RunDirectory
    """A run directory."""
    count: int = 10
    """How many."""
    seed: int = 0
    """Of the latents and of sampling."""
    out: str = ""
    """A .png file for a sheet of pictures (a picture run)."""
    json: bool = False
    """JSON Lines."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def run(self) -> None:
        """Sample."""
        if self.count < 1:
            raise IsthmusError(f"count must be ≥ 1, got {self.count}")
        target = sheet(self.run_directory, self.out)
        generation = self.decoding.settings(self.seed, part_shown(self.run_directory, target))
        model = load_model(self.run_directory)
        from isthmus.explore.walks import sample
        from isthmus.progress import counting

        with counting(console(), "sampling", self.count) as progress:
            texts = sample(model, self.count, self.seed, generation, progress)
        write(texts, target, self.json)
