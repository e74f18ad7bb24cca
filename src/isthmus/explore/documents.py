"""Documents longer than a model reads: windows with an overlap, and walks sentence by sentence.

A document is cut into windows of whole words; each is encoded and decoded by itself, and what
comes back is joined where neighbours agree, so that the overlap stands there once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple, TypeGuard, final

import torch
from torch import Tensor

from isthmus.data.vectors import Embedded
from isthmus.errors import IsthmusError
from isthmus.explore.walks import decode_as, likely_labels
from isthmus.latent.distribution import Posterior
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.models.text_model import TextModel
from isthmus.progress import Progress, no_progress

OVERLAP = 8
"""Words that neighbouring windows share."""


@final
class Windows(NamedTuple):
    """Windows of N documents, without an overlap, in their order.

    Args:
        texts: of all W windows.
        documents: the place of the document of each, [W].
    """

    texts: list[str]
    documents: list[int]

    def sums(self, values: Tensor) -> Tensor:
        """Values of windows [W] summed over those of each document, [N]."""
        places = torch.tensor(self.documents, device=values.device)
        return values.new_zeros(self.documents[-1] + 1).index_add(0, places, values)

    def joined(self, parts: Sequence[str]) -> list[str]:
        """The texts of N documents from those of their windows."""
        found: list[list[str]] = [[] for _ in range(self.documents[-1] + 1)]
        for place, part in zip(self.documents, parts, strict=True):
            found[place] += part.split()
        return [" ".join(words) for words in found]


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


def in_windows(
    model: LatentModel, texts: Sequence[Any], progress: Progress = no_progress
) -> Windows:
    """Documents of any length as windows that the model reads whole; a short one is one window.

    Without an overlap each word is in one window, so −log p of a document's windows, each with an
    end of its own, is the sum of theirs.

    Args:
        model: any model of texts.
        texts: the documents.
        progress: called with the number just cut.

    Raises:
        IsthmusError: the model does not read texts alone.
    """
    if not reads_documents(model) or any(isinstance(text, Embedded) for text in texts):
        raise IsthmusError("windows: this run does not read texts alone; leave out --windows")
    found = Windows([], [])
    for place, text in enumerate(texts):
        parts = windows(model, text, 0)
        found.texts.extend(parts)
        found.documents.extend([place] * len(parts))
        progress(1)
    return found


def reads_documents(model: LatentModel) -> TypeGuard[TextModel]:
    """Whether what a model reads are texts, which have words and sentences."""
    return isinstance(model, TextModel)


def _reach(model: TextModel, words: Sequence[str], start: int) -> int:
    """The end of the longest window from a word on, by bisection."""
    low, high = start, min(len(words), start + model.codec.maximum_length)
    if _fits(model, " ".join(words[start:high])):
        return high
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

    Raises:
        IsthmusError: an end without words.
    """
    first, last = sentences(start), sentences(end)
    if not (first and last):
        raise IsthmusError("a walk by sentences: got an end without words, expected two texts")
    parts = in_windows(model, [*first, *last])
    z, own = model.encode(parts.texts).mean, likely_labels(model, parts.texts)
    decoded = parts.joined(decode_as(model, z, own, generation))
    old, new = decoded[: len(first)], decoded[len(first) :]
    return [" ".join(new[:step] + old[step:]) for step in range(max(len(old), len(new)) + 1)]
