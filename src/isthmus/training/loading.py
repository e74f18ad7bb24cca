"""Batches of training: which examples an epoch has, in what order, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from isthmus.data.batches import BucketBatches
from isthmus.models.codec import Examples
from isthmus.settings import TrainSettings

Key = tuple[int, int]
"""Epoch and place: with the seed, all that the tensors of an example depend on."""


def epoch_places(examples: Examples, balanced: bool, seed: int) -> NDArray[np.int64]:
    """The example at each place of an epoch: each once, or as often as balance needs.

    Balanced, examples of a label are repeated, chosen by the seed, until every label has as many
    as the commonest; those without a label come once. Repetitions within an epoch have the same
    noise.
    """
    labels = getattr(examples, "labels", None)
    if not balanced or labels is None:
        return np.arange(len(examples))
    generator = np.random.Generator(np.random.Philox(key=seed))
    places = generator.permutation(len(examples))
    groups = [places[labels[places] == label] for label in np.unique(labels[labels >= 0])]
    largest = max(map(len, groups))
    even = [np.resize(group, largest) for group in groups]
    return np.concatenate([*even, places[labels[places] < 0]])


def bucket_batches(
    lengths: NDArray[np.int64], train: TrainSettings, rank: int = 0, world_size: int = 1
) -> BucketBatches:
    """Batches of examples of similar length, of the size that settings say."""
    return BucketBatches(
        lengths,
        tokens_per_batch=None if train.sentences_per_batch else train.tokens_per_batch,
        sentences_per_batch=train.sentences_per_batch or None,
        seed=train.seed,
        rank=rank,
        world_size=world_size,
    )


@final
class EpochKeys:
    """The batches of an epoch as keys."""

    def __init__(self, batches: BucketBatches) -> None:
        self.batch_sampler = batches
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order, the noise and the corruption of an epoch."""
        self.epoch = epoch
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[Key]]:
        for indices in self.batch_sampler:
            yield [(self.epoch, index) for index in indices]


@final
class KeyDataset(Dataset[Key]):
    """A data set whose items are their keys; the collator looks the examples up."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Key) -> Key:
        return key


@final
class EpochLoader(DataLoader[Any]):
    """A loader that passes the epoch on to its keys."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of an epoch."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
