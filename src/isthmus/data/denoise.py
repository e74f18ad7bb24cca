"""Corruption of the model's inputs; its targets are never corrupted, at most spelled anew."""

from dataclasses import asdict, dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError

Ids = NDArray[np.integer[Any]]


@final
@dataclass(frozen=True)
class Denoising:
    """Rates of corruption in training: the first three per token, the others per text.

    Evaluation corrupts nothing, and start and end tokens always stay.

    References:
        Shen et al. 2020, "Educating Text Autoencoders: Latent Representation Guidance via
        Denoising" (deletion, masking); Bowman et al. 2016, "Generating Sentences from a
        Continuous Space", section 3.1 (word dropout).
    """

    deletion: float = 0.0
    """Probability of deleting a token from the encoder's input; below 1."""
    masking: float = 0.0
    """Probability of replacing a token by the mask token in the encoder's input."""
    word_dropout: float = 0.0
    """Probability of replacing a token by the unknown token in the decoder's input."""
    code_dropout: float = 0.0
    """Probability of replacing a label by the null code and leaving out its detail."""
    detail_dropout: float = 0.0
    """Probability of leaving out the detail after a label."""
    randomised: float = 0.0
    """Probability of another spelling of a molecule, in the targets as well."""

    def __post_init__(self) -> None:
        for name, rate in asdict(self).items():
            if not 0 <= rate <= 1:
                raise IsthmusError(f"{name} must lie between 0 and 1, got {rate}")
        if self.deletion == 1:
            raise IsthmusError(
                "deletion must be below 1, got 1: the encoder would see nothing; "
                "for a plain language model train without a latent"
            )


UNCORRUPTED: Final = Denoising()


def delete(ids: Ids, rate: float, generator: np.random.Generator) -> Ids:
    """Delete each token [T] with probability `rate`, but keep at least one, chosen at random."""
    draws = generator.random(len(ids))  # [T]
    keep = draws >= rate
    if len(ids) and not keep.any():
        keep[draws.argmax()] = True
    return ids[keep]


def replace(ids: Ids, rate: float, replacement: int, generator: np.random.Generator) -> Ids:
    """Return a copy in which each token [T] is `replacement` with probability `rate`."""
    dropped = generator.random(len(ids)) < rate  # [T]
    return np.where(dropped, replacement, ids).astype(ids.dtype)
