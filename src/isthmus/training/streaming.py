"""Batches of a corpus larger than memory: window by window, and from the middle of a run."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from isthmus.data.batches import BucketBatches
from isthmus.data.stream import FIRST, Place, TextStream, Window
from isthmus.models.codec import Codec, Examples, Labels
from isthmus.progress import counting
from isthmus.runs.folders import read_json, write_json
from isthmus.settings import Settings
from isthmus.training.loading import Key, bucket_batches

STREAM: Final = "stream.json"
"""A checkpoint's file of where the stream was."""
_COUNTING: Final = 0.05
"""Largest share of the time that counting the texts may take."""

Batches = Callable[[NDArray[np.int64]], BucketBatches]


@final
class StreamedBatches:
    """A batch sampler of a whole run: keys (window, place in it), one window after the other.

    Each window is a small corpus that is read once: it has batches, noise and corruption as an
    epoch whose number is the window's has, so that all are functions of the window alone. The next
    window is read and tokenized by another thread.

    Args:
        stream: The texts.
        codec: What prepares them.
        batches: Those of examples by their lengths.
        total: Batches of the run.
        clustered: The model has classes that no label is known of.
    """

    def __init__(
        self,
        stream: TextStream,
        codec: Codec,
        batches: Batches,
        total: int,
        clustered: bool,
    ) -> None:
        self._stream, self._batches, self._total = stream, batches, total
        # Its tokenizers must not be set up for two texts at once.
        self._codec, self._clustered = copy.deepcopy(codec), clustered
        self._place, self._first, self.texts = FIRST, 0, 0
        self.examples: Examples
        """Those of the window of the last keys."""

    def begin(self, checkpoint: Path | None) -> None:
        """Go on from the window of a checkpoint, or start with the first."""
        self._place, self._first, self.texts = FIRST, 0, 0
        if checkpoint is not None:
            found = read_json(checkpoint / STREAM)
            self._place = Place(*found["window"])
            self._first, self.texts = found["batches"], found["texts"]

    def save(self, checkpoint: Path) -> None:
        """Write where the window of the last batch starts: it is read again from there."""
        found = {"window": self._place, "batches": self._first, "texts": self.texts}
        write_json(found, checkpoint / STREAM)

    @property
    def epoch(self) -> float:
        """Passes over the corpus that are complete."""
        return float(self._place.epoch)

    def set_epoch(self, epoch: int) -> None:
        """A run is one epoch of the Trainer."""

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[list[Key]]:
        done = self._first
        for _ in range(done):
            yield []  # the Trainer skips the batches that it had before
        for window, examples in self._windows():
            self._place, self._first, self.examples = window.start, done, examples
            self.texts = window.start.texts + (0 if window.start.epoch else len(examples))
            batches = self._batches(examples.lengths)
            batches.set_epoch(window.start.window)
            for places in batches:
                done += 1
                yield [(window.start.window, place) for place in places]
                if done == self._total:
                    return

    def _windows(self) -> Iterator[tuple[Window, Examples]]:
        """Windows with their examples, of which the next is made ready while one is in use."""
        windows = self._stream.windows(self._place)

        def ready() -> tuple[Window, Examples]:
            window = next(windows)
            labels: Labels | None = [None] * len(window.texts) if self._clustered else None
            return window, self._codec.prepare_training(window.texts, labels)

        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(ready)
            while True:
                here = coming.result()
                coming = thread.submit(ready)
                yield here
                del here  # or three windows are in memory


def with_steps(
    settings: Settings,
    stream: TextStream,
    sample: Examples,
    console: Console,
) -> Settings:
    """Settings with the number of steps that ``train.epochs`` means.

    The texts are counted once, by reading them; with ``train.minutes`` no longer than a small
    share of them, in which more texts are counted than can be trained on. The sample tells how
    many batches they make.

    Args:
        settings: of the run.
        stream: of its texts.
        sample: of them, prepared.
        console: for the progress, and what was found.
    """
    train = settings.train
    seconds = _COUNTING * 60 * train.minutes or math.inf
    with counting(console, "counting the texts of shards", len(stream.shards)) as progress:
        texts = stream.count(progress, seconds)
    per_batch = len(sample) / len(bucket_batches(sample.lengths, train))
    passes = train.epochs * texts / per_batch
    steps = max(1, math.ceil(passes / train.accumulation))
    console.print(
        f"stream: {texts:,} texts, in about {texts / per_batch:,.0f} batches; "
        f"train.epochs {train.epochs:g} is {steps:,} steps"
    )
    return dataclasses.replace(settings, train=dataclasses.replace(train, steps=steps))
