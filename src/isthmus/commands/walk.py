"""``isthmus interpolate``, ``analogy``, ``exchange``, ``traverse`` and ``neighbours``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from isthmus.commands import common
from isthmus.commands.space import with_latent
from isthmus.commands.writing import Writing, given, sheet, write_sheet
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Interpolate(Writing):
    """Decode points on the way from one text or picture to another, both ends included.

    A picture is a file, or DATA#N: digits#0 is the first picture of the data set digits.
    """

    start: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="START")]
    """The text or picture to start from."""
    end: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="END")]
    """The text or picture to end at."""
    steps: int = 5
    """Number of points between the ends."""
    path: Literal["slerp", "lerp"] = "slerp"
    """Spherical or linear interpolation."""
    sentences: bool = False
    """Change a document sentence by sentence, each from latents of its own, however long it is;
    --steps and --path have no effect."""

    def run(self) -> None:
        target, generation = self.prepared()
        model = with_latent(self)
        from isthmus.api import interpolate
        from isthmus.explore import reads_documents, walk_sentences

        start, end = given(model, [self.start, self.end])
        if self.sentences:
            if not reads_documents(model):
                raise IsthmusError("--sentences: this run has no documents; leave it out")
            made = walk_sentences(model, start, end, generation)
        else:
            made = interpolate(model, start, end, self.steps, self.path, generation)
        positions = [place / (len(made) - 1) for place in range(len(made))]
        self.write(target, made, "{position:.2f}  {text}", position=positions)


@dataclass(frozen=True, kw_only=True)
class Analogy(Writing):
    """Complete "A is to B as C is to …": decode z_C + weight · (z_B − z_A).

    Of a run with a summary (--model.summary) the sum is of summaries, and of the details of C
    those stay that still fit. A picture is a file, or DATA#N: digits#0 is the first picture of the
    data set digits.
    """

    a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    """A, a text or picture."""
    b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
    """B, the changed A."""
    c: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="C")]
    """C, to be changed in the same way."""
    weight: float = 1.0
    """Strength of the change."""

    def run(self) -> None:
        target, generation = self.prepared()
        model = with_latent(self)
        from isthmus.api import analogy

        known = given(model, [self.a, self.b, self.c])
        found = analogy(model, known[0], known[1], known[2], self.weight, generation)
        self.write(target, [found] if target is None else [*known, found])


@dataclass(frozen=True, kw_only=True)
class Exchange(Writing):
    """Decode A with one of its latents from B, for each latent (a run with several).

    The figure of each line is by how many nats A is less probable under these latents than under
    its own. Of a run with a summary (--model.summary), the line "summary" is what the summary of B
    says by itself, with hidden details; the others are A with one detail from B.
    """

    a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    """A text."""
    b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
    """The text that the exchanged latents come from."""

    def run(self) -> None:
        target, generation = self.prepared()
        model = with_latent(self)
        from isthmus.api import exchange

        a, b = given(model, [self.a, self.b])
        found = exchange(model, a, b, generation)
        summary = tuple(range(model.config.summary))
        names = {found[-1].latents: "all", summary: "summary", (): "none"}
        which = [names.get(one.latents) or str(one.latents[0]) for one in found]
        self.write(
            target,
            [one.example for one in found],
            "{latents:>7}  {rise_nats:+9.2f} nats  {text}",
            latents=[list(one.latents) for one in found] if self.json else which,
            rise_nats=[one.rise for one in found],
        )


def aggregate(run_directory: str) -> tuple[Tensor, Tensor]:
    """Standard deviation and KL of each dimension of the aggregate posterior.

    If the prior does not factorise over dimensions, the deviation replaces the KL.
    """
    import torch

    from isthmus.runs.bundle import RUN_FILE, read_run
    from isthmus.runs.folders import reading

    metrics = read_run(run_directory).get("metrics", {})
    if "aggregate_standard_deviation" not in metrics:
        raise IsthmusError(
            f"{run_directory}: its run.json lacks aggregate_standard_deviation; train it again"
        )
    with reading(Path(run_directory) / RUN_FILE):
        kl = metrics["kl_per_dimension"]
        spread = torch.tensor(metrics["aggregate_standard_deviation"])
        return spread, (torch.tensor(kl) if len(kl) == len(spread) else spread)


@dataclass(frozen=True, kw_only=True)
class Traverse(Writing):
    """Move a text or picture along one dimension of z.

    The unit is the standard deviation of that dimension over the training data. Of a run with a
    summary (--model.summary) the dimensions are those of the summary, and details are hidden. A
    picture is a file, or DATA#N: digits#0 is the first picture of the data set digits.
    """

    text: common.Example
    """The text or picture to move."""
    dimension: int = -1
    """The dimension, from 0; −1 for the one with the largest KL."""
    latent: int = -1
    """Number --dimension within this latent, from 0 (a run with K latents of P dimensions); −1 to
    number the K·P dimensions throughout."""
    steps: int = 7
    """Number of points."""
    reach: float = 3.0
    """Largest distance in either direction, in standard deviations."""

    def run(self) -> None:
        target, generation = self.prepared()
        model = with_latent(self)
        from isthmus.explore.walks import decode_as, likely_labels, traverse
        from isthmus.models.base import summary_of

        start = given(model, [self.text])
        z = summary_of(model, model.encode(start).mean[0])
        spread, kl = (each[: z.numel()] for each in aggregate(self.run_directory))
        dimension = self._place(kl, model.latent_shape[-1])
        walk = traverse(z, dimension, spread, self.steps, self.reach)
        made = decode_as(model, walk, likely_labels(model, start) * len(walk), generation)
        self.write(
            target,
            made,
            "z[{dimension}] {offset:+.2f} sd  {text}",
            dimension=[dimension] * len(made),
            offset=[self.reach * (2 * i / (self.steps - 1) - 1) for i in range(self.steps)],
        )

    def _place(self, kl: Tensor, size: int) -> int:
        """The place of the dimension among those of all latents, each of which has ``size``."""
        if self.latent == -1:
            return int(kl.argmax()) if self.dimension == -1 else self.dimension
        each = kl.view(-1, size)
        if not (0 <= self.latent < len(each) and -1 <= self.dimension < size):
            raise IsthmusError(
                f"got dimension {self.dimension} of latent {self.latent}, expected dimension 0 to "
                f"{size - 1} of latent 0 to {len(each) - 1}"
            )
        within = int(each[self.latent].argmax()) if self.dimension == -1 else self.dimension
        return self.latent * size + within


@dataclass(frozen=True, kw_only=True)
class Neighbours(common.OnData):
    """Find the texts or pictures of DATA whose latents are nearest to that of one example.

    Of a run with a summary (--model.summary) the distance is that of the summaries.
    """

    text: common.Example
    """A text; or a picture: a file, or DATA#N, such as digits#0."""
    count: int = 5
    """Number of neighbours."""
    out: str = ""
    """A .png file for the picture and its neighbours (a run with pictures)."""
    json: bool = False
    """Print JSON Lines with distance, index (from 0) and text."""

    def run(self) -> None:
        common.check_positive(count=self.count)
        target = sheet(self.run_directory, self.out) if self.out else None
        corpus = common.read_corpus(self.data, run=self.run_directory, embeddings=self.embeddings)
        model = with_latent(self)
        from isthmus.explore.walks import neighbours
        from isthmus.models.base import summarised

        start = given(model, [self.text])
        with summarised(model):
            query = model.encode(start).mean
            known = common.encode(model, corpus.examples).mean
        distances, indices = neighbours(query, known, self.count)
        if target is not None:
            write_sheet([*start, *(corpus.examples[index] for index in indices[0])], target)
        columns = {
            "distance": distances[0].tolist(),
            "index": indices[0].tolist(),
            corpus.kind.field: [corpus.names[index] for index in indices[0]],
        }
        common.emit(common.rows(columns), self.json, f"{{distance:8.3f}}  {{{corpus.kind.field}}}")
