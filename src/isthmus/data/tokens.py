"""Tokenizers, and corpora as flat arrays of token ids."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIALS = {
    "pad_token": "<pad>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
"""The special tokens of tokenizers trained here, with ids 0 to 4."""

_PIECE = 1_000
_TOKEN_CHARACTERS = 32  # without a bound a line of dashes becomes one token
_CHARACTERS_PER_TOKEN = 50
_MARGIN = 8
TEXTS_AT_ONCE = 10_000
"""Texts whose ids are lists at a time: as such they take ten times the memory."""

MANY_UNKNOWN = 0.1
"""From this share of unknown words the vocabulary does not fit the texts."""

_log = logging.getLogger(__name__)


def train_word_level(
    texts: Iterable[str], vocabulary_size: int, minimum_count: int = 1
) -> "PreTrainedTokenizerFast":
    """Make a tokenizer of the most frequent words, split at white space.

    `decode(encode(text)) == " ".join(text.split())` for words of the vocabulary. Any other word,
    and "<unk>" in a corpus, becomes the unknown token. Ties in frequency follow the alphabet.

    Args:
        texts: The training split only.
        vocabulary_size: Largest number of tokens, including the five special ones.
        minimum_count: Leave out rarer words.

    Raises:
        IsthmusError: The vocabulary has no room for a word, or no word is frequent enough.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    specials = list(SPECIALS.values())
    check_size(vocabulary_size, len(specials) + 1, "one word")
    counts = Counter(word for text in texts for word in text.split())
    for special in specials:
        counts.pop(special, None)
    frequent = [word for word, count in counts.items() if count >= minimum_count]
    if not frequent:
        raise IsthmusError(
            f"no word occurs {minimum_count} times: use more text or a smaller minimum_count"
        )
    frequent.sort(key=lambda word: (-counts[word], word))
    words = specials + frequent[: vocabulary_size - len(specials)]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS["unk_token"]))
    # The only white space that str.split knows and WhitespaceSplit does not.
    tokenizer.normalizer = normalizers.Replace(Regex("[\x1c-\x1f]"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrapped(tokenizer)


def train_bpe(
    texts: Sequence[str], vocabulary_size: int, minimum_count: int = 2
) -> "PreTrainedTokenizerFast":
    """Make a byte-level BPE tokenizer, lossless for any Unicode text; frequent tokens come first.

    A pair seen once is no evidence for a token: merging it would turn each rare text into tokens
    of its own, which a held-out text shares none of.

    References:
        Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units";
        on bytes: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

    Args:
        texts: The training split only.
        vocabulary_size: Largest number of tokens, at least 256 bytes and 5 special ones.
        minimum_count: Merge no pair that is rarer.

    Raises:
        IsthmusError: The vocabulary has no room for the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    check_size(vocabulary_size, len(SPECIALS) + len(alphabet), "256 bytes")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=minimum_count,
        special_tokens=list(SPECIALS.values()),
        initial_alphabet=alphabet,
        max_token_length=_TOKEN_CHARACTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_pieces(texts), trainer)
    return wrapped(_sorted_by_frequency(tokenizer, texts))


def _sorted_by_frequency(tokenizer: "Tokenizer", texts: Sequence[str]) -> "Tokenizer":
    """The same tokenizer with its ids in the order of their counts, the special ones first."""
    from tokenizers import Tokenizer

    counts = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    pieces = list(_pieces(texts))
    for first in range(0, len(pieces), TEXTS_AT_ONCE):
        part = pieces[first : first + TEXTS_AT_ONCE]
        found = tokenizer.encode_batch_fast(part, add_special_tokens=False)
        ids = np.fromiter(chain.from_iterable(each.ids for each in found), np.int64)
        counts += np.bincount(ids, minlength=len(counts))
    counts[: len(SPECIALS)] = np.iinfo(np.int64).max
    saved = json.loads(tokenizer.to_str())
    order = np.argsort(-counts, kind="stable").tolist()
    saved["model"]["vocab"] = {tokenizer.id_to_token(id_): new for new, id_ in enumerate(order)}
    return Tokenizer.from_str(json.dumps(saved))


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    # A merge takes time proportional to the longest word: split a line of 10 MB without spaces.
    for text in texts:
        if len(text) <= 10 * _PIECE:
            yield text
        else:
            yield from (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def check_size(vocabulary_size: int, least: int, holding: str) -> None:
    """Refuse a vocabulary that has no room for what a tokenizer needs."""
    if vocabulary_size < least:
        raise IsthmusError(
            f"vocabulary_size must be at least {least} ({len(SPECIALS)} special tokens and "
            f"{holding}), got {vocabulary_size}"
        )


def wrapped(tokenizer: "Tokenizer") -> "PreTrainedTokenizerFast":
    """A tokenizer as transformers has them, with the special tokens of those trained here."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **SPECIALS
    )


def load(name_or_folder: str) -> "PreTrainedTokenizerBase":
    """Load a tokenizer from a folder, or by name from the Hugging Face hub.

    Raises:
        IsthmusError: There is no such tokenizer.
    """
    from transformers import AutoTokenizer

    if not Path(name_or_folder).is_dir():
        _log.warning("no folder %s: asking the Hugging Face hub for it", name_or_folder)
    try:
        return AutoTokenizer.from_pretrained(name_or_folder)
    except Exception as error:  # what it raises depends on the file that is missing
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise IsthmusError(f'cannot load a tokenizer from "{name_or_folder}": {reason}') from None


def save(tokenizer: "PreTrainedTokenizerBase", folder: str | Path) -> None:
    """Write a tokenizer's files into a folder that `load` can read."""
    tokenizer.save_pretrained(folder)


class SpecialIds(NamedTuple):
    """Ids around a text. T5 has no start token, CTRL neither start nor end."""

    start: int | None
    end: int | None
    pad: int


def special_ids(tokenizer: "PreTrainedTokenizerBase") -> SpecialIds:
    """Return the ids that start, end and pad a plain text.

    A language model with "<|endoftext|>" was trained on plain texts that end with it, and begin
    with it too unless the tokenizer has a real start token: the "<|im_start|>" of a chat model
    starts a turn, not a text. All others have bos and eos, or cls and sep. Without a pad token
    the end serves as padding, which is masked by attention, never by its id.

    Raises:
        IsthmusError: No token ends a text.
    """
    start = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    end = tokenizer.eos_token_id if tokenizer.cls_token_id is None else tokenizer.sep_token_id
    between = tokenizer.get_vocab().get("<|endoftext|>")
    if between is not None and tokenizer.cls_token_id is None:
        end = between
        if tokenizer.bos_token in (None, "<|im_start|>"):
            start = between
    if end is None:
        raise IsthmusError(
            f"{tokenizer.name_or_path or 'the tokenizer'} has no token that ends a text: set its "
            "eos_token, or its sep_token if it has a cls_token"
        )
    pad = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return SpecialIds(start, end, pad)


@final
@dataclass(frozen=True)
class Tokens:
    """The token ids of a corpus in one array."""

    ids: NDArray[np.int32]
    """All texts, concatenated."""
    offsets: NDArray[np.int64]
    """Text i is `ids[offsets[i] : offsets[i + 1]]`, [N + 1]."""
    start: int | None
    """The id every text begins with, if any."""
    end: int | None
    """The id every text ends with, if any."""
    cut: int
    """Number of texts longer than the maximum length."""
    unknown: int
    """Number of unknown tokens."""
    unit: str = "token"
    """What a token is: a word, if the vocabulary is one of words."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        if not 0 <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per text, including start and end [N]."""
        return np.diff(self.offsets)

    @property
    def plain(self) -> int:
        """Number of tokens that come from the texts, not their starts and ends."""
        around = (self.start is not None) + (self.end is not None)
        return len(self.ids) - around * len(self)

    @property
    def unknown_share(self) -> float:
        """Unknown tokens of these."""
        return self.unknown / max(1, self.plain)

    def report(self) -> str:
        """Return one line: numbers of texts, tokens, cut texts and unknown tokens."""
        share = self.unknown_share
        advice = "; train with another tokenizer (--data.tokenizer bpe)"
        return (
            f"{_count(len(self), 'text')}, {_count(len(self.ids), 'token')}; "
            f"{_count(self.cut, 'text')} cut; {_count(self.unknown, self.unit)} unknown "
            f"({share:.2%}){advice if share >= MANY_UNKNOWN else ''}"
        )

    def lost(self, words: Sequence[str] = ()) -> str:
        """Return what of the texts is not read, empty if nothing is lost.

        Args:
            words: Some of those that are unknown.
        """
        parts = [f"{self.cut:,} of {_count(len(self), 'text')} cut"] if self.cut else []
        if self.unknown:
            more = ", …" if self.unknown > len(words) else ""
            known = f": {', '.join(words)}{more}" if words else ""
            parts.append(f"{self.unknown:,} of {_count(self.plain, self.unit)} unknown{known}")
        return "; ".join(parts)


def tokenize(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    maximum_length: int,
    start: int | None,
    end: int | None,
    names: bool = False,
) -> Tokens:
    """Tokenize texts to `start + tokens + end`, no longer than `maximum_length`.

    A text that is too long loses its last tokens and keeps its end; such texts are counted. The
    name of a special token within a text is ordinary text, unless `names` says otherwise.

    Args:
        tokenizer: Any transformers tokenizer.
        texts: N texts.
        maximum_length: Largest number of tokens in a text, including start and end.
        start: First id, or None.
        end: Last id, or None.
        names: The name of a special token within a text is that token.

    Raises:
        IsthmusError: `maximum_length` leaves no room for a token.
    """
    before = [] if start is None else [start]
    after = [] if end is None else [end]
    room = maximum_length - len(before) - len(after)
    if room < 1:
        raise IsthmusError(
            f"maximum_length must be at least {len(before) + len(after) + 1}, got {maximum_length}"
        )
    lengths: list[int] = []
    parts, cut = [np.empty(0, np.int32)], 0
    for first in range(0, len(texts), TEXTS_AT_ONCE):  # as lists ids take ten times the memory
        rows = _plain_ids(tokenizer, texts[first : first + TEXTS_AT_ONCE], room, names)
        cut += sum(len(row) > room for row in rows)
        rows = [[*before, *row[:room], *after] for row in rows]
        lengths += map(len, rows)
        parts.append(np.fromiter(chain.from_iterable(rows), dtype=np.int32))
    offsets, ids = np.zeros(len(texts) + 1, dtype=np.int64), np.concatenate(parts)
    np.cumsum(lengths, out=offsets[1:])
    # GPT-2's end is its unknown token too, and its texts have no unknown tokens.
    unknown = tokenizer.unk_token_id
    count = 0 if unknown in (None, start, end) else int((ids == unknown).sum())
    unit = "word" if type(_model(tokenizer)).__name__ == "WordLevel" else "token"
    return Tokens(ids, offsets, start, end, cut, count, unit)


def _model(tokenizer: "PreTrainedTokenizerBase") -> Any:
    return getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)


