"""``isthmus interpolate``, ``analogy``, ``traverse`` and ``neighbours``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from isthmus.commands.common import (
    Command,
    Data,
    RunDirectory,
    Text,
    emit,
    encode,
    load_model,
    read_corpus,
)
from isthmus.commands.pictures import given, part_shown, sheet, write_sheet
from isthmus.commands.space import GREEDY, Decoding
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from torch import Tensor

    from isthmus.models.base import LatentModel


def one_latent_model(run_directory: str) -> LatentModel:
    """A model whose latent is one vector: only there a walk is a walk."""
    model = load_model(run_directory)
    if len(model.latent_shape) != 1 or model.latent_shape[0] == 0:
        raise IsthmusError(f"{run_directory}: a plain language model has no latent to walk in")
    return model


@dataclass(frozen=True)
class Interpolate(Command):
    """Walk from one text to another and decode on the way, both ends included.

    For a picture run the ends are files, or DATA#PLACE: digits#0 is the first of digits.
    """

    run_directory: RunDirectory
    """A run directory."""
    start: Text
    """Text to start from."""
    end: Text
    """Text to end at."""
    steps: int = 5
    """Points between the ends."""
    path: Literal["slerp", "lerp"] = "slerp"
    """Along the sphere, or straight."""
    out: str = ""
    """A .png file for the pictures (a picture run)."""
    json: bool = False
    """JSON Lines with position and text."""
    seed: int = 0
    """Of sampling."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def run(self) -> None:
        """Walk."""
        target = sheet(self.run_directory, self.out)
        part = part_shown(self.run_directory, target)
        model = one_latent_model(self.run_directory)
        from isthmus.explore.walks import decode_as, interpolate, labels_between, likely_labels

        between = given(model, [self.start, self.end])
        mean = model.encode(between).mean
        walk = interpolate(mean[0], mean[1], self.steps, self.path)
        positions = [place / (len(walk) - 1) for place in range(len(walk))]
        labels = labels_between(likely_labels(model, between), positions)
        texts = decode_as(model, walk, labels, self.decoding.settings(self.seed, part))
        if target is not None:
            write_sheet(texts, target)
            return
        rows = zip(positions, texts, strict=True)
        records = [{"position": position, "text": text} for position, text in rows]
        emit(records, self.json, "{position:.2f}  {text}")


@dataclass(frozen=True)
class Analogy(Command):
    """A is to B as C is to …: decode z_C + weight · (z_B − z_A)."""

    run_directory: RunDirectory
    """A run directory."""
    a: Text
    """A text."""
    b: Text
    """What A became."""
    c: Text
    """What shall change in the same way."""
    weight: float = 1.0
    """Strength of the change."""
    out: str = ""
    """A .png file for the pictures (a picture run)."""
    json: bool = False
    """JSON Lines."""
    seed: int = 0
    """Of sampling."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def run(self) -> None:
        """Compute."""
        target = sheet(self.run_directory, self.out)
        part = part_shown(self.run_directory, target)
        model = one_latent_model(self.run_directory)
        from isthmus.explore.walks import analogy, decode_as, likely_labels

        known = given(model, [self.a, self.b, self.c])
        a, b, c = model.encode(known).mean
        z = analogy(a, b, c, self.weight).unsqueeze(0)
        own = likely_labels(model, known[2:])
        [text] = decode_as(model, z, own, self.decoding.settings(self.seed, part))
        if target is not None:
            write_sheet([*known, text], target)
            return
        emit([{"text": text}], self.json, "{text}")


def aggregate(run_directory: str) -> tuple[Tensor, Tensor]:
    """Standard deviation of every dimension of the aggregate posterior, and its importance.

    That is its KL or, if the prior does not split over dimensions, the deviation again.
    """
    import torch

    from isthmus.runs.bundle import read_run

    metrics = read_run(run_directory)["metrics"]
    if "aggregate_standard_deviation" not in metrics:
        raise IsthmusError(
            f"{run_directory}: its run.json has no spread of the dimensions; train it again"
        )
    kl = metrics["kl_per_dimension"]
    spread = torch.tensor(metrics["aggregate_standard_deviation"])
    return spread, (torch.tensor(kl) if len(kl) == len(spread) else spread)


@dataclass(frozen=True)
class Traverse(Command):
    """Move a text along one dimension, in units of that dimension's spread over the data."""

    run_directory: RunDirectory
    """A run directory."""
    text: Text
    """The text to start from."""
    dimension: int = -1
    """Which dimension, from 0; −1 takes the one with the largest KL."""
    steps: int = 7
    """Points."""
    reach: float = 3.0
    """Farthest distance on either side, in standard deviations."""
    out: str = ""
    """A .png file for the pictures (a picture run)."""
    json: bool = False
    """JSON Lines with dimension, offset and text."""
    seed: int = 0
    """Of sampling."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def run(self) -> None:
        """Walk."""
        target = sheet(self.run_directory, self.out)
        part = part_shown(self.run_directory, target)
        model = one_latent_model(self.run_directory)
        from isthmus.explore.walks import decode_as, likely_labels, traverse

        spread, kl = aggregate(self.run_directory)
        dimension = int(kl.argmax()) if self.dimension == -1 else self.dimension
        start = given(model, [self.text])
        z = model.encode(start).mean[0]
        walk = traverse(z, dimension, spread, self.steps, self.reach)
        labels = likely_labels(model, start) * len(walk)
        texts = decode_as(model, walk, labels, self.decoding.settings(self.seed, part))
        if target is not None:
            write_sheet(texts, target)
            return
        offsets = [self.reach * (2 * i / (self.steps - 1) - 1) for i in range(self.steps)]
        records = [
            {"dimension": dimension, "offset": offset, "text": text}
            for offset, text in zip(offsets, texts, strict=True)
        ]
        emit(records, self.json, "z[{dimension}] {offset:+.2f} sd  {text}")


@dataclass(frozen=True)
class Neighbours(Command):
    """The texts of a corpus whose latents are nearest to a text's."""

    run_directory: RunDirectory
    """A run directory."""
    data: Data
    """The corpus, in any form that train reads."""
    text: Text
    """The text."""
    count: int = 5
    """How many."""
    out: str = ""
    """A .png file for the picture and its neighbours (a picture run)."""
    json: bool = False
    """JSON Lines with distance, index (from 0) and text."""

    def run(self) -> None:
        """Search."""
        if self.count < 1:
            raise IsthmusError(f"count must be ≥ 1, got {self.count}")
        target = sheet(self.run_directory, self.out) if self.out else None
        corpus = read_corpus(self.data, run=self.run_directory)
        model = one_latent_model(self.run_directory)
        from isthmus.explore.walks import neighbours

        start = given(model, [self.text])
        query = model.encode(start).mean
        distances, indices = neighbours(query, encode(model, corpus.examples).mean, self.count)
        if target is not None:
            write_sheet([*start, *(corpus.examples[index] for index in indices[0])], target)
        records = [
            {"distance": distance, "index": index, corpus.kind.field: corpus.names[index]}
            for distance, index in zip(distances[0].tolist(), indices[0].tolist(), strict=True)
        ]
        emit(records, self.json, f"{{distance:8.3f}}  {{{corpus.kind.field}}}")
