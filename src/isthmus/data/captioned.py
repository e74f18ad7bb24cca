"""Pictures with captions: `scenes`, an .npz file, a folder of pictures with a list of captions.

An example is a picture with one caption. A picture with several captions is several examples, one
with none is an example without a caption, and a caption without a picture is one too. Any of them
may have a label: a picture that of its sub-folder, a caption one in its line.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.data import pictures
from isthmus.data.corpus import Corpus, held_out, repeated, report_of
from isthmus.data.corpus import read as read_texts
from isthmus.data.files import lines_of, read_text, suffix_of
from isthmus.data.pictures import CAPTIONS_FILE, Fit, Picture, PictureCorpus, Shape
from isthmus.errors import IsthmusError

CAPTION_KEYS = ("caption", "captions", "name")
"""Arrays beside ``images`` with a caption for each picture, [N], or several, [N K]; "" is none."""
_LINE = "FILE TAB CAPTION, or FILE TAB CAPTION TAB LABEL"
KEYWORDS_KEY = "keywords"
KEYWORDS = 3
"""Keywords, which stand with commas between them, that make a caption."""


@dataclass(frozen=True, eq=False)
class Example:
    """What is known of one thing; a part that is not known is None.

    Arguments:
        picture: levels 0 … 255, uint8 [C H W].
        caption: a text.
        label: the name of a class.
    """

    picture: Picture | None = None
    caption: str | None = None
    label: str | None = None


class Caption(NamedTuple):
    """A caption in a list, with the label that its line gives."""

    text: str
    label: str | None = None


@dataclass(frozen=True)
class CaptionedCorpus:
    """Examples in the order of their source, with what was skipped on the way and why."""

    kind: ClassVar[str] = "example"
    unit: ClassVar[str] = "example"

    examples: list[Example]
    names: list[str]
    """What to call each: its picture's name, or the caption where there is no picture."""
    source: str
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def told(self) -> list[str | None]:
        """The label of each example, None where it is missing."""
        return [example.label for example in self.examples]

    @cached_property
    def labels(self) -> list[str] | None:
        """The same for whatever needs one of each; None where one is missing."""
        known = [label for label in self.told if label is not None]
        return known if len(known) == len(self) else None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over pictures, captions and labels, in hexadecimal digits."""
        digest = hashlib.sha256(b"captioned\n")
        for example in self.examples:
            for content in _contents(example):
                digest.update(b"%d\n" % len(content) + content)
        return digest.hexdigest()

    def report(self) -> str:
        """Return one line: source, numbers of both kinds, what was skipped and decided."""
        shown = [example.picture for example in self.examples if example.picture is not None]
        captions = sum(example.caption is not None for example in self.examples)
        parts = [f"{len(self):,} examples, {len(shown):,} with a picture"]
        if shown:
            channels, height, width = shown[0].shape
            parts[0] += f" of {pictures.told((channels, height, width))}"
        parts[0] += f", {captions:,} with a caption"
        if known := [label for label in self.told if label is not None]:
            parts[0] += f", {len(known):,} with one of {len(set(known)):,} labels"
        if self.skipped:
            counts = ", ".join(f"{number:,} {why}" for why, number in self.skipped.items())
            parts.append(f"skipped {counts}")
        return f"{self.source}: " + "; ".join(parts + self.notes)

    def keys(self) -> list[bytes]:
        """What tells things apart: the picture, or the caption where there is none."""
        return [next(filter(None, _contents(example))) for example in self.examples]

    def part(self, chosen: NDArray[Any], **changes: Any) -> "CaptionedCorpus":
        """The examples at some places."""
        places = np.arange(len(self))[chosen].tolist()
        return replace(
            self,
            examples=[self.examples[place] for place in places],
            names=[self.names[place] for place in places],
            **changes,
        )


@dataclass(frozen=True)
class CaptionedSplits:
    """What training needs: examples to learn from, to choose by, and perhaps to judge by."""

    train: CaptionedCorpus
    valid: CaptionedCorpus
    test: CaptionedCorpus | None
    repeated: dict[str, int]
    """For valid and test: how many of their pictures also stand in train, value for value."""

    def report(self) -> str:
        """Return the report of each part, and a line for pictures that parts share."""
        return report_of(self)


def read(
    data: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    shape: Shape | None = None,
    fit: Fit = "skip",
) -> CaptionedCorpus:
    """Read one corpus of pictures with captions.

    Args:
        data: `scenes`, an .npz file with captions under CAPTION_KEYS or keywords, or a folder of
            pictures with a CAPTIONS_FILE in it (or in its train, valid and test folders). Pictures
            alone are taken too, and so is a file of texts. Labels are those of a caption's line,
            else of `pictures.read`; what lies beside sub-folders has none, nor has an .npz file's
            "".
        split: As for `pictures.read`.
        limit: The first so many examples only.
        shape: As for `pictures.read`.
        fit: As for `pictures.read`.

    Raises:
        IsthmusError: As `pictures.read` and `corpus.read`.
    """
    if suffix_of(data):
        texts = read_texts(data, limit=limit)
        return of_texts(texts)
    chosen = split or pictures.default_split(data)
    corpus = pictures.read(data, split=chosen, limit=limit, shape=shape, fit=fit)
    return _captioned(corpus, _captions(data, chosen, len(corpus)), limit)


def read_splits(
    data: str, *, seed: int = 0, limit: int | None = None, fit: Fit = "skip"
) -> CaptionedSplits:
    """Read what training needs; hold a part out for validation where the source has none.

    All captions of a picture go to one side.

    Args:
        data: As for `read`.
        seed: Which are held out is a function of the seed and their places.
        limit: Train on the first so many examples only.
        fit: As for `pictures.read`.

    Raises:
        IsthmusError: As `read`, or there are fewer than two examples.
    """
    there = pictures.splits_of(data)
    if "train" not in there:
        raise IsthmusError(f"{data} has no train split, only {', '.join(there)}")
    train = read(data, split="train", limit=limit, fit=fit)
    if len(train) < 2:
        raise IsthmusError(f"{train.source} has one example only: training needs at least 2")
    shape = next((e.picture.shape for e in train.examples if e.picture is not None), None)
    rest: dict[str, CaptionedCorpus | None] = {
        split: read(data, split=split, shape=shape, fit=fit) if split in there else None
        for split in ("valid", "test")
    }
    valid = rest["valid"]
    if valid is None:
        is_held = held_out(train.keys(), 0.05, 2_000, seed)
        name = f"{train.source} (held out, seed {seed})"
        valid = train.part(is_held, source=name, skipped={}, notes=[], warnings=[])
        train = train.part(~is_held)
    keys = {
        name: None if part is None else part.keys()
        for name, part in (("valid", valid), ("test", rest["test"]))
    }
    return CaptionedSplits(train, valid, rest["test"], repeated(train.keys(), **keys))


def of_texts(texts: Corpus) -> CaptionedCorpus:
    """Captions without pictures."""
    labels: Sequence[str | None] = texts.labels or [None] * len(texts)
    each = zip(texts.texts, labels, strict=True)
    return CaptionedCorpus(
        [Example(caption=text, label=label) for text, label in each],
        texts.texts,
        texts.source,
        texts.skipped,
        texts.notes,
        texts.warnings,
    )


def _contents(example: Example) -> tuple[bytes, bytes, bytes]:
    picture = b"" if example.picture is None else example.picture.tobytes()
    return picture, (example.caption or "").encode(), (example.label or "").encode()


def _captioned(
    corpus: PictureCorpus, captions: Mapping[str, Sequence[Caption]], limit: int | None
) -> CaptionedCorpus:
    """Pictures with the captions of their names; those of no name stand alone.

    The label of a caption's line goes before that of the picture.
    """
    examples: list[Example] = []
    names: list[str] = []
    labels = corpus.labels or [""] * len(corpus)
    for name, picture, label in zip(corpus.names, corpus.pictures, labels, strict=True):
        beside = label == "." == Path(name).parent.as_posix()  # in the folder of the sub-folders
        known = None if beside or not label else label
        several: Sequence[Caption | None] = captions.get(name) or [None]
        for caption in several:
            text, own = caption or (None, None)
            examples.append(Example(picture, text, own or known))
            names.append(name)
    alone = captions.get("", [])
    examples += [Example(None, one.text, one.label) for one in alone]
    names += [one.text for one in alone]
    notes = list(corpus.notes)
    if not captions:
        notes.append(
            f"no captions (expected a {CAPTIONS_FILE} with {_LINE} beside the pictures, "
            f"or an .npz with {', '.join(CAPTION_KEYS)} or {KEYWORDS_KEY})"
        )
    skipped = dict(corpus.skipped)
    there = {"", *corpus.names}
    missing = sum(len(own) for name, own in captions.items() if name not in there)
    if missing and limit is None:  # a limit leaves out pictures that are there
        skipped["captions of pictures that are not there"] = missing
    return CaptionedCorpus(
        examples[:limit], names[:limit], corpus.source, skipped, notes, corpus.warnings
    )


def _captions(data: str, split: str, count: int) -> dict[str, list[Caption]]:
    """Captions by the names that the pictures of a split have."""
    path = Path(data)
    if data == "scenes":
        from isthmus.data import scenes

        sentences = scenes.generate(split, count)
        return {f"scenes/{split}#{n}": [Caption(each.text)] for n, each in enumerate(sentences)}
    if path.is_dir():
        return read_captions(pictures.folders_of(path)[split] / CAPTIONS_FILE)
    if path.suffix == ".npz":
        found = _stored(path)
        return {f"{path}/{split}#{n}": list(map(Caption, own)) for n, own in enumerate(found)}
    return {}


def read_captions(path: Path) -> dict[str, list[Caption]]:
    """The captions of each file in a list of _LINE; none where there is no list.

    FILE is empty for a caption alone.

    Raises:
        IsthmusError: A line of another form.
    """
    if not path.is_file():
        return {}
    captions: dict[str, list[Caption]] = {}
    for number, line in enumerate(lines_of(read_text(path)), start=1):
        if not line.strip():
            continue
        name, *told = (cell.strip() for cell in line.split("\t"))
        if not 1 <= len(told) <= 2 or not told[0]:
            raise IsthmusError(f"{path}, line {number}: got {line!r}, expected {_LINE}")
        captions.setdefault(name, []).append(Caption(told[0], "".join(told[1:]) or None))
    return captions


def _stored(path: Path) -> list[list[str]]:
    """The captions of each picture of an .npz file.

    Raises:
        IsthmusError: Captions or keywords that are no texts, or not for each of ``images``.
    """
    keys = (*CAPTION_KEYS, KEYWORDS_KEY)
    with np.load(path, allow_pickle=False) as arrays:
        given = {key: arrays[key] for key in keys if key in arrays}
        count = len(arrays["images"]) if "images" in arrays else 0
    captions: list[list[str]] = [[] for _ in range(count)]
    for key, values in given.items():
        if values.dtype.kind != "U" or values.shape[:1] != (count,):
            raise IsthmusError(
                f"{path}: {key} of shape {list(values.shape)} ({values.dtype}), expected texts "
                f"for {count:,} pictures under images"
            )
        for own, texts in zip(captions, values.reshape(count, -1).tolist(), strict=True):
            for text in texts:
                own += in_groups(text, own) if key == KEYWORDS_KEY else [text.strip()]
    return [[text for text in own if text] for own in captions]


def in_groups(keywords: str, known: Sequence[str] = ()) -> list[str]:
    """Captions of KEYWORDS keywords each, in their order; what is known or twice is left out."""
    words = list(dict.fromkeys(word.strip() for word in keywords.split(",")))
    words = [word for word in words if word and word not in known]
    return [", ".join(words[n : n + KEYWORDS]) for n in range(0, len(words), KEYWORDS)]
