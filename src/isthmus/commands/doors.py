"""``isthmus caption`` and ``isthmus draw``: from one modality through the latent to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from isthmus.commands.common import OnRun, RunDirectory, decode, emit, encode, rows
from isthmus.commands.writing import GREEDY, Decoding, png, write_sheet
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.models.base import LatentModel

Pictures = Annotated[
    tyro.conf.Positional[tuple[str, ...]],
    tyro.conf.arg(metavar="PICTURE [PICTURE …]", help_behavior_hint="(required)"),
]
Captions = Annotated[
    tyro.conf.Positional[tuple[str, ...]],
    tyro.conf.arg(metavar="TEXT [TEXT …]", help_behavior_hint="(required)"),
]


def joint_model(verb: OnRun) -> LatentModel:
    """The model of a run on pictures with captions."""
    model = verb.load()
    if not {"picture", "caption"} <= set(model.modalities):
        raise IsthmusError(
            f"{verb.run_directory}: is not a run on pictures with captions; train one with "
            "--recipe doors"
        )
    return model


@dataclass(frozen=True, kw_only=True)
class Caption(OnRun):
    """Write captions for pictures: decode the mean of q(z|picture) to text."""

    run_directory: RunDirectory
    """A run on pictures with captions."""
    pictures: Pictures
    """Picture files, or DATA#N: scenes#0 is the first picture of the data set scenes."""
    json: bool = False
    """Print JSON Lines with picture and caption."""
    seed: int = 0
    """Seed of sampling."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def run(self) -> None:
        _at_least_one(self.pictures, "picture")
        generation = self.decoding.settings(self.seed, "caption")
        model = joint_model(self)
        from isthmus.data.kinds import PICTURE

        config = model.config.to_dict()["picture"]
        pictures = [PICTURE.named(word, config) for word in self.pictures]
        examples = [model.kind.example(picture=picture) for picture in pictures]
        captions = decode(model, encode(model, examples).mean, generation)
        records = rows({"picture": self.pictures, "caption": captions})
        emit(records, self.json, "{caption}" if len(records) == 1 else "{picture}  {caption}")


@dataclass(frozen=True, kw_only=True)
class Draw(OnRun):
    """Draw pictures from texts: decode the mean of q(z|text) to a picture."""

    run_directory: RunDirectory
    """A run on pictures with captions."""
    texts: Captions
    """The texts to draw."""
    out: str
    """The .png file for the pictures, in rows of 16."""

    def run(self) -> None:
        _at_least_one(self.texts, "text")
        model = joint_model(self)
        target = png(self.out)
        from isthmus.models.generation import Generation

        examples = [model.kind.example(text=text) for text in self.texts]
        drawn = decode(model, encode(model, examples).mean, Generation(part="picture"))
        write_sheet(drawn, target)


def _at_least_one(words: Sequence[str], what: str) -> None:
    if not all(word.strip() for word in words) or not words:
        raise IsthmusError(f"expected at least one {what}, none of them empty, got {list(words)}")
