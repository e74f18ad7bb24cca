"""DATA: a file, a folder, `scenes` or a Hugging Face dataset, read to texts and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.data.files import Rows, add_record, read_file
from isthmus.data.folders import SPLIT_NAMES, files_of, left_out
from isthmus.data.hub import SCENES, check_hub_name, hub_splits
from isthmus.data.kind import Corpus, Floor, Kind, Splits, choose, counts, framed, make_splits
from isthmus.data.stream import SAMPLE, VALIDATION, TextStream, streams_of
from isthmus.data.table import by_name
from isthmus.data.vectors import Embedded, Vectors, attach, read_vectors
from isthmus.errors import IsthmusError
from isthmus.settings import Settings, StreamSettings

if TYPE_CHECKING:
    from datasets import Dataset

SCENES_SIZES = {"train": 300_000, "valid": 2_000, "test": 10_000}
SCENES_LABEL = "style"


@final
class TextKind(Kind):
    """Texts."""

    name = title = field = "text"
    unit = "sentence"
    has_text = True
    label_source = "a .tsv with label TAB text"

    def read(self, data: str, config: Mapping[str, Any], limit: int | None = None) -> TextCorpus:
        """Read texts, whatever the configuration of the model."""
        return read(data, limit=limit)

    def read_splits(self, data: str, settings: Settings) -> Splits[TextCorpus]:
        """As the function of that name."""
        if isinstance(settings.data, StreamSettings) and settings.data.streaming:
            return stream_splits(data, settings)
        limit, given = settings.data.limit or None, getattr(settings.data, "embeddings", "")
        return read_splits(data, seed=settings.train.seed, limit=limit, embeddings=given)

    def example(self, text: str | None = None, picture: NDArray[np.uint8] | None = None) -> str:
        """The text itself."""
        assert text is not None
        return text

    def named(self, word: str, config: Mapping[str, Any]) -> str:
        """The word is the text."""
        return word


TEXT = TextKind()


@final
@dataclass(frozen=True)
class TextCorpus(Corpus):
    """Texts in the order of their source."""

    kind = TEXT
    each = ("examples", "labels", "factors", "ids")

    examples: list[str]
    labels: list[str] | None
    source: str
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    factors: list[dict[str, Any]] | None = None
    """The known causes of each text; `scenes` alone has them."""
    lines: list[str] = field(default_factory=list)
    floor: Floor | None = None
    ids: list[str] | None = None
    """What identifies each text, where the source says it."""
    stream: TextStream | None = None
    """All texts, where these are a sample of them."""
    names: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", self.examples)  # a text is its own name

    @property
    def texts(self) -> list[str]:
        """The examples."""
        return self.examples

    @property
    def word_counts(self) -> list[int]:
        """Words of each text."""
        return [len(text.split()) for text in self.texts]

    def contents(self) -> Iterator[bytes]:
        """Texts, then labels, each list behind its length; then the shards, and the vectors."""
        for strings in (self.texts, self.labels or []):
            yield f"{len(strings)}\n".encode()
            yield from framed(strings)
        if self.stream is not None:
            yield from framed(self.stream.contents())
        yield from (text.vector.tobytes() for text in self.texts if isinstance(text, Embedded))


Loader = Callable[[int | None], TextCorpus]


def read(
    path_or_name: str | Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    embeddings: str = "",
) -> TextCorpus:
    """Read one corpus.

    Args:
        path_or_name: A file in a format of `files.READERS`, with or without `.gz` or `.zst`, a
            folder with train, valid and test files, `scenes`, or a Hugging Face dataset name. In
            a folder each split may lie in numbered files (`train-00001-of-00298.jsonl`,
            `train_1.txt`) or in a folder of its name; these are one corpus in numeric order.
        split: "train", "valid" or "test" where the source has several; None takes the one to
            judge by: test, else valid, else train. A file is one split and ignores it.
        limit: Take the first N texts only; `scenes` has as many as one asks for.
        embeddings: The file of a vector for each text, see `vectors.read_vectors`.

    Returns:
        The corpus, with at least one text.

    Raises:
        IsthmusError: There is nothing to read, or it is not what its name says.
    """
    path_or_name = str(path_or_name)
    if split is not None and split not in SPLIT_NAMES:
        raise IsthmusError(f'split must be "train", "valid" or "test", got "{split}"')
    _check_limit(limit)
    if Path(path_or_name).is_file():
        split = None
    available = _available(path_or_name, embeddings)
    corpus = available[choose(available, path_or_name, split)](limit)
    return replace(corpus, lines=corpus.lines + _left_out(path_or_name))


def read_splits(
    data: str,
    *,
    valid_fraction: float = 0.05,
    valid_limit: int = 2_000,
    seed: int = 0,
    limit: int | None = None,
    embeddings: str = "",
) -> Splits[TextCorpus]:
    """Read what training needs; hold a part out for validation where the source has none.

    Args:
        data: As for `read`.
        valid_fraction: As for `make_splits`.
        valid_limit: As for `make_splits`.
        seed: As for `make_splits`.
        limit: Train on the first N texts only.
        embeddings: As for `read`.

    Raises:
        IsthmusError: As `read`, or there are fewer than two sentences.
    """
    _check_limit(limit)
    available = _available(data, embeddings)
    train = available[choose(available, data, "train")](limit)
    return make_splits(
        replace(train, lines=train.lines + _left_out(data)),
        lambda name: available[name](None) if name in available else None,
        valid_fraction=valid_fraction,
        valid_limit=valid_limit,
        seed=seed,
    )


def stream_splits(data: str, settings: Settings) -> Splits[TextCorpus]:
    """What training needs of a corpus that is not read as a whole.

    The training corpus is a sample, and its `stream` has all. Without a validation split, a part
    of the sample is held out as `make_splits` does it, and the stream leaves those texts out.

    Args:
        data: A file, a folder or a Hugging Face dataset name.
        settings: With ``data.streaming``.

    Raises:
        IsthmusError: A setting or a format that needs all texts at once.
    """
    _check_streaming(data, settings)
    own = settings.data
    assert isinstance(own, StreamSettings)
    found = streams_of(data, size=own.window, seed=settings.train.seed)
    stream = found[choose(found, data, "train")]
    shards = len(stream.shards)
    sample = _sample(stream, SAMPLE)
    note = f"a sample of a stream from {shards:,} shard{'' if shards == 1 else 's'}"
    splits = make_splits(
        replace(sample, notes=[*sample.notes, note], lines=_left_out(data)),
        lambda name: _sample(found[name], VALIDATION) if name in found else None,
        seed=settings.train.seed,
    )
    if "valid" not in found:
        stream = stream.leaving_out(splits.valid.texts)
    return replace(splits, train=replace(splits.train, stream=stream))


def _check_streaming(data: str, settings: Settings) -> None:
    """Refuse what needs all texts at once."""
    own = settings.data
    refused = {
        f'DATA "{data}", which is made in memory': data == SCENES,
        f"--data.limit {own.limit}": own.limit,
        "--model.labels given": settings.model.labels == "given",
        "--embeddings": getattr(own, "embeddings", ""),
    }
    for what, is_given in refused.items():
        if is_given:
            raise IsthmusError(
                f"data.streaming: cannot be combined with {what}; leave one of them out"
            )


def _sample(stream: TextStream, count: int) -> TextCorpus:
    """The first texts of the shards of a stream."""
    texts, read = stream.sample(count), stream.read
    if not texts:
        raise IsthmusError(f"{read.source} has no text, only {counts(read.skipped) or '0 rows'}")
    return TextCorpus(texts, None, read.source, dict(read.skipped), read.notes)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise IsthmusError(f"limit must be at least 1, got {limit}")


def _available(data: str, embeddings: str = "") -> dict[str, Loader]:
    """Return split → a function of the limit that reads it; a single file counts as train."""
    if embeddings:
        plain = _available(data).items()
        return {split: partial(_embedded, load, embeddings, split) for split, load in plain}
    path = Path(data)
    if data == SCENES:
        return {split: partial(_scenes, split) for split in SPLIT_NAMES}
    if path.is_dir():
        return {split: partial(_files, path / split, files) for split, files in files_of(path)}
    if path.is_file():
        return {"train": partial(_file, path)}
    check_hub_name(data)
    return {
        split: partial(_dataset, source, loaded)
        for split, (source, loaded) in hub_splits(data).items()
    }


def _embedded(load: Loader, embeddings: str, split: str, limit: int | None) -> TextCorpus:
    """Read texts, and give each its vector."""
    return with_vectors(load(None), read_vectors(embeddings, split)).limited(limit)


def with_vectors(corpus: TextCorpus, vectors: Vectors) -> TextCorpus:
    """The texts of a corpus, each with its vector; raises as `vectors.attach`."""
    skipped = sum(corpus.skipped.values())
    texts = attach(corpus.texts, corpus.ids, vectors, corpus.source, skipped)
    by = " by id" if corpus.ids is not None and vectors.ids is not None else ""
    note = f"with vectors of {vectors.rows.shape[1]:,} numbers{by}"
    return replace(corpus, examples=texts, notes=[*corpus.notes, note])


def _left_out(data: str) -> list[str]:
    """A line on what is not read in a folder."""
    folder = Path(data)
    if data == SCENES or not folder.is_dir():
        return []
    return left_out(folder, {path for _, files in files_of(folder) for path in files})


def _corpus(rows: Rows) -> TextCorpus:
    if not rows.texts:
        raise IsthmusError(f"{rows.source} has no text, only {counts(rows.skipped) or '0 rows'}")
    return TextCorpus(
        rows.texts,
        rows.labels(),
        rows.source,
        dict(rows.skipped),
        rows.notes,
        ids=rows.ids(),
    )


def _file(path: Path, limit: int | None) -> TextCorpus:
    return _corpus(read_file(path)).limited(limit)


def _files(source: Path, paths: list[Path], limit: int | None) -> TextCorpus:
    """Read files one behind the other; with a limit no more of them than it takes."""
    if len(paths) == 1:
        return _file(paths[0], limit)
    parts: list[TextCorpus] = []
    for path in paths:
        parts.append(_corpus(read_file(path)))
        if limit is not None and sum(map(len, parts)) >= limit:
            break
    labels: list[str] = []
    for part in parts:
        if (part.labels is None) != (parts[0].labels is None):
            raise IsthmusError(
                f"{source}: only one of {parts[0].source} and {part.source} has labels: label "
                "all files, or none"
            )
        labels += part.labels or []
    skipped: Counter[str] = Counter()
    for part in parts:
        skipped.update(part.skipped)
    notes = [f"{len(paths):,} files"]
    if len(parts) < len(paths):
        notes = [f"{len(parts):,} of {len(paths):,} files (limit)"]
    notes += dict.fromkeys(note for part in parts for note in part.notes)
    texts = [text for part in parts for text in part.texts]
    ids = None
    if all(part.ids is not None for part in parts):
        ids = [own for part in parts for own in part.ids or []]
    whole = TextCorpus(texts, labels or None, str(source), dict(skipped), notes, ids=ids)
    return whole.limited(limit)


def _scenes(split: str, limit: int | None) -> TextCorpus:
    from isthmus.data import scenes

    sentences = scenes.generate(split, limit or SCENES_SIZES[split])
    factors = [sentence.factors for sentence in sentences]
    labels = [str(each[SCENES_LABEL]) for each in factors]
    texts = [sentence.text for sentence in sentences]
    notes = [f"label = {SCENES_LABEL}"]
    source = f"{SCENES}/{split}"
    return TextCorpus(texts, labels, source, notes=notes, factors=factors, floor=scenes_floor())


def scenes_floor() -> Floor:
    """What no model can beat on sentences of `scenes`."""
    from isthmus.data import scenes

    exact = scenes.entropy()
    return Floor(SCENES, exact.nats_per_sentence, exact.standard_deviation)


def _dataset(source: str, dataset: Dataset, limit: int | None) -> TextCorpus:
    from datasets import ClassLabel

    names = tuple(dataset.column_names)
    place = by_name(names)
    if place.text is None:
        raise IsthmusError(
            f'{source}: no column is named "text", only {", ".join(names)}: save the texts to a '
            "file and give that"
        )
    wanted = [names[one] for one in place if one is not None]
    label = "" if place.label is None else names[place.label]
    feature = dataset.features.get(label)
    rows = Rows(source)
    for number, record in enumerate(dataset.select_columns(wanted), start=1):
        if isinstance(feature, ClassLabel) and record[label] is not None:
            # -1 is how the hub writes "unlabelled"
            record[label] = feature.names[record[label]] if record[label] >= 0 else None
        add_record(record, rows, number)
    return _corpus(rows).limited(limit)
