"""``isthmus caption`` and ``isthmus draw``: in at one door of a latent, out at the other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from isthmus.commands.common import Command, RunDirectory, decode, emit, encode, load_model
from isthmus.commands.pictures import png, write_sheet
from isthmus.commands.space import GREEDY, Decoding
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.models.joint.model import JointModel

Pictures = Annotated[
    tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PICTURE [PICTURE …]")
]
Captions = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="TEXT [TEXT …]")]


def joint_model(run: str) -> JointModel:
    """A model with a door for pictures and one for captions."""
    model = load_model(run)
    from isthmus.models.joint.model import JointModel

    if not isinstance(model, JointModel) or set(model.kinds) < {"picture", "caption"}:
        raise IsthmusError(
            f"{run}: is no run of pictures with captions; train one with --recipe doors"
        )
    return model


@dataclass(frozen=True)
class Caption(Command):
    """Tell what pictures show: the caption of the mean of q(z|picture)."""

    run_directory: RunDirectory
    """A run of pictures with captions."""
    pictures: Pictures
    """Files, or DATA#PLACE: scenes#0 is the first of scenes."""
    json: bool = False
    """JSON Lines with picture and caption."""
    seed: int = 0
    """Of sampling."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def run(self) -> None:
        """Encode pictures, decode captions."""
        _at_least_one(self.pictures, "picture")
        generation = self.decoding.settings(self.seed, "caption")
        model = joint_model(self.run_directory)
        from isthmus.data import pictures
        from isthmus.data.captioned import Example

        reader = model.parts["picture"]
        examples = [
            Example(picture=pictures.read_one(word, reader.shape, reader.config.fit))
            for word in self.pictures
        ]
        captions = decode(model, encode(model, examples).mean, generation)
        rows = zip(self.pictures, captions, strict=True)
        records = [{"picture": name, "caption": caption} for name, caption in rows]
        emit(records, self.json, "{caption}" if len(records) == 1 else "{picture}  {caption}")


@dataclass(frozen=True)
class Draw(Command):
    """Draw what texts say: the picture of the mean of q(z|text)."""

    run_directory: RunDirectory
    """A run of pictures with captions."""
    texts: Captions
    """What to draw."""
    out: str
    """The .png file; several pictures stand in rows."""

    def run(self) -> None:
        """Encode captions, decode pictures."""
        _at_least_one(self.texts, "text")
        model = joint_model(self.run_directory)
        target = png(self.out)
        from isthmus.data.captioned import Example
        from isthmus.models.generation import Generation

        for line in unknown_words(model, self.texts):
            print(line, file=sys.stderr)
        examples = [Example(caption=text) for text in self.texts]
        drawn = decode(model, encode(model, examples).mean, Generation(part="picture"))
        write_sheet(drawn, target)


def unknown_words(model: JointModel, texts: Sequence[str]) -> list[str]:
    """A line for each text with words that the run has never seen, which it cannot draw."""
    tokenizer = model.parts["caption"].codec.encoder_tokenizer
    unknown = tokenizer.unk_token_id
    lines = []
    for text in texts:
        words = [
            word
            for word in text.split()
            if unknown in tokenizer(word, add_special_tokens=False).input_ids
        ]
        if words and unknown is not None:
            lines.append(f"{text!r}: unknown to this run and read as blanks: {', '.join(words)}")
    return lines


def _at_least_one(words: Sequence[str], what: str) -> None:
    if not all(word.strip() for word in words) or not words:
        raise IsthmusError(f"expected at least one {what}, none of them empty, got {list(words)}")
