"""What differs between runs of texts, of pictures, and of pictures with captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from isthmus.data import captioned, pictures
from isthmus.data import corpus as texts
from isthmus.data.captioned import Example
from isthmus.data.pictures.corpus import BUILT_IN
from isthmus.data.pictures.grid import picture_address
from isthmus.explore.walks import decode_as
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.studio import limits

Kind = Literal["text", "picture", "joint"]


def kind_of(model: LatentModel) -> Kind:
    """What a model reads; "joint" is pictures, captions, or both."""
    kinds: dict[str, Kind] = {"isthmus-picture": "picture", "isthmus-joint": "joint"}
    return kinds.get(model.config.model_type, "text")


def picture_reader(model: LatentModel) -> Any:
    """The model of pictures in it, which tells their shape and what to do with others; or None."""
    if kind_of(model) == "joint":
        return dict(model.parts.items()).get("picture")
    return model if kind_of(model) == "picture" else None


def has_both_doors(model: LatentModel) -> bool:
    """Whether pictures can be captioned and texts be drawn."""
    return kind_of(model) == "joint" and {"picture", "caption"} <= set(model.kinds)


def read_corpus(data: str, model: LatentModel) -> Any:
    """The corpus of a map, as the model reads it.

    Of scenes there are as many as one asks for; the readers have a number of their own.
    """
    limit = None if data == texts.SCENES else limits.CORPUS
    if kind_of(model) == "text":
        return texts.read(data, limit=limit)
    reader = picture_reader(model)
    read: Any = captioned.read if kind_of(model) == "joint" else pictures.read
    return read(data, limit=limit, shape=reader.shape, fit=reader.config.fit)


def own_corpus(record: dict[str, Any]) -> str:
    """The corpus that a run.json says it was trained on, if it is built in; empty otherwise."""
    name = str(record.get("data", {}).get("source", "")).partition("/")[0]
    return name if name in BUILT_IN else ""


def titles(corpus: Any) -> list[str]:
    """What to call each example in a list: a text, a caption, a picture's name."""
    if corpus.kind != "example":
        return list(corpus.names)
    each = zip(corpus.examples, corpus.names, strict=True)
    return [example.caption or name for example, name in each]


def example_of(model: LatentModel, given: str) -> Any:
    """What the model is given for a text or a picture's address.

    Raises:
        IsthmusError: it is none, or too large.
    """
    kind, reader = kind_of(model), picture_reader(model)
    if kind == "text" or (kind == "joint" and not limits.is_address(given)):
        text = limits.check_text(given)
        if kind == "text":
            return text
        return Example(caption=text)
    picture = pictures.corpus.fitted(limits.read_picture(given), reader.shape, fit_of(model))
    return picture if kind == "picture" else Example(picture=picture)


def fit_of(model: LatentModel) -> pictures.Fit:
    """What becomes of a single picture of another size: its owner sees it, so no skipping."""
    fit: pictures.Fit = picture_reader(model).config.fit
    return "pad" if fit == "skip" else fit


def shown(example: Any) -> dict[str, Any]:
    """An example as JSON."""
    if isinstance(example, str):
        return {"text": example}
    if isinstance(example, Example):
        told = {} if example.picture is None else shown(example.picture)
        return told if example.caption is None else {**told, "text": example.caption}
    return {"picture": picture_address(example)}


def for_texts(model: LatentModel, generation: Generation) -> Generation:
    """The same, of a joint model for its captions."""
    return replace(generation, part="caption") if kind_of(model) == "joint" else generation


def decode(
    model: LatentModel, z: Tensor, generation: Generation, labels: Sequence[str]
) -> list[Any]:
    """Examples of latents [N P]; of a joint model each part as it would be decoded alone."""
    decoded = decode_as(model, z, labels, for_texts(model, generation))
    if kind_of(model) != "joint":
        return decoded
    plain = Generation(sample=generation.sample, seed=generation.seed)
    drawn = model.decode(z, replace(plain, part="picture"))
    return [Example(picture=p, caption=c) for p, c in zip(drawn, decoded, strict=True)]


def decoders(model: LatentModel) -> list[Any]:
    """The modules that are called once for each token, or once for a picture."""
    parts = list(model.parts.values()) if kind_of(model) == "joint" else [model]
    return [getattr(part.decoder, "stack", part.decoder) for part in parts]
