"""DATA: a file, a folder, `scenes` or a Hugging Face dataset, read to texts and labels."""

import difflib
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from isthmus.data.files import Rows, add_record, read_file, suffix_of
from isthmus.data.folders import SPLIT_NAMES, files_of
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from datasets import Dataset

SCENES = "scenes"
SCENES_SIZES = {"train": 300_000, "valid": 2_000, "test": 10_000}
SCENES_LABEL = "style"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")

Loader = Callable[[int | None], "Corpus"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """Texts in the order of their source, with what was skipped on the way and why."""

    kind: ClassVar[str] = "text"
    unit: ClassVar[str] = "sentence"

    texts: list[str]
    labels: list[str] | None
    source: str
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason → how many lines or rows."""
    notes: list[str] = field(default_factory=list)
    """Decisions of the reader that its user should know of."""
    factors: list[dict[str, Any]] | None = None
    """The known causes of each text; `scenes` alone has them."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def examples(self) -> list[str]:
        """What a model is given."""
        return self.texts

    @property
    def names(self) -> list[str]:
        """What to call each example: a text is its own name."""
        return self.texts

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over texts and labels, in hexadecimal digits."""
        digest = hashlib.sha256()
        for strings in (self.texts, self.labels or []):
            digest.update(f"{len(strings)}\n".encode())
            for string in strings:
                content = string.encode()
                digest.update(b"%d\n" % len(content) + content)
        return digest.hexdigest()

    @cached_property
    def warnings(self) -> list[str]:
        """What is readable but hardly meant, one line each."""
        if len(self.texts) > 1 and all(text == self.texts[0] for text in self.texts):
            return [f"{self.source}: all {len(self):,} sentences are equal"]
        return []

    def report(self) -> str:
        """Return one line: source, number of sentences, what was skipped, what was decided."""
        parts = [f"{len(self):,} sentence{'s' if len(self) > 1 else ''}"]
        if self.labels is not None:
            parts[0] += f" with {len(set(self.labels)):,} labels"
        if self.skipped:
            parts.append("skipped " + _counts(self.skipped))
        return f"{self.source}: " + "; ".join(parts + self.notes)


@dataclass(frozen=True)
class Splits:
    """What training needs: texts to learn from, to choose by, and perhaps to judge by."""

    train: Corpus
    valid: Corpus
    test: Corpus | None
    repeated: dict[str, int]
    """For valid and test: how many of their texts also stand in train, word for word."""

    def report(self) -> str:
        """Return the report of each part, and a line for texts that parts share."""
        return report_of(self)


def report_of(splits: Any) -> str:
    """The report of each part of `Splits`, of texts or of pictures, and what they share."""
    parts = [part for part in (splits.train, splits.valid, splits.test) if part is not None]
    lines = [part.report() for part in parts]
    lines += [warning for part in parts for warning in part.warnings]
    lines += [
        f"{splits.train.kind}s of {name} that also stand in train: {count:,} (kept)"
        for name, count in splits.repeated.items()
        if count
    ]
    return "\n".join(lines)


def read(path_or_name: str, *, split: str | None = None, limit: int | None = None) -> Corpus:
    """Read one corpus.

    Args:
        path_or_name: A file in a format of `files.READERS`, with or without `.gz`, a
            folder with train, valid and test files, `scenes`, or a Hugging Face dataset name. In
            a folder each split may lie in numbered files (`train-00001-of-00298.jsonl`,
            `train_1.txt`) or in a folder of its name; these are one corpus in numeric order.
        split: "train", "valid" or "test" where the source has several; None takes the one to
            judge by: test, else valid, else train. A file is one split and ignores it.
        limit: Take the first so many texts only; of `scenes` there are as many as one asks for.

    Returns:
        The corpus, with at least one text.

    Raises:
        IsthmusError: There is nothing to read, or it is not what its name says.
    """
    if split is not None and split not in SPLIT_NAMES:
        raise IsthmusError(f'split must be "train", "valid" or "test", got "{split}"')
    _check_limit(limit)
    if Path(path_or_name).is_file():
        split = None
    load = _choose(_available(path_or_name), split, path_or_name)
    return load(limit)


def read_splits(
    data: str,
    *,
    valid_fraction: float = 0.05,
    valid_limit: int = 2_000,
    seed: int = 0,
    limit: int | None = None,
) -> Splits:
    """Read what training needs; hold a part out for validation where the source has none.

    Args:
        data: As for `read`.
        valid_fraction: Share of the training texts to hold out, at least one text.
        valid_limit: Hold out no more than this.
        seed: Which texts are held out is a function of the seed and their places.
        limit: Train on the first so many texts only.

    Returns:
        The parts. Texts that stand in two of them are counted, and kept.

    Raises:
        IsthmusError: As `read`, or there are fewer than two sentences.
    """
    if not 0 < valid_fraction < 1:
        raise IsthmusError(f"valid_fraction must lie between 0 and 1, got {valid_fraction}")
    _check_limit(limit)
    available = _available(data)
    train = _choose(available, "train", data)(limit)
    if len(train) < 2:
        raise IsthmusError(f"{train.source} has one sentence only: training needs at least 2")
    test = available["test"](None) if "test" in available else None
    if "valid" in available:
        valid = available["valid"](None)
    else:
        train, valid = _hold_out(train, valid_fraction, valid_limit, seed)
    tested = None if test is None else test.texts
    return Splits(train, valid, test, repeated(train.texts, valid=valid.texts, test=tested))


def repeated(train: Iterable[Hashable], **parts: Iterable[Hashable] | None) -> dict[str, int]:
    """How many examples of each part also stand in train, by what tells them apart."""
    known = set(train)
    return {
        name: sum(key in known for key in keys) for name, keys in parts.items() if keys is not None
    }


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise IsthmusError(f"limit must be at least 1, got {limit}")


def _available(data: str) -> dict[str, Loader]:
    """Return split → a function of the limit that reads it; a single file counts as train."""
    path = Path(data)
    if data == SCENES:
        return {split: partial(_scenes, split) for split in SPLIT_NAMES}
    if path.is_dir():
        return {split: partial(_files, path / split, files) for split, files in files_of(path)}
    if path.is_file():
        return {"train": partial(_file, path)}
    if suffix_of(data) or path.suffix == ".gz" or not _HUB_NAME.fullmatch(data):
        raise IsthmusError(f"{data} does not exist{_near(path)}")
    return _hub(data)


def _hold_out(corpus: Corpus, fraction: float, most: int, seed: int) -> tuple[Corpus, Corpus]:
    is_held = held_out(corpus.texts, fraction, most, seed)
    name = f"{corpus.source} (held out, seed {seed})"
    valid = _subset(corpus, np.flatnonzero(is_held), source=name, skipped={}, notes=[])
    return _subset(corpus, np.flatnonzero(~is_held)), valid


def held_out(
    keys: Sequence[Hashable], fraction: float, most: int, seed: int
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Split by a random order of the distinct examples, so that all copies of one go together.

    Args:
        keys: What tells the N examples apart.
        fraction: Share to hold out, at least one example.
        most: Hold out no more than this.
        seed: Of the order.

    Returns:
        Which are held out, [N].
    """
    size = min(max(1, round(fraction * len(keys))), most, len(keys) - 1)
    copies: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        copies.setdefault(key, []).append(index)
    groups = list(copies.values())
    # Philox, because its draws are the same on every machine.
    generator = np.random.Generator(np.random.Philox(key=seed % 2**64))
    order = generator.permutation(len(groups))
    held: list[int] = []
    for group in order:
        if len(held) + len(groups[group]) <= size:
            held += groups[group]
        if len(held) == size:
            break
    # Where every example has more copies than may be held out, a copy has to stay in train.
    held = held or [groups[order[0]][0]]
    is_held = np.zeros(len(keys), dtype=bool)
    is_held[held] = True
    return is_held


def _subset(corpus: Corpus, places: np.ndarray[Any, Any], **changes: Any) -> Corpus:
    taken = places.tolist()
    return replace(
        corpus,
        texts=[corpus.texts[place] for place in taken],
        labels=corpus.labels and [corpus.labels[place] for place in taken],
        factors=corpus.factors and [corpus.factors[place] for place in taken],
        **changes,
    )


def _limited(corpus: Corpus, limit: int | None) -> Corpus:
    if limit is None or limit >= len(corpus):
        return corpus
    note = f"the first of {len(corpus):,} (limit)"
    return _subset(corpus, np.arange(limit), notes=[*corpus.notes, note])


def _corpus(rows: Rows) -> Corpus:
    if not rows.texts:
        raise IsthmusError(f"{rows.source} has no text, only {_counts(rows.skipped) or '0 rows'}")
    return Corpus(rows.texts, rows.labels(), rows.source, dict(rows.skipped), rows.notes)


def _counts(reasons: dict[str, int]) -> str:
    return ", ".join(
        f"{number:,} {why.removesuffix('s') if number == 1 else why}"
        for why, number in reasons.items()
    )


def _file(path: Path, limit: int | None) -> Corpus:
    return _limited(_corpus(read_file(path)), limit)


def _files(source: Path, paths: list[Path], limit: int | None) -> Corpus:
    """Read files one behind the other; with a limit no more of them than it takes."""
    if len(paths) == 1:
        return _file(paths[0], limit)
    parts: list[Corpus] = []
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
    return _limited(Corpus(texts, labels or None, str(source), dict(skipped), notes), limit)


def _choose(available: dict[str, Loader], split: str | None, source: str) -> Loader:
    """Return the split asked for; where none is, test, else valid, else train."""
    if split is None:
        split = next(name for name in ("test", "valid", "train") if name in available)
    if split not in available:
        raise IsthmusError(f"{source} has no {split} split, only {', '.join(available)}")
    return available[split]


def _near(path: Path) -> str:
    """Return the end of a sentence that names files like the missing one."""
    if not path.parent.is_dir():
        return f", nor does the folder {path.parent}"
    there = [other.name for other in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, there, n=3)
    return f"; near it in {path.parent}: {', '.join(near)}" if near else ""


def _scenes(split: str, limit: int | None) -> Corpus:
    from isthmus.data import scenes

    sentences = scenes.generate(split, limit or SCENES_SIZES[split])
    factors = [sentence.factors for sentence in sentences]
    labels = [str(each[SCENES_LABEL]) for each in factors]
    texts = [sentence.text for sentence in sentences]
    notes = [f"label = {SCENES_LABEL}"]
    return Corpus(texts, labels, f"{SCENES}/{split}", notes=notes, factors=factors)


def _hub(name: str) -> dict[str, Loader]:
    """Ask the Hugging Face hub for a dataset, aloud, and answer in one line if it has none."""
    import datasets

    _log.warning("%s is no file or folder here: asking the Hugging Face hub for it", name)
    try:
        loaded = datasets.load_dataset(name)
    except Exception as error:  # the hub's client raises dozens of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise IsthmusError(
            f'"{name}" is no file or folder{_near(Path(name))}, and the Hugging Face hub did not '
            f'give it ({reason}); the built-in corpus is "{SCENES}"'
        ) from None
    found: dict[str, Loader] = {
        split: partial(_dataset, f"{name}/{given}", loaded[given])
        for split, names in SPLIT_NAMES.items()
        for given in names
        if given in loaded
    }
    if not found:
        raise IsthmusError(f"{name} has no train, valid or test split, but {', '.join(loaded)}")
    return found


def _dataset(source: str, dataset: "Dataset", limit: int | None) -> Corpus:
    from datasets import ClassLabel

    wanted = [column for column in ("text", "label") if column in dataset.column_names]
    if "text" not in wanted:
        raise IsthmusError(
            f'{source}: no column is named "text", only {", ".join(dataset.column_names)}: save '
            "the texts to a file and give that"
        )
    feature = dataset.features.get("label")
    rows = Rows(source)
    for number, record in enumerate(dataset.select_columns(wanted), start=1):
        if isinstance(feature, ClassLabel) and record["label"] is not None:
            # -1 is how the hub writes "unlabelled"
            known = record["label"] >= 0
            record["label"] = feature.names[record["label"]] if known else None
        add_record(record, rows, number)
    return _limited(_corpus(rows), limit)
