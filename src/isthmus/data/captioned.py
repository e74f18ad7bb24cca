"""Pictures with captions: `scenes`, an .npz file, a folder of pictures with a list of captions.

An example is a picture with one caption. A picture with several captions is several examples, one
with none is an example without a caption, and a caption without a picture is one too. Any of them
may have a label: a picture that of its sub-folder, a caption one in its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

from isthmus.data import pictures
from isthmus.data.corpus import read as read_texts
from isthmus.data.corpus import scenes_floor
from isthmus.data.files import clean_label, lines_of, read_text, suffix_of
from isthmus.data.hub import SCENES
from isthmus.data.kind import Corpus, Floor, Kind, Splits, choose, framed, make_splits
from isthmus.data.pictures import CAPTIONS_FILE, PICTURE, Fit, Picture, PictureCorpus, Shape
from isthmus.data.pictures.arrays import load_arrays
from isthmus.data.pictures.corpus import size_in
from isthmus.errors import IsthmusError
from isthmus.settings import CaptionedPicturesSettings, Settings

CAPTION_KEYS = ("caption", "captions", "name")
"""Arrays next to ``images``: a caption for each picture, [N], or several, [N K]; "" is none."""
_LINE = "FILE TAB CAPTION, or FILE TAB CAPTION TAB LABEL"
KEYWORDS_KEY = "keywords"
KEYWORDS = 3
"""How many keywords, with commas between them, make a caption."""


@dataclass(frozen=True, eq=False)
class Example:
    """What is known of one thing; a part that is not known is None.

    Args:
        picture: Levels 0 … 255, uint8 [C H W].
        caption: A text.
        label: The name of a class.
    """

    picture: Picture | None = None
    caption: str | None = None
    label: str | None = None

    @classmethod
    def of(cls, given: Any) -> Example:
        """A text, a picture or an example, as an example."""
        if isinstance(given, Example):
            return given
        return cls(caption=given) if isinstance(given, str) else cls(picture=given)


class Caption(NamedTuple):
    """A caption in a list, with the label that its line gives."""

    text: str
    label: str | None = None


@final
class JointKind(Kind):
    """Pictures with captions; either part can be missing."""

    name = "joint"
    title = "picture and caption"
    field = unit = "example"
    has_text = has_pictures = True
    label_source = (
        "a folder of pictures with a sub-folder a label, a third column in its captions.tsv, or "
        "an .npz file with labels"
    )

    def read(
        self, data: str, config: Mapping[str, Any], limit: int | None = None
    ) -> CaptionedCorpus:
        """Read pictures of the size that the configuration states, and captions."""
        shape, fit = size_in(_of_pictures(config))
        return read(data, limit=limit, shape=shape, fit=fit)

    def read_splits(self, data: str, settings: Settings) -> Splits[CaptionedCorpus]:
        """As the function of that name."""
        assert isinstance(settings.model, CaptionedPicturesSettings)
        limit, fit = settings.data.limit or None, settings.model.picture.fit
        return read_splits(data, seed=settings.train.seed, limit=limit, fit=fit)

    def example(self, text: str | None = None, picture: Picture | None = None) -> Example:
        """An example with these parts."""
        return Example(picture, text)

    def named(self, word: str, config: Mapping[str, Any]) -> Example:
        """A picture if there is one of that name, else a caption."""
        if Path(word).is_file() or pictures.names_one(word):
            return Example(picture=PICTURE.named(word, _of_pictures(config)))
        return Example(caption=word)

    def of_texts(self, texts: Corpus) -> CaptionedCorpus:
        """Captions without pictures."""
        labels: Sequence[str | None] = texts.labels or [None] * len(texts)
        each = zip(texts.names, labels, strict=True)
        examples = [Example(caption=text, label=label) for text, label in each]
        source, skipped = texts.source, texts.skipped
        return CaptionedCorpus(examples, texts.names, source, skipped, texts.notes, texts.warnings)


JOINT = JointKind()


def _of_pictures(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the pictures in that of both."""
    return config.get("picture") or {}


