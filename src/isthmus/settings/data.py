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
    """Keep this many labels, with the classes in proportion, and treat all other examples as
    unlabelled (with model.labels given). 0 to keep all."""
    sampling: Literal["natural", "balanced"] = "natural"
    """"balanced" repeats examples with rare labels until each label is as frequent as the most
    common one. p(y) is still that of the data before repetition."""


@dataclass(frozen=True)
class TokenSettings(_Data):
    """How texts become tokens."""

    tokenizer: Literal["word", "bpe", "character", "smiles"] = "bpe"
    """The kind of tokenizer to train on the training texts: words at white space, byte pairs,
    single characters, or the symbols of SMILES and SELFIES. A pretrained model keeps its own."""
    vocabulary_size: Size = 8000
    """Maximum vocabulary size of a tokenizer trained here."""
    maximum_length: Length = 64
    """Maximum length of a text in tokens, including start and end. Longer texts are truncated, and
    the run reports how many."""
    word_dropout: Fraction = 0.0
    """Fraction of tokens hidden in the decoder's input (Bowman et al. 2016)."""
    randomised: Fraction = 0.0
    """Fraction of molecules that training reads and writes as another SMILES string of the same
    molecule, a new one in each epoch (Bjerrum 2017). Needs RDKit (isthmus[molecules])."""


@dataclass(frozen=True)
class _Denoising:
    """Corruption of what a text encoder reads."""

    deletion: Fraction = 0.0
    """Fraction of tokens deleted from the encoder's input (denoising)."""
    masking: Fraction = 0.0
    """Fraction of tokens masked in the encoder's input (denoising)."""


@dataclass(frozen=True)
class CodeSettings:
    """How a decoder of texts reads labels (model.labels given)."""

    code_dropout: Rate = 0.0
    """Fraction of texts whose label is hidden from the decoder, which then reads the null code.
    Guidance steers away from the null code."""
    code_separator: str = ""
    """What separates the code at the start of a label from the free text after it: ":" for
    "DESC:manner", " " for "Reviews Rating: 5.0". Empty: the whole label is the code."""
    detail_dropout: Rate = 0.5
    """Fraction of texts trained without the free text after their code, so that p(x|code) is
    learned too."""


@dataclass(frozen=True)
class StreamSettings:
    """How a corpus larger than memory is read."""

    streaming: bool = False
    """Read the texts while training, window by window, so that memory does not grow with the
    corpus: .txt, .jsonl or .parquet files, or a Hugging Face dataset (docs/scale.md)."""
    window: Size = 50_000
    """Texts of a window (with data.streaming): they are shuffled and sorted by length together.
    Memory holds two windows."""


@dataclass(frozen=True)
class TextDataSettings(StreamSettings, CodeSettings, _Denoising, TokenSettings):
    """The training data."""

    embeddings: str = ""
    """A file of vectors, one for each text: .npy, .npz, or a column of Parquet or .jsonl
    (FILE:COLUMN); for a folder of splits, a folder. The posterior's head then sits on them, and
    there is no encoder. Rows follow the order of the texts, or both have a column id.
    --embeddings is short for it."""


@dataclass(frozen=True)
class LanguageDataSettings(StreamSettings, CodeSettings, TokenSettings):
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
