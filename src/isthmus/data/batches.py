"""Batches of tokens: which sentences go together, and their tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.denoise import UNCORRUPTED, Denoising, Ids, delete, replace
from isthmus.data.tokens import Tokens
from isthmus.errors import IsthmusError
from isthmus.latent.noise import CODE, CORRUPTION, example_noise, generators, gumbel_noise

IGNORED = -100
"""The target of padding; cross-entropy leaves it out."""

WINDOW: Final = 4096
"""Examples whose batches outside training do not depend on others: a part of many examples that
ends where windows end has the batches, and the rounding, that it has in the whole."""

_BUCKET_BATCHES = 16
_BUCKET_SPREAD = 1.1


@final
class BucketBatches:
    """A batch sampler: shuffled batches of sentences of similar length, within a budget.

    The sentences are ranked by length, longest first. The ranks are divided once into buckets and
    into batches. A bucket has enough sentences for at least 16 batches, and all sentences whose
    length is within 10 % of its longest. Each epoch shuffles the sentences inside every bucket,
    fills the fixed batches with them, and shuffles the batches. So every epoch has the same number
    of batches of the same sizes, and a corpus of a few batches is one bucket: fully shuffled.

    In each batch, the number of sentences × the longest length is at most `tokens_per_batch`; a
    sentence beyond that budget is a batch by itself.

    With several processes, each takes every `world_size`-th sentence of the same global batches.
    A batch then has at least `world_size` sentences, even beyond the budget; otherwise the global
    batches are those of a single process.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.integer[Any]],
        *,
        tokens_per_batch: int | None = None,
        sentences_per_batch: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Divide the ranks into batches.

        Args:
            lengths: Tokens of each sentence [N].
            tokens_per_batch: Largest number of tokens, padding included.
            sentences_per_batch: Largest number of sentences. At least one limit is needed.
            seed: The order is a function of (seed, epoch).
            shuffle: False goes from the longest to the shortest sentence, for evaluation.
            rank: Index of this process.
            world_size: Number of processes that share each batch.

        Raises:
            IsthmusError: No limit, a limit below 1, or fewer sentences than processes.
        """
        for name, limit in (("tokens", tokens_per_batch), ("sentences", sentences_per_batch)):
            if limit is not None and limit < 1:
                raise IsthmusError(f"{name}_per_batch must be at least 1, got {limit}")
        if tokens_per_batch is None and sentences_per_batch is None:
            raise IsthmusError(
                "neither limit is set: give tokens_per_batch or sentences_per_batch"
            )
        if len(lengths) < world_size:
            raise IsthmusError(f"{world_size} processes cannot share {len(lengths)} sentences")
        self._tokens, self._sentences = tokens_per_batch, sentences_per_batch
        self._seed, self._epoch, self._shuffle = seed, 0, shuffle
        self._rank, self._world_size = rank, world_size
        each: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64)  # [N]
        ranked = np.argsort(-each, kind="stable")  # [N] longest first
        descending = each[ranked]
        starts = self._bucket_starts(descending) if shuffle else np.arange(len(each))
        buckets = np.zeros(len(each), dtype=np.int64)
        buckets[starts[1:]] = 1
        buckets = np.cumsum(buckets)  # [N] bucket of each rank
        self._bucket = np.empty_like(buckets)
        self._bucket[ranked] = buckets  # [N] bucket of each sentence
        self._edges = self._batch_edges(descending[starts][buckets])

    def _size(self, longest: int) -> int:
        """Number of sentences of this length in a batch."""
        limits = [] if self._sentences is None else [self._sentences]
        if self._tokens is not None:
            limits.append(self._tokens // max(1, longest))
        return max(1, self._world_size, min(limits))

    def _bucket_starts(self, descending: NDArray[np.int64]) -> NDArray[np.int64]:
        starts = []
        start = 0
        while start < len(descending):
            starts.append(start)
            longest = int(descending[start])
            alike = int(np.searchsorted(-descending, -longest / _BUCKET_SPREAD, side="right"))
            start = max(alike, start + _BUCKET_BATCHES * self._size(longest))
        return np.array(starts, dtype=np.int64)

    def _batch_edges(self, longest: NDArray[np.int64]) -> list[int]:
        """Return the first rank of each batch, then N; `longest` bounds the length per rank."""
        edges = [0]
        while edges[-1] < len(longest):
            edges.append(min(len(longest), edges[-1] + self._size(int(longest[edges[-1]]))))
        missing = self._world_size - (edges[-1] - edges[-2])
        if missing > 0 and edges[-2] - edges[-3] >= self._world_size + missing:
            edges[-2] -= missing
        elif missing > 0:
            del edges[-2]
        return edges

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that determines the order of the next iteration."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._edges) - 1

    def __iter__(self) -> Iterator[list[int]]:
        count = len(self._bucket)
        draws: NDArray[Any] = np.arange(count)
        batches: NDArray[Any] = np.arange(len(self))
        if self._shuffle:
            key = np.array([self._seed % 2**64, self._epoch % 2**64], dtype=np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key))
            draws = generator.random(count)
            batches = generator.permutation(len(self))
        order = np.lexsort((draws, self._bucket))  # [N] by bucket, at random inside
        for batch in batches:
            members = order[self._edges[batch] : self._edges[batch + 1]]
            yield members[self._rank :: self._world_size].tolist()


def pad(rows: Sequence[Ids], value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows on the right to one length.

    Args:
        rows: N rows of ids.
        value: The id to pad with.

    Returns:
        Ids [N T], and a mask [N T] that is 1 for tokens and 0 for padding; both int64.
    """
    longest = max(map(len, rows), default=0)
    ids = np.full((len(rows), longest), value, dtype=np.int64)  # [N T]
    mask = np.zeros((len(rows), longest), dtype=np.int64)  # [N T]
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def in_windows(lengths: NDArray[np.integer[Any]], tokens_per_batch: int) -> list[list[int]]:
    """Every index once, in batches of similar lengths from one window, within a budget."""
    return [
        [first + index for index in batch]
        for first in range(0, len(lengths), WINDOW)
        for batch in BucketBatches(
            lengths[first : first + WINDOW], tokens_per_batch=tokens_per_batch, shuffle=False
        )
    ]