@final
@dataclass(frozen=True)
class CaptionedCorpus(Corpus):
    """Examples in the order of their source."""

    kind = JOINT
    each = ("examples", "names")

    examples: list[Example]
    names: list[str]
    """Of each: its picture's name, or the caption if it has no picture."""
    source: str
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    floor: Floor | None = None
    labels: list[str] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        known = [label for label in self.known_labels if label is not None]
        object.__setattr__(self, "labels", known if len(known) == len(self) else None)

    @property
    def known_labels(self) -> list[str | None]:
        """The label of each example, None where it is missing."""
        return [example.label for example in self.examples]

    @property
    def titles(self) -> list[str]:
        """The caption of each example, or the name of its picture."""
        each = zip(self.examples, self.names, strict=True)
        return [example.caption or name for example, name in each]

    @cached_property
    def warnings(self) -> list[str]:
        """Those of the readers of its parts."""
        return self.lines

    def key(self, place: int) -> bytes:
        """The picture, or the caption if there is no picture."""
        return next(filter(None, _contents(self.examples[place])))

    def contents(self) -> Iterator[bytes]:
        """Pictures, captions and labels."""
        yield b"captioned\n"
        for example in self.examples:
            yield from framed(_contents(example))

    def summary(self) -> str:
        """How many examples have a picture, a caption, a label."""
        shown = [example.picture for example in self.examples if example.picture is not None]
        captions = sum(example.caption is not None for example in self.examples)
        found = f"{len(self):,} examples, {len(shown):,} with a picture"
        if shown:
            channels, height, width = shown[0].shape
            found += f" of {pictures.in_words((channels, height, width))}"
        found += f", {captions:,} with a caption"
        if known := [label for label in self.known_labels if label is not None]:
            found += f", {len(known):,} with one of {len(set(known)):,} labels"
        return found


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
            else of `pictures.read`; what lies outside sub-folders has none, nor has an .npz file's
            "".
        split: As for `pictures.read`.
        limit: The first N examples only.
        shape: As for `pictures.read`.
        fit: As for `pictures.read`.

    Raises:
        IsthmusError: As `pictures.read` and `corpus.read`.
    """
    if suffix_of(data):
        return JOINT.of_texts(read_texts(data, limit=limit))
    chosen = choose(pictures.splits_of(data), data, split)
    corpus = pictures.read(data, split=chosen, limit=limit, shape=shape, fit=fit)
    found = _captioned(corpus, _captions(data, chosen, len(corpus)), limit)
    return replace(found, floor=scenes_floor()) if data == SCENES else found


def read_splits(
    data: str, *, seed: int = 0, limit: int | None = None, fit: Fit = "skip"
) -> Splits[CaptionedCorpus]:
    """Read what training needs; hold a part out for validation where the source has none.

    All captions of a picture go to one side.

    Args:
        data: As for `read`.
        seed: Which are held out is a function of the seed and their places.
        limit: Train on the first N examples only.
        fit: As for `pictures.read`.

    Raises:
        IsthmusError: As `read`, or there are fewer than two examples.
    """
    there = pictures.splits_of(data)
    train = read(data, split=choose(there, data, "train"), limit=limit, fit=fit)
    shape = next((e.picture.shape for e in train.examples if e.picture is not None), None)

    def rest(split: str) -> CaptionedCorpus | None:
        return read(data, split=split, shape=shape, fit=fit) if split in there else None

    return make_splits(train, rest, seed=seed)


def _contents(example: Example) -> tuple[bytes, bytes, bytes]:
    picture = b"" if example.picture is None else example.picture.tobytes()
    return picture, (example.caption or "").encode(), (example.label or "").encode()


def _captioned(
    corpus: PictureCorpus, captions: Mapping[str, Sequence[Caption]], limit: int | None
) -> CaptionedCorpus:
    """Pictures with the captions of their names; a caption of no name is an example of its own.

    The label of a caption's line takes precedence over that of the picture.
    """
    examples: list[Example] = []
    names: list[str] = []
    labels = corpus.labels or [""] * len(corpus)
    for name, picture, label in zip(corpus.names, corpus.pictures, labels, strict=True):
        outside = label == "." == Path(name).parent.as_posix()  # in none of the sub-folders
        known = None if outside or not label else label
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
            f"no captions (expected a {CAPTIONS_FILE} with {_LINE} next to the pictures, "
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
    if data == SCENES:
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
    """The captions of each file in a list of _LINE; none if the list is missing.

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
        name, *rest = (cell.strip() for cell in line.split("\t"))
        if not 1 <= len(rest) <= 2 or not rest[0]:
            raise IsthmusError(f"{path}, line {number}: got {line!r}, expected {_LINE}")
        captions.setdefault(name, []).append(Caption(rest[0], clean_label("".join(rest[1:]))))
    return captions


def _stored(path: Path) -> list[list[str]]:
    """The captions of each picture of an .npz file.

    Raises:
        IsthmusError: Captions or keywords that are no texts, or not for each of ``images``.
    """
    keys = (*CAPTION_KEYS, KEYWORDS_KEY)
    arrays = load_arrays(path)
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
