"""Corruption of what the model reads; what it must predict stays clean."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError

Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Denoising:
    """Rates of corruption in training: the first three per token, the last two per text.

    Evaluation never corrupts. Start and end tokens are never touched.

    References:
        Shen et al. 2020, "Educating Text Autoencoders: Latent Representation Guidance via
        Denoising" (deletion, masking); Bowman et al. 2016, "Generating Sentences from a
        Continuous Space", section 3.1 (word dropout).
    """

    deletion: float = 0.0
    """Probability with which the encoder does not see a token at all; below 1."""
    masking: float = 0.0
    """Probability with which the encoder sees the mask token in a token's place."""
    word_dropout: float = 0.0
    """Probability with which the decoder reads the unknown token in a token's place."""
    code_dropout: float = 0.0
    """Probability with which the null code is read in a label's place, and no detail."""
    detail_dropout: float = 0.0
    """Probability with which the detail after a label is left out."""

    def __post_init__(self) -> None:
        for name, rate in asdict(self).items():
            if not 0 <= rate <= 1:
                raise IsthmusError(f"{name} must lie between 0 and 1, got {rate}")
        if self.deletion == 1:
            raise IsthmusError(
                "deletion must be below 1, got 1: the encoder would see nothing; "
                "for a plain language model train without a latent"
            )


def delete(ids: Ids, rate: float, generator: np.random.Generator) -> Ids:
    """Delete each token with probability `rate`; one token stays, chosen at random.

    Args:
        ids: A text's tokens without start and end [T].
        rate: Probability of deletion.
        generator: Source of randomness.

    Returns:
        The tokens that stay, in their order; at least one if there was one.
    """
    draws = generator.random(len(ids))  # [T]
    keep = draws >= rate
    if len(ids) and not keep.any():
        keep[draws.argmax()] = True
    return ids[keep]


def replace(ids: Ids, rate: float, replacement: int, generator: np.random.Generator) -> Ids:
    """Replace each token by `replacement` with probability `rate`.

    Args:
        ids: A text's tokens without start and end [T].
        rate: Probability of replacement.
        replacement: Id of the mask or the unknown token.
        generator: Source of randomness.

    Returns:
        New ids [T]; `ids` itself is left as it is.
    """
    dropped = generator.random(len(ids)) < rate  # [T]
    return np.where(dropped, replacement, ids).astype(ids.dtype)