@final
@dataclass(frozen=True)
class Collator:
    """Make the tensors of a batch: a pure function of (seed, epoch, indices).

    Each example's noise and corruption depend on its own index only, never on its batch.

    Args:
        encoder_tokens: The encoder's input, N texts.
        decoder_tokens: The same texts for the decoder, with a start and an end.
        encoder_pad: Padding id of the encoder.
        decoder_pad: Padding id of the decoder.
        seed: Seed of noise and corruption.
        noise_shape: Shape of one example's noise, (P,) or (K, P); None for no noise.
        denoising: Corruption in training; the default corrupts nothing.
        encoder_mask: Id that masking puts in a token's place.
        decoder_unknown: Id that word dropout puts in a token's place.
        labels: The class of each text, −1 if it is not given, [N]; None for no classes.
        classes: C, the number of classes.
        details: Free text after the class of each text, without start and end tokens. The
            decoder reads start + detail before the text, and predicts none of it.
        others: What the encoder and the decoder read of some texts instead, by their places.

    Raises:
        IsthmusError: The numbers of texts differ, the decoder's texts have no start, or an id is
            missing that `denoising` needs.
    """

    encoder_tokens: Tokens
    decoder_tokens: Tokens
    _: KW_ONLY
    encoder_pad: int
    decoder_pad: int
    seed: int = 0
    noise_shape: tuple[int, ...] | None = None
    denoising: Denoising = UNCORRUPTED
    encoder_mask: int | None = None
    decoder_unknown: int | None = None
    labels: NDArray[np.int64] | None = None
    classes: int = 0
    details: Tokens | None = None
    others: Mapping[int, tuple[Ids, Ids]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.encoder_tokens) != len(self.decoder_tokens):
            raise IsthmusError(
                "encoder and decoder need tokens of the same texts, got "
                f"{len(self.encoder_tokens)} and {len(self.decoder_tokens)} texts"
            )
        if self.decoder_tokens.start is None:
            raise IsthmusError("the decoder's tokens need a start: tokenize with its id")
        if self.denoising.masking and self.encoder_mask is None:
            raise IsthmusError("the encoder's tokenizer has no mask token: use deletion instead")
        if self.denoising.word_dropout and self.decoder_unknown is None:
            raise IsthmusError(
                "the decoder's tokenizer has neither an unknown nor a mask token: set "
                "word_dropout to 0"
            )

    def __call__(self, indices: Sequence[int], epoch: int = 0) -> dict[str, torch.Tensor]:
        """Make one batch.

        Args:
            indices: N places in the corpus.
            epoch: Determines noise and corruption, with the seed.

        Returns:
            `input_ids`, `attention_mask` [N T]: the encoder's input.
            `decoder_input_ids` [N T]: start + text. `targets` [N T]: text + end, never corrupted;
            −100 on padding and on details. `noise` [N P]: standard normal, if a shape is set.
            `labels` [N] and, with noise, `label_noise` [N C], standard Gumbel, if there are
            labels; `dropped` [N], true where the null code replaces them, if codes are dropped.
        """
        encoder_rows: list[Ids] = []
        decoder_rows: list[Ids] = []
        targets: list[Ids] = []
        randoms = generators(self.seed, epoch, indices, CORRUPTION)
        dropped, without_detail = self._dropped(indices, epoch)
        for place, (index, generator) in enumerate(zip(indices, randoms, strict=True)):
            own = (self.encoder_tokens[index], self.decoder_tokens[index])
            coded, clean = self.others.get(index, own)
            encoder_rows.append(self._corrupt_encoder(coded, generator))
            read, target = self._corrupt_decoder(clean[:-1], generator), clean[1:]
            if self.details is not None and not without_detail[place]:
                detail = self.details[index]
                if len(detail):
                    read = np.concatenate((read[:1], detail, read))
                    target = np.concatenate((np.full(1 + len(detail), IGNORED), target))
            decoder_rows.append(read)
            targets.append(target)
        input_ids, attention_mask = pad(encoder_rows, self.encoder_pad)
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "decoder_input_ids": pad(decoder_rows, self.decoder_pad)[0],
            "targets": pad(targets, IGNORED)[0],
        }
        if self.noise_shape is not None:
            batch["noise"] = example_noise(self.seed, epoch, indices, self.noise_shape)
        if self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[list(indices)])
            if self.denoising.code_dropout:
                batch["dropped"] = torch.from_numpy(dropped)
            if self.noise_shape is not None:
                batch["label_noise"] = gumbel_noise(self.seed, epoch, indices, self.classes)
        return batch

    def _dropped(
        self, indices: Sequence[int], epoch: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which codes are dropped, and which details (always with their code), both [N]."""
        rates = self.denoising.code_dropout, self.denoising.detail_dropout
        if not any(rates):
            return np.zeros(len(indices), bool), np.zeros(len(indices), bool)
        draws = [each.random(2) for each in generators(self.seed, epoch, indices, CODE)]
        code, detail = (np.array(draws) < rates).T
        return code, code | detail

    def _corrupt_encoder(self, row: Ids, generator: np.random.Generator) -> Ids:
        first = 0 if self.encoder_tokens.start is None else 1
        last = len(row) - (0 if self.encoder_tokens.end is None else 1)
        text = row[first:last]
        if self.denoising.deletion:
            text = delete(text, self.denoising.deletion, generator)
        if self.encoder_mask is not None and self.denoising.masking:
            text = replace(text, self.denoising.masking, self.encoder_mask, generator)
        return np.concatenate((row[:first], text, row[last:]))

    def _corrupt_decoder(self, row: Ids, generator: np.random.Generator) -> Ids:
        if self.decoder_unknown is None or not self.denoising.word_dropout:
            return row
        rate, unknown = self.denoising.word_dropout, self.decoder_unknown
        return np.concatenate((row[:1], replace(row[1:], rate, unknown, generator)))
