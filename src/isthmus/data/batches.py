"""From tokens to batches: which sentences go together, and the tensors made of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.denoise import Denoising, delete, replace
from isthmus.data.tokens import Tokens
from isthmus.errors import IsthmusError
from isthmus.latent.noise import CODE, CORRUPTION, example_noise, generators, gumbel_noise

IGNORED = -100
"""The target of padding; cross-entropy leaves it out."""

_BUCKET_BATCHES = 16
_BUCKET_SPREAD = 1.1


class BucketBatches:
    """A batch sampler: shuffled batches of sentences of similar length, within a budget.

    The sentences are ranked by length, longest first, and the ranks are divided once for all
    into buckets and into batches. A bucket holds at least 16 batches' worth of sentences, and
    all whose length is within 10 % of its longest. Each epoch shuffles the sentences inside
    every bucket, deals them to the fixed batches, and shuffles the batches. So every epoch has
    the same number of batches of the same sizes, whatever the shuffle, and a corpus of a few
    batches is one bucket, that is, fully shuffled.

    The budget holds for a batch: its number of sentences × its longest ≤ `tokens_per_batch`. A
    sentence beyond the budget is a batch by itself.

    With several processes each takes every `world_size`-th sentence of the same global batches.
    A batch then has at least `world_size` sentences, be it over the budget; apart from that the
    global batches are those of a single process.
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
            tokens_per_batch: Largest number of sentences × longest, padding included.
            sentences_per_batch: Largest number of sentences. At least one limit is needed.
            seed: The order is a function of (seed, epoch).
            shuffle: False gives the sentences from the longest to the shortest, for evaluation;
                the indices tell the places they came from.
            rank: Which of the processes this is.
            world_size: How many processes share each batch.

        Raises:
            IsthmusError: No limit, a limit below 1, or fewer sentences than processes.
        """
        for name, limit in (("tokens", tokens_per_batch), ("sentences", sentences_per_batch)):
            if limit is not None and limit < 1:
                raise IsthmusError(f"{name}_per_batch must be at least 1, got {limit}")
        if tokens_per_batch is None and sentences_per_batch is None:
            raise IsthmusError("give tokens_per_batch or sentences_per_batch: neither is set")
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
        """How many sentences of this length a batch takes."""
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
        """Return the first rank of every batch, and N; `longest` bounds each rank's length."""
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
        """Choose the epoch whose order the next iteration follows."""
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