def unknown_words(
    tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], most: int = 3
) -> list[str]:
    """The first words, at white space, that a tokenizer does not know; characters if it spells."""
    model = _model(tokenizer)
    spells = type(model).__name__ == "BPE" and model.unk_token
    parts = (list(text) if spells else text.split() for text in texts)
    words = list(dict.fromkeys(chain.from_iterable(parts)))
    found: list[str] = []
    for first in range(0, len(words), TEXTS_AT_ONCE):
        part = words[first : first + TEXTS_AT_ONCE]
        rows = zip(part, _plain_ids(tokenizer, part, _MARGIN), strict=True)
        found += [word for word, ids in rows if tokenizer.unk_token_id in ids]
        if len(found) >= most:
            break
    return found[:most]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _plain_ids(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], room: int, names: bool = False
) -> list[list[int]]:
    """Tokenize each text without special tokens, or enough of it for more than `room` tokens."""
    size = _CHARACTERS_PER_TOKEN * (room + _MARGIN)
    rows = _encode(tokenizer, [text[:size] for text in texts], names)
    for place, text in enumerate(texts):
        seen = size
        # The last tokens may change when more text follows, hence the margin.
        while len(text) > seen and len(rows[place]) < room + _MARGIN:
            seen *= 4
            [rows[place]] = _encode(tokenizer, [text[:seen]], names)
    return rows


