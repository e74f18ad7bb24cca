"""A corpus larger than memory: its texts window by window, with a sample in the place of all.

Hugging Face `datasets` reads the shards. Their order is shuffled in each epoch, and a window holds
consecutive texts, which are shuffled inside it. The library's own shuffle buffer is not used: its
state leaves the texts in the buffer out, so a run that goes on from it reads other texts. A window
is a function of the place where it starts, so that place is all that has to be kept.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, final

import numpy as np

from isthmus.data.compressed import check_packages, zstd
from isthmus.data.files import Rows, add_line, add_record, suffix_of
from isthmus.data.folders import files_of
from isthmus.data.hub import check_hub_name, hub_splits
from isthmus.data.table import by_name
from isthmus.errors import IsthmusError, reason_of

if TYPE_CHECKING:
    from datasets import IterableDataset

SAMPLE: Final = 120_000
"""Texts, from the starts of shards, that stand for all where all would be needed at once: the
tokenizer is trained on them, and the choice of settings and the start of a model look at them."""
CHARACTERS: Final = 20_000_000
"""Characters that the sample has at most."""
VALIDATION: Final = 10_000
"""Texts that are read of a validation split."""
_SHARDS = 64
"""Shards that a sample is from at least, if there are as many."""
_ROWS = 1_000
_READABLE = (".txt", ".jsonl", ".parquet")


class Place(NamedTuple):
    """Where a window starts."""

    window: int
    """Its number, over all epochs."""
    epoch: int
    shard: int
    """Number of the shard in the order of the epoch."""
    row: int
    texts: int
    """Texts of the first epoch that come before."""


FIRST: Final = Place(0, 0, 0, 0, 0)


class Window(NamedTuple):
    """Texts that are in memory together."""

    start: Place
    texts: list[str]


@final
class TextStream:
    """The texts of shards, in another order in every epoch.

    Args:
        source: What to call all of it.
        shards: Path or name of each shard → its bytes, 0 if unknown.
        dataset: Reads them; its one column holds the texts, or lines of JSON.
        lines: What a text of the column is: itself, or a record in JSON.
        size: Texts of a window; the last one of an epoch has half as many at least, or up to half
            as many more.
        seed: The order of the shards is a function of (seed, epoch).
        without: Texts to leave out, those held out for validation.
    """

    def __init__(
        self,
        source: str,
        shards: Mapping[str, int],
        dataset: IterableDataset,
        *,
        lines: bool = False,
        size: int = SAMPLE,
        seed: int = 0,
        without: frozenset[str] = frozenset(),
    ) -> None:
        self.source, self.shards, self.size = source, dict(shards), size
        self._names = list(shards)
        self._dataset, self._lines = dataset, lines
        self._seed, self._without = seed, without
        self.read = Rows(source)
        """What the reader has skipped and decided so far."""

    def contents(self) -> Iterator[str]:
        """What a fingerprint of the corpus covers beside the sample: names and sizes of shards."""
        for name, size in self.shards.items():
            yield f"{Path(name).name} {size}"

    def leaving_out(self, texts: Sequence[str]) -> TextStream:
        """The same stream without some texts, wherever they are in it."""
        return TextStream(
            self.source,
            self.shards,
            self._dataset,
            lines=self._lines,
            size=self.size,
            seed=self._seed,
            without=frozenset(texts),
        )

    def windows(self, start: Place = FIRST) -> Iterator[Window]:
        """The windows from one on, epoch after epoch without end.

        Every text is in one window of each epoch.

        Raises:
            IsthmusError: A shard cannot be read, or there is no text.
        """
        number, epoch, shard, row, before = start
        most = self.size + self.size // 2
        while True:
            texts, first = self._epoch(epoch, shard, row), number
            held: list[tuple[int, int, str]] = []
            while held := held + list(islice(texts, most - len(held))):
                cut = len(held) if len(held) < most else self.size
                place = Place(number, epoch, held[0][0], held[0][1], before)
                yield Window(place, [text for _, _, text in held[:cut]])
                number += 1
                before += 0 if epoch else cut
                held = held[cut:]
            if number == first:
                raise IsthmusError(f"{self.source} has no text to train on")
            epoch, shard, row = epoch + 1, 0, 0

    def sample(self, count: int) -> list[str]:
        """Texts from the starts of shards, as many from each.

        Args:
            count: Of texts; fewer if they have more than `CHARACTERS`, or there are no more.
        """
        parts, texts = min(len(self.shards), _SHARDS), list[str]()
        characters = 0
        for shard in self._order(0):
            if len(texts) >= count or characters >= CHARACTERS:
                break
            share, own = min(ceil(count / parts), count - len(texts)), 0
            for _, text in islice(self._texts(shard, 0), share):
                texts.append(text)
                own += len(text)
                if own >= CHARACTERS / parts:
                    break
            characters += own
        return texts

    def count(self, progress: Callable[[int], None], seconds: float = inf) -> int:
        """Read all texts once and count them, or those that can be read in some time.

        Args:
            progress: Called with the number of shards just read.
            seconds: When to stop.
        """
        total, until = 0, time.monotonic() + seconds
        for shard in range(len(self.shards)):
            for _, text in self._texts(shard, 0):
                total += text not in self._without
                if total % _ROWS == 0 and time.monotonic() > until:
                    return total
            progress(1)
        return total

    def _order(self, epoch: int) -> list[int]:
        key = np.array([self._seed, epoch], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        order: list[int] = generator.permutation(len(self.shards)).tolist()
        return order

    def _epoch(self, epoch: int, first: int, row: int) -> Iterator[tuple[int, int, str]]:
        """Number of the shard in the order of an epoch, row and text, from a place on."""
        order = self._order(epoch)
        for number in range(first, len(order)):
            for place, text in self._texts(order[number], row if number == first else 0):
                if text not in self._without:
                    yield number, place, text

    def _texts(self, shard: int, row: int) -> Iterator[tuple[int, str]]:
        """Row and text, from a row of a shard on."""
        name = self._names[shard]
        try:
            part = self._dataset.shard(len(self.shards), shard).skip(row).with_format("arrow")
            for table in part.iter(_ROWS):
                rows, found = Rows(name), []
                for record in table.to_pylist():
                    row += 1
                    if row == 1 and isinstance(text := record.get("text"), str):
                        record["text"] = text.removeprefix("\ufeff")  # byte-order mark
                    if self._lines:
                        add_line(record["text"], rows, row)
                    else:
                        add_record(record, rows, row)
                    if rows.texts:
                        found.append((row - 1, rows.texts.pop()))
                self.read.skipped.update(rows.skipped)
                self.read.notes += [note for note in rows.notes if note not in self.read.notes]
                yield from found
        except IsthmusError:
            raise
        except Exception as error:  # of a decompressor, of Arrow, of the hub's client
            raise IsthmusError(
                f"{name}: cannot be read behind row {row:,} ({reason_of(error)}); repair it, "
                "or leave out --data.streaming to see what is wrong with it"
            ) from None


def streams_of(data: str, *, size: int, seed: int) -> dict[str, TextStream]:
    """The streams of a file, a folder or a Hugging Face dataset: of train, and of valid if any.

    Args:
        data: Path or name.
        size: Of a window.
        seed: Of the order of shards.

    Raises:
        IsthmusError: It does not exist, or has another format.
    """
    path = Path(data)
    if path.exists():
        files = dict(files_of(path)) if path.is_dir() else {"train": [path]}
        return {
            split: TextStream(
                str(path / split) if path.is_dir() else data,
                {str(each): each.stat().st_size for each in paths},
                _of_files(paths),
                lines=suffix_of(paths[0].name) == ".jsonl",
                size=size,
                seed=seed,
            )
            for split, paths in files.items()
            if split != "test"
        }
    check_hub_name(data)
    streams = {}
    for split, (source, dataset) in hub_splits(data, streaming=True).items():
        if split == "test":
            continue
        texts = _only_texts(dataset, source)
        shards = {f"{source}#{place}": 0 for place in range(texts.num_shards)}
        streams[split] = TextStream(source, shards, texts, size=size, seed=seed)
    return streams


def _of_files(paths: Sequence[Path]) -> IterableDataset:
    """What reads files of one format, each a shard."""
    import datasets
    from fsspec.compression import register_compression

    first, suffix = paths[0], suffix_of(paths[0].name)
    if suffix not in _READABLE:
        raise IsthmusError(
            f"{first}: data.streaming reads {', '.join(_READABLE)}, with or without .gz or .zst, "
            f"got {suffix}; convert the files, or leave out --data.streaming"
        )
    for path in paths:
        check_packages(path)
    register_compression("zstd", zstd, "zst", force=True)  # its own ends early in silence
    names = [glob.escape(str(path.absolute())) for path in paths]
    kind = "parquet" if suffix == ".parquet" else "text"
    try:
        found = datasets.load_dataset(kind, data_files=names, split="train", streaming=True)
        assert isinstance(found, datasets.IterableDataset)
        return _only_texts(found, str(first)) if kind == "parquet" else found
    except IsthmusError:
        raise
    except Exception as error:  # of Arrow, which reads the first of the files
        raise IsthmusError(f"{first}: cannot be read ({reason_of(error)}); repair it") from None


def _only_texts(dataset: IterableDataset, source: str) -> IterableDataset:
    """Without the columns that nothing reads."""
    names = tuple(dataset.column_names or next(iter(dataset), {}))
    place = by_name(names).text
    if place is None:
        raise IsthmusError(
            f'{source}: no column is named "text", only {", ".join(names)}: rename the column '
            "that holds the text"
        )
    return dataset.select_columns([names[place]])
