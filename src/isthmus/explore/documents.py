"""Documents longer than a model reads: windows with an overlap, and walks sentence by sentence.

A document is cut into windows of whole words; each is encoded and decoded by itself, and what
comes back is joined where neighbours agree, so that the overlap stands there once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple, final

import torch

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior
from isthmus.models.generation import Generation
from isthmus.models.text_model import TextModel

OVERLAP = 8
"""Words that neighbouring windows share."""


@final
class Document(NamedTuple):
    """A document as latents.

    Args:
        posterior: q(z|x) of each of its W windows, [W P] or [W K P].
        overlap: words that neighbours share.
    """

    posterior: Posterior
    overlap: int


def windows(model: TextModel, text: str, overlap: int = OVERLAP) -> list[str]:
    """Windows of a text: as many whole words as the model reads, the last ``overlap`` again.

    White space becomes single spaces.

    Raises:
        IsthmusError: an overlap below 0, or a window with no room for a new word.
    """
    if overlap < 0:
        raise IsthmusError(f"overlap must be ≥ 0, got {overlap}")
    words, found, start = text.split(), [], 0
    while True:
        end = _reach(model, words, start)
        found.append(" ".join(words[start:end]))
        if end == len(words):
            return found
        if end - overlap <= start:
            raise IsthmusError(
                f"document: a window holds {end - start} words from {words[start]!r} on, expected "
                f"more than the overlap of {overlap}; train with a larger --data.maximum-length"
            )
        start = end - overlap


def _reach(model: TextModel, words: Sequence[str], start: int) -> int:
    """The end of the longest window from a word on, by bisection."""
    low, high = start, min(len(words), start + model.codec.maximum_length)
    while low < high:
        middle = (low + high + 1) // 2
        if _fits(model, " ".join(words[start:middle])):
            low = middle
        else:
            high = middle - 1
    return low


def _fits(model: TextModel, text: str) -> bool:
    read = model.codec.prepare([text])
    return not (read.decoder_tokens.cut or read.encoder_tokens.cut)


def joined(parts: Sequence[str], overlap: int) -> str:
    """Texts of neighbouring windows as one, the words that they share once.

    Where the last words of one are the first of the next, they are joined there. Where a decoder
    wrote something else, they are joined in the middle of the longest run of words that both have;
    if there is none, the first of the two says what the overlap is.
    """
    whole = parts[0].split()
    for part in parts[1:]:
        words = part.split()
        left, right = _seam(whole[-overlap:] if overlap else [], words[:overlap])
        whole = whole[: len(whole) - left] + words[right:]
    return " ".join(whole)


def _seam(before: list[str], after: list[str]) -> tuple[int, int]:
    """How many words to leave out at the end of one and at the start of the next."""
    if before == after:
        return 0, len(after)
    run = SequenceMatcher(None, before, after, autojunk=False).find_longest_match()
    if not run.size:
        return 0, len(after)
    middle = run.size // 2
    return len(before) - run.a - middle, run.b + middle


@torch.no_grad()
def encode_document(model: TextModel, text: str, overlap: int = OVERLAP) -> Document:
    """q(z|x) of each window of a text of any length."""
    return Document(model.encode(windows(model, text, overlap)), overlap)


@torch.no_grad()
def decode_document(
    model: TextModel, document: Document, generation: Generation | None = None
) -> str:
    """The text of a document's posterior means, window by window."""
    return joined(model.decode(document.posterior.mean, generation), document.overlap)


def sentences(text: str) -> list[str]:
    """Sentences of a text: up to ., ! or ? before a space; the words as they are."""
    return re.findall(r"\S.*?[.!?]+(?=\s|$)|\S.*$", " ".join(text.split()))


@torch.no_grad()
def walk_sentences(
    model: TextModel, start: str, end: str, generation: Generation | None = None
) -> list[str]:
    """From one document to another, sentence by sentence, both ends included.

    Step s decodes the first s sentences of the end and those of the start from s + 1 on, each from
    latents of its own.
    """
    ends = [sentences(text) for text in (start, end)]
    own = [
        [decode_document(model, encode_document(model, one), generation) for one in texts]
        for texts in ends
    ]
    steps = max(map(len, own))
    return [" ".join(own[1][:step] + own[0][step:]) for step in range(steps + 1)]