def _encode(
    tokenizer: "PreTrainedTokenizerBase", texts: list[str], names: bool
) -> list[list[int]]:
    from transformers import PreTrainedTokenizerFast

    rows: list[list[int]] = []
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[first : first + TEXTS_AT_ONCE]
        if isinstance(tokenizer, PreTrainedTokenizerFast):
            # Twice as fast as the call below, which sets these three each time.
            backend = tokenizer.backend_tokenizer
            backend.no_truncation()
            backend.no_padding()
            backend.encode_special_tokens = not names
            found = backend.encode_batch_fast(part, add_special_tokens=False)
            rows += [encoding.ids for encoding in found]
        else:
            found = tokenizer(part, add_special_tokens=False, split_special_tokens=not names)
            rows += found["input_ids"]
    # In a word-level vocabulary "<eos>" is still a word; it must not end the text.
    unknown = tokenizer.unk_token_id
    forbidden = set(tokenizer.all_special_ids) - {unknown}
    if unknown is not None and not names:
        rows = [
            row if forbidden.isdisjoint(row) else [unknown if i in forbidden else i for i in row]
            for row in rows
        ]
    return rows


def detokenize(
    tokenizer: "PreTrainedTokenizerBase", ids: Iterable[Sequence[int] | Any], end: int | None
) -> list[str]:
    """Turn token ids into texts.

    Each row stops before its first `end`. Special tokens are left out, except the unknown token,
    which represents a word.

    Args:
        tokenizer: The tokenizer of the ids.
        ids: N rows of ids from a decoder: lists, arrays or a tensor [N T]. Remove a start token
            first if it equals `end`.
        end: Id that ends a text, if any.
    """
    hidden = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    rows = []
    for row in ids:
        text = takewhile(lambda token: token != end, np.asarray(row).tolist())
        rows.append([token for token in text if token not in hidden])
    if not rows:
        return []
    return list(
        tokenizer.batch_decode(rows, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )
