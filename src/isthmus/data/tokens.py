"""Tokenizers, and whole corpora as flat arrays of token ids."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
"""The special tokens of the tokenizers trained here, with the ids 0 to 4."""

_PIECE = 1_000
_TOKEN_CHARACTERS = 32  # without a bound a line of dashes becomes one token
_CHARACTERS_PER_TOKEN = 50
_MARGIN = 8
_TEXTS_AT_ONCE = 10_000

_log = logging.getLogger(__name__)


def train_word_level(
    texts: Iterable[str], vocabulary_size: int, minimum_count: int = 1
) -> "PreTrainedTokenizerFast":
    """Make a tokenizer whose tokens are the most frequent words, split at white space.

    `decode(encode(text)) == " ".join(text.split())` for words of the vocabulary; any other word,
    and "<unk>" itself where a corpus has it, becomes the unknown token.

    Args:
        texts: The training split, and nothing else.
        vocabulary_size: Largest number of tokens, the five special ones included.
        minimum_count: Leave out words that occur less often.

    Returns:
        The tokenizer; ties in frequency are broken by alphabet.

    Raises:
        IsthmusError: No room for a word, or no word is frequent enough.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    specials = list(SPECIALS.values())
    _check_size(vocabulary_size, len(specials) + 1, "one word")
    counts = Counter(word for text in texts for word in text.split())
    for special in specials:
        counts.pop(special, None)
    frequent = [word for word, count in counts.items() if count >= minimum_count]
    if not frequent:
        raise IsthmusError(
            f"no word occurs {minimum_count} times: give more text or a smaller minimum_count"
        )
    frequent.sort(key=lambda word: (-counts[word], word))
    words = specials + frequent[: vocabulary_size - len(specials)]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS["unk_token"]))
    # The only white space of str.split that WhitespaceSplit does not know.
    tokenizer.normalizer = normalizers.Replace(Regex("[\x1c-\x1f]"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap(tokenizer)


def train_bpe(texts: Iterable[str], vocabulary_size: int) -> "PreTrainedTokenizerFast":
    """Make a byte-level BPE tokenizer; it is lossless for every Unicode text.

    References:
        Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units";
        on bytes: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

    Args:
        texts: The training split, and nothing else.
        vocabulary_size: Largest number of tokens, at least 256 bytes and 5 special ones.

    Returns:
        The tokenizer.

    Raises:
        IsthmusError: No room for the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    _check_size(vocabulary_size, len(SPECIALS) + len(alphabet), "256 bytes")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIALS.values()),
        initial_alphabet=alphabet,
        max_token_length=_TOKEN_CHARACTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_pieces(texts), trainer)
    return _wrap(tokenizer)


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    # Each merge costs time in proportion to the longest word: a line of 10 MB must not be one.
    for text in texts:
        if len(text) <= 10 * _PIECE:
            yield text
        else:
            yield from (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def _check_size(vocabulary_size: int, least: int, holding: str) -> None:
    if vocabulary_size < least:
        raise IsthmusError(
            f"vocabulary_size must be at least {least} ({len(SPECIALS)} special tokens and "
            f"{holding}), got {vocabulary_size}"
        )


def _wrap(tokenizer: "Tokenizer") -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **SPECIALS
    )


def load(name_or_folder: str) -> "PreTrainedTokenizerBase":
    """Load a tokenizer from a folder, or by its name from the Hugging Face hub.

    Raises:
        IsthmusError: Neither has it.
    """
    from transformers import AutoTokenizer

    if not Path(name_or_folder).is_dir():
        _log.warning("%s is no folder here: asking the Hugging Face hub for it", name_or_folder)
    try:
        return AutoTokenizer.from_pretrained(name_or_folder)
    except Exception as error:  # what it raises depends on the file that is missing
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise IsthmusError(f'no tokenizer loads from "{name_or_folder}": {reason}') from None


def save(tokenizer: "PreTrainedTokenizerBase", folder: str | Path) -> None:
    """Write a tokenizer's files into a folder, for `load`."""
    tokenizer.save_pretrained(folder)


class SpecialIds(NamedTuple):
    """Ids around a text. There is no start token in T5, and neither start nor end in CTRL."""

    start: int | None
    end: int | None
    pad: int


def special_ids(tokenizer: "PreTrainedTokenizerBase") -> SpecialIds:
    """Return the ids that stand before, after and behind a plain text.

    A language model that knows "<|endoftext|>" was trained on plain texts that end with it, and
    also begin with it unless the tokenizer has a real start token: a chat model's
    "<|im_start|>" opens a turn, not a text. All others have bos and eos, or cls and sep. Where
    there is no pad token the end stands in: padding is masked by attention, never by its id.

    Raises:
        IsthmusError: The tokenizer has no token that ends a text.
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


@dataclass(frozen=True)
class Tokens:
    """The token ids of a corpus, all in one array."""

    ids: NDArray[np.int32]
    """All texts one behind the other."""
    offsets: NDArray[np.int64]
    """Text i is `ids[offsets[i] : offsets[i + 1]]`; [N + 1]."""
    start: int | None
    """The id every text begins with, if any."""
    end: int | None
    """The id every text ends with, if any."""
    cut: int
    """How many texts were longer than the maximum length."""
    unknown: int
    """How many tokens are the unknown token."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        if not 0 <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per text, start and end included [N]."""
        return np.diff(self.offsets)

    def report(self) -> str:
        """Return one line: tokens, and how many texts were cut and tokens unknown."""
        unknown = self.unknown / max(1, len(self.ids))
        return (
            f"{len(self):,} texts, {len(self.ids):,} tokens; {self.cut:,} texts cut; "
            f"{self.unknown:,} tokens unknown ({unknown:.2%})"
        )


def tokenize(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    maximum_length: int,
    start: int | None,
    end: int | None,
) -> Tokens:
    """Tokenize texts to `start + tokens + end`, no longer than `maximum_length`.

    A text that is too long loses its last tokens and keeps its end; such texts are counted. A
    special token's name within a text is text, not the special token.

    Args:
        tokenizer: Any transformers tokenizer.
        texts: N texts.
        maximum_length: Largest number of tokens of a text, start and end included.
        start: Id to put first, or None.
        end: Id to put last, or None.

    Returns:
        The tokens of the N texts in their order.

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
    rows = _plain_ids(tokenizer, texts, room)
    cut = sum(len(row) > room for row in rows)
    rows = [[*before, *row[:room], *after] for row in rows]
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1]))
    unknown = _count_unknown(tokenizer, ids, before + after)
    return Tokens(ids, offsets, start, end, cut, unknown)


def _count_unknown(
    tokenizer: "PreTrainedTokenizerBase", ids: NDArray[np.int32], around: list[int]
) -> int:
    unknown = tokenizer.unk_token_id
    # GPT-2 names its end token "unknown" too; its texts have none.
    return 0 if unknown is None or unknown in around else int((ids == unknown).sum())


def _plain_ids(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], room: int
) -> list[list[int]]:
    """Tokenize each text without special tokens, or enough of it to have more than `room`."""
    size = _CHARACTERS_PER_TOKEN * (room + _MARGIN)
    rows = _encode(tokenizer, [text[:size] for text in texts])
    for place, text in enumerate(texts):
        seen = size
        # The last tokens of a beginning may differ from those of the whole, hence the margin.
        while len(text) > seen and len(rows[place]) < room + _MARGIN:
            seen *= 4
            [rows[place]] = _encode(tokenizer, [text[:seen]])
    return rows


def _encode(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    from transformers import PreTrainedTokenizerFast

    rows: list[list[int]] = []
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[first : first + _TEXTS_AT_ONCE]
        if isinstance(tokenizer, PreTrainedTokenizerFast):
            # Twice as fast as the call below, which sets these three anew whenever it is used.
            backend = tokenizer.backend_tokenizer
            backend.no_truncation()
            backend.no_padding()
            backend.encode_special_tokens = True
            found = backend.encode_batch_fast(part, add_special_tokens=False)
            rows += [encoding.ids for encoding in found]
        else:
            found = tokenizer(part, add_special_tokens=False, split_special_tokens=True)
            rows += found["input_ids"]
    # A word-level vocabulary still finds "<eos>" as a word: it must not end the text.
    unknown = tokenizer.unk_token_id
    forbidden = set(tokenizer.all_special_ids) - {unknown}
    if unknown is not None:
        rows = [
            row if forbidden.isdisjoint(row) else [unknown if i in forbidden else i for i in row]
            for row in rows
        ]
    return rows


def detokenize(
    tokenizer: "PreTrainedTokenizerBase", ids: Iterable[Sequence[int] | Any], end: int | None
) -> list[str]:
    """Turn token ids into texts.

    Each row ends before its first `end`; special tokens are left out, except the unknown one,
    which stands for a word.

    Args:
        tokenizer: The tokenizer of the ids.
        ids: N rows of ids, as a decoder writes them: lists, arrays or a tensor [N T]. A start
            token before them must be taken off where it is the same as `end`.
        end: Id that ends a text, if any.

    Returns:
        N texts.
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
