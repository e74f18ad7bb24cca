"""Fluency: the perplexity of texts under a language model apart from the one that wrote them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from isthmus.data.profile import has_words
from isthmus.errors import IsthmusError
from isthmus.evaluation.ngram import NGrams
from isthmus.evaluation.usage import Estimate
from isthmus.models.base import LatentModel
from isthmus.models.build import build
from isthmus.models.codec import TextExamples
from isthmus.runs.bundle import RUN_FILE, load_fast
from isthmus.settings import (
    DecoderSettings,
    LanguageDataSettings,
    LanguageModelSettings,
    Settings,
)

LONGEST = 256
"""Most tokens that a judge from a folder of transformers reads of a text."""


@final
@dataclass(frozen=True)
class Scores:
    """What a judge says of N texts.

    Args:
        nats: −log p of each text, its end included, [N].
        symbols: Words of each, or characters of texts without words, and its end, [N].
    """

    nats: Tensor
    symbols: Tensor

    def _per_symbol(self) -> Estimate:
        return Estimate.ratio_of(self.nats, self.symbols)

    def _residuals(self) -> Tensor:
        """How much each text moves the nats per symbol, times N, [N]."""
        rest = self.nats - self._per_symbol().value * self.symbols
        return rest / self.symbols.mean()

    @property
    def perplexity(self) -> Estimate:
        """exp of the nats per symbol."""
        return self._per_symbol().exponential

    def ratio_to(self, real: Scores, paired: bool = False) -> Estimate:
        """This perplexity over that of real texts.

        Args:
            real: The scores of real texts.
            paired: Each text belongs to the real one in its place.
        """
        value = math.exp(self._per_symbol().value - real._per_symbol().value)
        own, theirs = self._residuals(), real._residuals()
        if min(len(own), len(theirs)) < 2:
            return Estimate(value, None, len(own))
        if paired:
            variance = (own - theirs).var() / len(own)
        else:
            variance = own.var() / len(own) + theirs.var() / len(theirs)
        return Estimate(value, value * variance.sqrt().item(), len(own))


class Judge(ABC):
    """A language model that judges texts."""

    name: str
    """What it is, in words."""
    words: bool
    """Whether it counts words; otherwise characters."""

    @abstractmethod
    def scores(self, texts: Sequence[str]) -> Scores:
        """−log p of texts, and their numbers of symbols."""


@final
class CountingJudge(Judge):
    """n-grams of the texts given: of words, or of characters where there are none.

    Args:
        texts: Real texts other than those that it judges.
        source: What they are.
    """

    def __init__(self, texts: Sequence[str], source: str) -> None:
        self.words = has_words(texts)
        self._grams = NGrams(texts, self.words)
        unit = "words" if self.words else "characters"
        self.name = f"{self._grams.order}-grams of {unit}, from {len(texts):,} {source}"

    def scores(self, texts: Sequence[str]) -> Scores:
        """Sums over each text."""
        nats = torch.from_numpy(self._grams.nats(texts))
        return Scores(nats, torch.from_numpy(self._grams.counts(texts)).double())


@final
class ModelJudge(Judge):
    """A trained language model.

    Args:
        model: Without a latent.
        name: What it is.
        words: Whether to count words; otherwise characters.
    """

    def __init__(self, model: LatentModel, name: str, words: bool) -> None:
        if math.prod(model.latent_shape) or model.modalities:
            raise IsthmusError(
                f"judge: {name} is a {model.config.model_type}, expected a language model: a run "
                'with model.kind "language-model", or a folder of a causal model of transformers'
            )
        self._model, self.name, self.words = model, name, words

    def scores(self, texts: Sequence[str]) -> Scores:
        """Exact log-likelihoods; what the model cuts is counted neither as nats nor as symbols."""
        examples = self._model.codec.prepare(list(texts))
        assert isinstance(examples, TextExamples)
        nats = self._model.terms(texts).reconstruction.double()
        read = examples.predicted_texts
        symbols = [len(text.split() if self.words else text) + 1 for text in read]
        return Scores(nats, torch.tensor(symbols, dtype=torch.double))


def load_judge(path: str, texts: Sequence[str]) -> Judge:
    """The language model in a folder, as a judge of such texts.

    Args:
        path: A run of Isthmus, or whatever ``model.decoder.source`` takes: a folder of
            transformers, a .gguf file, a package of weights.
        texts: Some of what it will judge.

    Raises:
        IsthmusError: It is no language model, or cannot be loaded.
    """
    if (Path(path) / RUN_FILE).is_file():
        return ModelJudge(load_fast(path), Path(path).name, has_words(texts))
    settings = Settings(
        model=LanguageModelSettings(decoder=DecoderSettings(source=path)),
        data=LanguageDataSettings(maximum_length=LONGEST),
    )
    return ModelJudge(build(settings, texts).eval(), Path(path).name, has_words(texts))
