"""How the studio reads, shows and decodes examples of any kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from isthmus.data.captioned import Example
from isthmus.data.corpus import read
from isthmus.data.hub import SCENES
from isthmus.data.kinds import PICTURE
from isthmus.data.pictures import Fit
from isthmus.data.pictures.corpus import BUILT_IN
from isthmus.data.pictures.grid import picture_address
from isthmus.data.pictures.shapes import fitted
from isthmus.explore import decode_as
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.studio import limits


def has_both(model: LatentModel) -> bool:
    """Whether pictures can be captioned and texts be drawn."""
    return {"picture", "caption"} <= set(model.modalities)


def read_corpus(data: str, model: LatentModel, embeddings: str = "") -> Any:
    """The corpus of a map, as the model reads it.

    ``scenes`` has no end; its reader has its own default size.
    """
    limit = None if data == SCENES else limits.CORPUS
    if embeddings:
        return read(data, limit=limit, embeddings=embeddings)
    return model.kind.read(data, model.config.to_dict(), limit)


def own_corpus(record: dict[str, Any]) -> str:
    """The corpus of a run.json, if it is a built-in one; empty otherwise."""
    name = str(record.get("data", {}).get("source", "")).partition("/")[0]
    return name if name in BUILT_IN else ""


def example_of(model: LatentModel, given: str) -> Any:
    """The example that the model reads for a text or for a picture's data URL.

    Raises:
        IsthmusError: The input is neither, or too large.
    """
    kind = model.kind
    if kind.has_text and not (kind.has_pictures and limits.is_address(given)):
        return kind.example(text=limits.check_text(given))
    reader: Any = model.member(PICTURE)
    picture = fitted(limits.read_picture(given), reader.shape, fit_of(model))
    return kind.example(picture=picture)


def fit_of(model: LatentModel) -> Fit:
    """How a picture of another size is fitted. A single picture is never skipped."""
    reader: Any = model.member(PICTURE)
    fit: Fit = reader.config.fit
    return "pad" if fit == "skip" else fit


def shown(given: Any) -> dict[str, Any]:
    """An example as JSON."""
    example = Example.of(given)
    found = {} if example.picture is None else {"picture": picture_address(example.picture)}
    return found if example.caption is None else {**found, "text": example.caption}


def for_texts(model: LatentModel, generation: Generation) -> Generation:
    """The same settings, restricted to captions if the model has them."""
    return replace(generation, part="caption") if model.kind.is_mixed else generation


def decode(
    model: LatentModel, z: Tensor, generation: Generation, labels: Sequence[str]
) -> list[Any]:
    """Decode latents [N P] to examples, each part as it would be decoded alone."""
    decoded = decode_as(model, z, labels, for_texts(model, generation))
    if not model.kind.is_mixed:
        return decoded
    plain = Generation(sample=generation.sample, seed=generation.seed)
    drawn = model.decode(z, replace(plain, part="picture"))
    return [Example(picture=p, caption=c) for p, c in zip(drawn, decoded, strict=True)]


def decoders(model: LatentModel) -> list[Any]:
    """The modules that are called once per token, or once per picture."""
    found: list[Any] = [member.decoder for member in model.members.values()]
    return [getattr(decoder, "stack", decoder) for decoder in found]
