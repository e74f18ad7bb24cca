"""Settings of the training data: one class for each kind of model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isthmus.settings.ranges import Count, Fraction, Length, Rate, Size


@dataclass(frozen=True)
class _Data:
    """The settings of all data."""

    limit: Count = 0
    """Train on this many examples; 0 for all."""
    labelled: Count = 0
    """Show the model this many labels, in proportion to the classes, and treat the other examples
    as unlabelled (model.labels given). 0 for all."""
    sampling: Literal["natural", "balanced"] = "natural"
    """"balanced" repeats examples with rare labels until each label is as frequent as the most
    common one. p(y) stays that of the data."""


@dataclass(frozen=True)
class TokenSettings(_Data):
    """How texts become tokens."""

    tokenizer: Literal["word", "bpe"] = "bpe"
    """Tokenizer to train on the training texts. A pretrained model keeps its own instead."""
    vocabulary_size: Size = 8000
    """Largest vocabulary of a trained tokenizer."""
    maximum_length: Length = 64
    """Longest text in tokens, with start and end. Longer texts are cut, and the run says how
    many."""
    word_dropout: Fraction = 0.0
    """Rate of tokens hidden from the decoder's input (Bowman et al. 2016)."""


@dataclass(frozen=True)
class _Denoising:
    """Corruption of what a text encoder reads."""

    deletion: Fraction = 0.0
    """Rate of tokens deleted from the encoder's input (denoising)."""
    masking: Fraction = 0.0
    """Rate of tokens masked in the encoder's input (denoising)."""


@dataclass(frozen=True)
class CodeSettings:
    """How a decoder of texts reads labels (model.labels given)."""

    code_dropout: Rate = 0.0
    """Rate of texts whose label is hidden from the decoder, which then reads the null code.
    Guidance steers away from the null code."""
    code_separator: str = ""
    """Separates the code at the start of a label from the free text after it: ":" for
    "DESC:manner", " " for "Reviews Rating: 5.0". Empty: the whole label is the code."""
    detail_dropout: Rate = 0.5
    """Rate of texts without the free text after their code, so that p(x|code) is learned too."""


@dataclass(frozen=True)
class TextDataSettings(CodeSettings, _Denoising, TokenSettings):
    """The training data."""


@dataclass(frozen=True)
class LanguageDataSettings(CodeSettings, TokenSettings):
    """The training data."""


@dataclass(frozen=True)
class PictureDataSettings(_Data):
    """The training data."""


@dataclass(frozen=True)
class CaptionedDataSettings(_Denoising, TokenSettings):
    """The training data."""


DataSettings = (
    TextDataSettings | LanguageDataSettings | PictureDataSettings | CaptionedDataSettings
)
