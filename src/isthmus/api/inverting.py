"""Texts for vectors that came without any."""

from __future__ import annotations

from typing import Any

from isthmus.api.given import check_least, model_of, vectors_of
from isthmus.evaluation.meaning import SentenceEncoder
from isthmus.models import inversion
from isthmus.models.inversion import ROUNDS, Embed
from isthmus.models.text_model import text_model
from isthmus.progress import console, counting


def invert(
    space: Any,
    vectors: Any,
    encoder: str | Embed | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> list[str]:
    """Write the texts of vectors that came without any; see docs/inversion.md.

    Args:
        space: A space or a model that was trained with ``embeddings`` of the same encoder.
        vectors: [N E]: an array, a tensor, lists of numbers, or a file.
        encoder: The encoder that made the vectors, with which texts are corrected: a function of
            a list of texts that returns their vectors, or what ``--encoder`` of
            ``isthmus invert`` takes.
        rounds: Of correction.
        seed: Of its drafts.

    Returns:
        N texts.

    Examples:
        >>> isthmus.invert(space, vectors, library.encode)  # doctest: +SKIP
    """
    model = text_model(model_of(space))
    check_least(0, rounds=rounds, seed=seed)
    rows = vectors_of(vectors, "test").rows
    embed = SentenceEncoder(encoder).embed if isinstance(encoder, str) else encoder
    with counting(console(), "inverting", len(rows)) as progress:
        return inversion.invert(
            model, rows, embed, rounds=rounds, seed=seed, progress=progress
        ).texts