def pad(rows: Sequence[NDArray[np.integer[Any]]], value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows on the right to one length.

    Args:
        rows: N rows of ids.
        value: What to pad with.

    Returns:
        ids [N T] and mask [N T], 1 where a token stands and 0 on padding; both int64.
    """
    longest = max(map(len, rows), default=0)
    ids = np.full((len(rows), longest), value, dtype=np.int64)  # [N T]
    mask = np.zeros((len(rows), longest), dtype=np.int64)  # [N T]
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


class Collator:
    """Make the tensors of a batch: a pure function of (seed, epoch, indices).

    Each example's noise and corruption depend on its own index only, never on its batch.
    """

    def __init__(
        self,
        encoder_tokens: Tokens,
        decoder_tokens: Tokens,
        *,
        encoder_pad: int,
        decoder_pad: int,
        seed: int = 0,
        noise_shape: tuple[int, ...] | None = None,
        denoising: Denoising | None = None,
        encoder_mask: int | None = None,
        decoder_unknown: int | None = None,
        labels: NDArray[np.int64] | None = None,
        classes: int = 0,
        details: Tokens | None = None,
    ) -> None:
        """Check that the parts belong together.

        Args:
            encoder_tokens: What the encoder reads, N texts.
            decoder_tokens: The same texts for the decoder, with a start and an end.
            encoder_pad: Id to pad the encoder's tokens with.
            decoder_pad: Id to pad the decoder's tokens with.
            seed: Seed of noise and corruption.
            noise_shape: Shape of one example's noise, (P,) or (K, P); None for no noise.
            denoising: Corruption in training; None to evaluate.
            encoder_mask: Id that masking puts in a token's place.
            decoder_unknown: Id that word dropout puts in a token's place.
            labels: The class of each text, −1 where it is not given, [N]; None for no classes.
            classes: C, how many classes there are.
            details: Free text after the class of each text, tokens without start and end: the
                decoder reads start + detail before the text, and predicts nothing of it.

        Raises:
            IsthmusError: The numbers of texts differ, the decoder's texts lack a start, or an id
                is missing that `denoising` needs.
        """
        denoising = denoising or Denoising()
        if len(encoder_tokens) != len(decoder_tokens):
            raise IsthmusError(
                "encoder and decoder tokens must be of as many texts, got "
                f"{len(encoder_tokens)} and {len(decoder_tokens)}"
            )
        if decoder_tokens.start is None:
            raise IsthmusError("the decoder's tokens need a start: tokenize with its id")
        if denoising.masking and encoder_mask is None:
            raise IsthmusError("the encoder's tokenizer has no mask token: use deletion instead")
        if denoising.word_dropout and decoder_unknown is None:
            raise IsthmusError(
                "the decoder's tokenizer has neither an unknown nor a mask token: set "
                "word_dropout to 0"
            )
        self._encoder_tokens, self._decoder_tokens = encoder_tokens, decoder_tokens
        self._encoder_pad, self._decoder_pad = encoder_pad, decoder_pad
        self._seed, self._noise_shape, self._denoising = seed, noise_shape, denoising
        self._encoder_mask, self._decoder_unknown = encoder_mask, decoder_unknown
        self._labels, self._classes, self._details = labels, classes, details

    def __call__(self, indices: Sequence[int], epoch: int = 0) -> dict[str, torch.Tensor]:
        """Make one batch.

        Args:
            indices: N places in the corpus.
            epoch: Which noise and corruption they get.

        Returns:
            `input_ids`, `attention_mask` [N T]: what the encoder reads.
            `decoder_input_ids` [N T]: start + text. `targets` [N T]: text + end, always clean;
            −100 on padding and on a detail. `noise` [N P]: standard normal, if a shape is set.
            `labels` [N] and with noise `label_noise` [N C], standard Gumbel, if there are labels;
            `dropped` [N], where the null code takes their place, if codes are dropped.
        """
        encoder_rows: list[NDArray[np.integer[Any]]] = []
        decoder_rows: list[NDArray[np.integer[Any]]] = []
        targets: list[NDArray[np.integer[Any]]] = []
        randoms = generators(self._seed, epoch, indices, CORRUPTION)
        dropped, without_detail = self._dropped(indices, epoch)
        for place, (index, generator) in enumerate(zip(indices, randoms, strict=True)):
            clean = self._decoder_tokens[index]
            encoder_rows.append(self._corrupt_encoder(self._encoder_tokens[index], generator))
            decoder_rows.append(self._corrupt_decoder(clean[:-1], generator))
            targets.append(clean[1:])
            if self._details is not None and not without_detail[place]:
                self._put_before(self._details[index], decoder_rows, targets)
        input_ids, attention_mask = pad(encoder_rows, self._encoder_pad)
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "decoder_input_ids": pad(decoder_rows, self._decoder_pad)[0],
            "targets": pad(targets, IGNORED)[0],
        }
        if self._noise_shape is not None:
            batch["noise"] = example_noise(self._seed, epoch, indices, self._noise_shape)
        if self._labels is not None:
            batch["labels"] = torch.from_numpy(self._labels[list(indices)])
            if self._denoising.code_dropout:
                batch["dropped"] = torch.from_numpy(dropped)
            if self._noise_shape is not None:
                batch["label_noise"] = gumbel_noise(self._seed, epoch, indices, self._classes)
        return batch

    def _dropped(
        self, indices: Sequence[int], epoch: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which codes are dropped, and which details (all of a dropped code), both [N]."""
        rates = self._denoising.code_dropout, self._denoising.detail_dropout
        if not any(rates):
            return np.zeros(len(indices), bool), np.zeros(len(indices), bool)
        draws = [each.random(2) for each in generators(self._seed, epoch, indices, CODE)]
        code, detail = (np.array(draws) < rates).T
        return code, code | detail

    def _put_before(
        self,
        detail: NDArray[np.int32],
        decoder_rows: list[NDArray[np.integer[Any]]],
        targets: list[NDArray[np.integer[Any]]],
    ) -> None:
        """Let the last row begin with start + detail, which is read and not predicted."""
        if not len(detail):
            return
        start = decoder_rows[-1][:1]
        decoder_rows[-1] = np.concatenate((start, detail, decoder_rows[-1]))
        targets[-1] = np.concatenate((np.full(1 + len(detail), IGNORED), targets[-1]))

    def _corrupt_encoder(
        self, row: NDArray[np.int32], generator: np.random.Generator
    ) -> NDArray[np.integer[Any]]:
        first = 0 if self._encoder_tokens.start is None else 1
        last = len(row) - (0 if self._encoder_tokens.end is None else 1)
        text: NDArray[np.integer[Any]] = row[first:last]
        if self._denoising.deletion:
            text = delete(text, self._denoising.deletion, generator)
        if self._encoder_mask is not None and self._denoising.masking:
            text = replace(text, self._denoising.masking, self._encoder_mask, generator)
        return np.concatenate((row[:first], text, row[last:]))

    def _corrupt_decoder(
        self, row: NDArray[np.int32], generator: np.random.Generator
    ) -> NDArray[np.integer[Any]]:
        if self._decoder_unknown is None or not self._denoising.word_dropout:
            return row
        rate, unknown = self._denoising.word_dropout, self._decoder_unknown
        return np.concatenate((row[:1], replace(row[1:], rate, unknown, generator)))
