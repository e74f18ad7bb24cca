"""What the studio reads, shows and decodes of any kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from isthmus.data.captioned import Example
from isthmus.data.corpus import SCENES
from isthmus.data.kinds import PICTURE
from isthmus.data.pictures import Fit
from isthmus.data.pictures.corpus import BUILT_IN, fitted
from isthmus.data.pictures.grid import picture_address
from isthmus.explore.walks import decode_as
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.studio import limits


def has_both(model: LatentModel) -> bool:
    """Whether pictures can be captioned and texts be drawn."""
    return {"picture", "caption"} <= set(model.modalities)


def read_corpus(data: str, model: LatentModel) -> Any:
    """The corpus of a map, as the model reads it.

    The readers have a number of their own for scenes, of which there is no end.
    """
    limit = None if data == SCENES else limits.CORPUS
    return model.kind.read(data, model.config.to_dict(), limit)


def own_corpus(record: dict[str, Any]) -> str:
    """The corpus that a run.json says it was trained on, if it is built in; empty otherwise."""
    name = str(record.get("data", {}).get("source", "")).partition("/")[0]
    return name if name in BUILT_IN else ""


def example_of(model: LatentModel, given: str) -> Any:
    """What the model is given for a text or a picture's address.

    Raises:
        IsthmusError: It is neither, or too large.
    """
    kind = model.kind
    if kind.has_text and not (kind.has_pictures and limits.is_address(given)):
        return kind.example(text=limits.check_text(given))
    shape = picture_model(model).shape
    return kind.example(picture=fitted(limits.read_picture(given), shape, fit_of(model)))


def picture_model(model: LatentModel) -> Any:
    """The member that reads pictures."""
    return model.member(PICTURE)


def fit_of(model: LatentModel) -> Fit:
    """What becomes of a single picture of another size: its owner sees it, so no skipping."""
    fit: Fit = picture_model(model).config.fit
    return "pad" if fit == "skip" else fit


def shown(given: Any) -> dict[str, Any]:
    """An example as JSON."""
    example = Example.of(given)
    found = {} if example.picture is None else {"picture": picture_address(example.picture)}
    return found if example.caption is None else {**found, "text": example.caption}


def for_texts(model: LatentModel, generation: Generation) -> Generation:
    """The same, for the captions of a model that has them."""
    return replace(generation, part="caption") if model.kind.is_mixed else generation


def decode(
    model: LatentModel, z: Tensor, generation: Generation, labels: Sequence[str]
) -> list[Any]:
    """Examples of latents [N P], each part as it would be decoded alone."""
    decoded = decode_as(model, z, labels, for_texts(model, generation))
    if not model.kind.is_mixed:
        return decoded
    plain = Generation(sample=generation.sample, seed=generation.seed)
    drawn = model.decode(z, replace(plain, part="picture"))
    return [Example(picture=p, caption=c) for p, c in zip(drawn, decoded, strict=True)]


def decoders(model: LatentModel) -> list[Any]:
    """The modules that are called once for each token, or once for a picture."""
    found: list[Any] = [member.decoder for member in model.members.values()]
    return [getattr(decoder, "stack", decoder) for decoder in found]
