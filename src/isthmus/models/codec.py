"""Between examples as people have them and batches of tensors."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from isthmus.data import tokens
from isthmus.data.batches import Collator, in_windows
from isthmus.data.corpus import TEXT
from isthmus.data.denoise import UNCORRUPTED, Denoising, Ids
from isthmus.data.kind import Kind
from isthmus.data.labelled import label_index, split_label
from isthmus.data.molecules import spelled_anew
from isthmus.data.unseen import Unseen, unseen_share
from isthmus.data.vectors import Embedded, stacked
from isthmus.errors import IsthmusError
from isthmus.latent.noise import SPELLING, generators
from isthmus.models.sentence import SentenceSettings
from isthmus.models.tokenizer_of import own_special_ids

Batch = dict[str, Tensor]


Labels = Sequence[str | None]
"""Of each example, None where it is missing."""


def predicted(batch: Batch) -> list[Tensor]:
    """What a batch has to predict: its targets, or those of each of its parts."""
    return [value for name, value in batch.items() if name.rpartition("/")[2] == "targets"]


def short(value: object) -> str:
    """A value in a message."""
    shown = repr(value).replace("\n", " ")
    return shown if len(shown) <= 40 else shown[:39] + "…"


class Examples(ABC):
    """Prepared examples: their sizes, and batches of them by index."""

    kind: ClassVar[Kind]
    raw: Any  # the examples as they were given

    @property
    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """What an example costs in a batch, [N]."""

    @abstractmethod
    def collate(
        self,
        indices: Sequence[int],
        *,
        seed: int = 0,
        epoch: int = 0,
        noise_shape: tuple[int, ...] | None = None,
        denoising: Denoising | None = None,
    ) -> Batch:
        """A batch, a pure function of its arguments; ``noise`` in it only with a shape for it."""

    @property
    def whole(self) -> bool:
        """Whether a likelihood counts all of each example, and nothing that stands for another."""
        return True

    def report(self) -> str:
        """One line on what the model will see of them."""
        return f"{len(self):,} examples"

    def to_encode(self) -> Examples:
        """The same examples with the lengths of what the encoder reads, for its batches."""
        return self

    def lost(self) -> str:
        """What of the examples the model does not read, in one line; empty if it reads all."""
        return ""

    def unseen(self, training: Examples) -> Unseen | None:
        """How much of their text occurs in none of the training examples; None without text."""
        return None

    def __len__(self) -> int:
        return len(self.lengths)

    def batches(self, tokens_per_batch: int) -> list[list[int]]:
        """Every index once, similar lengths of a window together, under a budget of tokens."""
        return in_windows(self.lengths, tokens_per_batch)


class Codec(ABC):
    """Prepares the examples of one kind of model."""

    @abstractmethod
    def prepare(self, examples: Sequence[Any], labels: Labels | None = None) -> Examples:
        """Examples ready to be batched.

        Args:
            examples: As the model's kind of data has them.
            labels: Of each, None where it is missing; without them batches have none.

        Raises:
            IsthmusError: An example of another kind, or a label that the model does not know.
        """

    def prepare_training(self, examples: Sequence[Any], labels: Labels | None = None) -> Examples:
        """The same to train on, where that differs."""
        return self.prepare(examples, labels)


def longest_detail(maximum_length: int) -> int:
    """Tokens that the free text after a code may have; what is longer is cut."""
    return max(1, maximum_length // 2)


def _lost(read: tokens.Tokens, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> str:
    return read.lost(tokens.unknown_words(tokenizer, texts) if read.unknown else ())


@final
class TextExamples(Examples):
    """Texts as token ids for an encoder and a decoder.

    Args:
        codec: The tokenizers.
        texts: As given; kept, because perplexity per word needs their words.
        labels: Of each text, None where it is not given; without them batches have none. What
            stands after the code in a label is its detail, see :func:`split_label`.
    """

    kind = TEXT
    _for_encoder = False

    def __init__(
        self, codec: TextCodec, texts: Sequence[str], labels: Labels | None = None
    ) -> None:
        self.codec = codec
        self.raw = self.texts = list(texts)
        if codec.vector_size:
            codec.check_vectors(self.texts)
        self.labels: NDArray[np.int64] | None = None
        self.details: tokens.Tokens | None = None
        special = codec.decoder_special
        if labels is not None:
            parted = [split_label(label or "", codec.code_separator) for label in labels]
            self.labels = np.asarray(
                [label_index(name, codec.label_names) if name else -1 for name, _ in parted]
            )
            if any(detail for _, detail in parted):
                room = longest_detail(codec.maximum_length)
                details = [detail for _, detail in parted]
                self.details = tokens.tokenize(codec.decoder_tokenizer, details, room, None, None)
        self.decoder_tokens = tokens.tokenize(
            codec.decoder_tokenizer, self.texts, codec.maximum_length, special.start, special.end
        )
        if codec.encoder_tokenizer is codec.decoder_tokenizer:
            self.encoder_tokens = self.decoder_tokens
        else:
            self.encoder_tokens = codec.read_by_encoder(self.texts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The longer of the two token sequences of every text, its detail included."""
        if self._for_encoder:
            return self.encoder_tokens.lengths
        decoder = self.decoder_tokens.lengths
        if self.details is not None:
            decoder = decoder + self.details.lengths + 1
        return np.maximum(self.encoder_tokens.lengths, decoder)

    def to_encode(self) -> TextExamples:
        """The same texts, as long as the encoder's tokens."""
        found = copy.copy(self)
        found._for_encoder = True
        return found

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Predicted tokens of every text, the end token included and the start token not."""
        return self.decoder_tokens.lengths - 1

    @property
    def whole(self) -> bool:
        """Whether no text is cut, no word is unknown and the end of each is predicted."""
        read, special = self.decoder_tokens, self.codec.decoder_special
        return not read.cut and not read.unknown and special.end is not None

    def nats_by_frequency(self, seen: TextExamples) -> NDArray[np.float64]:
        """−log p of every text if p(token) is its frequency among others, plus one, [N].

        Any model of tokens in their order should need fewer nats.
        """
        theirs, ours = seen.decoder_tokens, self.decoder_tokens
        size = max(len(self.codec.decoder_tokenizer), theirs.ids.max() + 1, ours.ids.max() + 1)
        counts = np.bincount(theirs.ids, minlength=size).astype(np.float64)
        # The first token of a text is given, not predicted.
        counts -= np.bincount(theirs.ids[theirs.offsets[:-1]], minlength=size)
        nats = np.log(counts.sum() + size) - np.log(counts + 1)
        firsts = ours.offsets[:-1]
        return np.add.reduceat(nats[ours.ids], firsts) - nats[ours.ids[firsts]]

    @cached_property
    def predicted_texts(self) -> list[str]:
        """What the decoder is asked to predict: the texts, cut to the maximum length."""
        whole = self.codec.maximum_length
        cut = [i for i, length in enumerate(self.decoder_tokens.lengths) if length >= whole]
        texts = list(self.texts)
        for first in range(0, len(cut), tokens.TEXTS_AT_ONCE):
            some = cut[first : first + tokens.TEXTS_AT_ONCE]
            for index, text in zip(some, self.codec.text(self.decoder_rows(some)), strict=True):
                texts[index] = text
        return texts

    def spelled(self, places: Sequence[int]) -> list[str]:
        """Some of the texts as their tokens spell them: cut, in the tokenizer's case and spacing.

        This is what can come back word for word. A text with unknown words cannot, and stays as
        it was given.
        """
        special, unknown = self.codec.decoder_special, self.codec.decoder_tokenizer.unk_token_id
        unknown = None if unknown in (special.start, special.end) else unknown
        rows = self.decoder_rows(places)
        texts = zip(places, rows, self.codec.text(rows), strict=True)
        return [self.predicted_texts[i] if unknown in row else text for i, row, text in texts]

    def decoder_rows(self, indices: Sequence[int]) -> list[list[int]]:
        """Target ids of some texts, without start and end tokens."""
        last = None if self.codec.decoder_special.end is None else -1
        return [self.decoder_tokens[index][1:last].tolist() for index in indices]

    def report(self) -> str:
        """One line on what was cut and what is unknown."""
        encoder = "" if self.encoder_tokens is self.decoder_tokens else self.encoder_tokens.lost()
        return self.decoder_tokens.report() + (f"; by the encoder: {encoder}" if encoder else "")

    def lost(self) -> str:
        """What is cut or unknown, for each of the two sides, and the first unknown words."""
        codec = self.codec
        decoder = _lost(self.decoder_tokens, codec.decoder_tokenizer, self.texts)
        if self.encoder_tokens is self.decoder_tokens:
            return decoder
        encoder = _lost(self.encoder_tokens, codec.encoder_tokenizer, self.texts)
        sides = {"by the encoder: ": encoder, "by the decoder: ": decoder}
        return "; ".join(side + lost for side, lost in sides.items() if lost)

    def unseen(self, training: Examples) -> Unseen | None:
        """By the tokens that the decoder predicts."""
        assert isinstance(training, TextExamples)
        return unseen_share(self.decoder_tokens, training.decoder_tokens)

    def collate(
        self,
        indices: Sequence[int],
        *,
        seed: int = 0,
        epoch: int = 0,
        noise_shape: tuple[int, ...] | None = None,
        denoising: Denoising | None = None,
    ) -> Batch:
        """A batch; corruption and noise of an example depend on (seed, epoch, index) alone."""
        rates = denoising or UNCORRUPTED
        collate = Collator(
            self.encoder_tokens,
            self.decoder_tokens,
            encoder_pad=self.codec.encoder_special.pad,
            decoder_pad=self.codec.decoder_special.pad,
            seed=seed,
            noise_shape=noise_shape,
            denoising=rates,
            encoder_mask=self.codec.encoder_tokenizer.mask_token_id,
            decoder_unknown=self.codec.decoder_substitute,
            labels=self.labels,
            classes=len(self.codec.label_names),
            details=self.details,
            others=self._spelled_anew(indices, seed, epoch, rates.randomised),
        )
        batch = collate(indices, epoch)
        if self.codec.vector_size:
            batch["vectors"] = torch.from_numpy(stacked([self.texts[n] for n in indices]))
        return batch

    def _spelled_anew(
        self, indices: Sequence[int], seed: int, epoch: int, rate: float
    ) -> dict[int, tuple[Ids, Ids]]:
        """Other spellings of some of the texts, as both sides read them."""
        if not rate:
            return {}
        draws = [each.random(2) for each in generators(seed, epoch, indices, SPELLING)]
        chosen = {n: own for n, (some, own) in zip(indices, draws, strict=True) if some < rate}
        texts = [spelled_anew(self.texts[n], int(own * 2**31)) for n, own in chosen.items()]
        read = TextExamples(self.codec, texts)
        rows = enumerate(chosen)
        return {n: (read.encoder_tokens[at], read.decoder_tokens[at]) for at, n in rows}


@final
@dataclass(frozen=True)
class TextCodec(Codec):
    """The tokenizers of a text model, one for each side; often they are the same object.

    Args:
        encoder_tokenizer, decoder_tokenizer: Any transformers tokenizers.
        maximum_length: Longest text in tokens, start and end included; longer ones are cut and
            counted.
        label_names: What labels the texts may have.
        code_separator: What parts a label into code and detail; empty: all of it is the code.
        sentence: How an encoder of sentence-transformers reads texts: with its prompt, up to its
            own maximum length, and a special token's name in a text is that token.
        vector_size: E, if the model reads vectors that come with the texts; else 0.
    """

    encoder_tokenizer: PreTrainedTokenizerBase
    decoder_tokenizer: PreTrainedTokenizerBase
    maximum_length: int
    decoder_special: tokens.SpecialIds
    encoder_special: tokens.SpecialIds
    label_names: tuple[str, ...] = ()
    code_separator: str = ""
    sentence: SentenceSettings | None = None
    vector_size: int = 0

    def check_vectors(self, texts: Sequence[str]) -> None:
        """Refuse texts without a vector, or with one of another width than the model reads."""
        for text in texts:
            if not isinstance(text, Embedded):
                raise IsthmusError(
                    f"text {short(text)}: comes without a vector, and this model reads vectors "
                    "in place of texts; give them with --embeddings FILE, in Python with "
                    "isthmus.embedded(texts, vectors)"
                )
            if len(text.vector) != self.vector_size:
                raise IsthmusError(
                    f"vectors: got {len(text.vector):,} numbers each, and this model was trained "
                    f"on vectors of {self.vector_size:,}; give those of the same encoder"
                )

    def read_by_encoder(self, texts: Sequence[str]) -> tokens.Tokens:
        """Tokens of texts on the encoder's side."""
        special, sentence = self.encoder_special, self.sentence
        longest = self.maximum_length
        if sentence is not None:
            longest, texts = sentence.maximum_length, [sentence.prompt + text for text in texts]
        return tokens.tokenize(
            self.encoder_tokenizer,
            texts,
            longest,
            special.start,
            special.end,
            names=sentence is not None,
        )

    @property
    def decoder_substitute(self) -> int | None:
        """Id that word dropout puts into the decoder's input: unknown, else mask."""
        tokenizer = self.decoder_tokenizer
        unknown = tokenizer.unk_token_id
        return tokenizer.mask_token_id if unknown is None else unknown

    def prepare(self, examples: Sequence[str], labels: Labels | None = None) -> TextExamples:
        """Tokenized texts."""
        texts = list(examples)
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise IsthmusError(
                    f"text {place}: got {type(text).__name__} {short(text)}, expected a str"
                )
            try:
                text.encode()
            except UnicodeEncodeError:
                raise IsthmusError(
                    f"text {place}: got half of a surrogate pair in {short(text)}, expected "
                    "characters; read the text as UTF-8"
                ) from None
        return TextExamples(self, texts, labels)

    def ids(self, text: str) -> list[int]:
        """Decoder ids of a whole text, without start and end tokens."""
        whole = 4 * len(text) + 1  # no tokenizer makes more tokens than bytes
        return tokens.tokenize(self.decoder_tokenizer, [text], whole, None, None).ids.tolist()

    def begin(self, detail: str) -> list[int]:
        """What a decoder reads before a text: start, or start + detail + start."""
        assert self.decoder_special.start is not None
        start = [self.decoder_special.start]
        if not detail:
            return start
        # CTRL has no token between a detail and the text: the one runs on into the other.
        between = start if self.decoder_special.end is not None else []
        return [*start, *self.ids(detail), *between]

    def text(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of decoder ids without start and end tokens."""
        return tokens.detokenize(self.decoder_tokenizer, rows, self.decoder_special.end)


def make_codec(
    encoder_tokenizer: PreTrainedTokenizerBase,
    decoder_tokenizer: PreTrainedTokenizerBase,
    maximum_length: int,
    decoder_special: tokens.SpecialIds | None = None,
    label_names: tuple[str, ...] = (),
    code_separator: str = "",
    sentence: SentenceSettings | None = None,
    vector_size: int = 0,
) -> TextCodec:
    """The codec of two tokenizers.

    Args:
        encoder_tokenizer: Any transformers tokenizer.
        decoder_tokenizer: The same one, or another.
        maximum_length: See `TextCodec`.
        decoder_special: Ids at the start and end of the decoder's texts, if its tokenizer does
            not decide them: T5 has its own start, and a saved model keeps those of its training.
        label_names: Names of the labels; empty without labels.
        code_separator: See `TextCodec`.
        sentence: See `TextCodec`.
        vector_size: See `TextCodec`.
    """
    special = decoder_special or tokens.special_ids(decoder_tokenizer)
    if special.start is None:
        raise IsthmusError(
            f"{decoder_tokenizer.name_or_path}: the tokenizer has no token that starts a text; "
            "set its bos_token"
        )
    if sentence is not None:
        outer = own_special_ids(encoder_tokenizer)
    else:
        outer = special if special.end is None else tokens.special_ids(encoder_tokenizer)
    return TextCodec(
        encoder_tokenizer,
        decoder_tokenizer,
        maximum_length,
        special,
        outer,
        label_names,
        code_separator,
        sentence,
        vector_size,
    )
