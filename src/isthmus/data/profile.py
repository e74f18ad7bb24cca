"""What texts are like, as far as a choice of settings depends on it."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from isthmus.data import tokens
from isthmus.data.kind import sampled
from isthmus.data.symbols import TokenizerKind, train_tokenizer

_LOOKED_AT = 200_000
"""Texts whose words are counted: a random sample if there are more."""
_MEASURED = 2_000_000
"""Characters of texts whose length in tokens is measured."""
_WORDS = 12_000
"""Largest vocabulary of words."""
_UNKNOWN = 0.005
"""Largest share of unknown words that a vocabulary of words may leave."""
_SMALLEST, _LARGEST = 512, 4096
"""Vocabularies of byte pairs."""
_MOST_SYMBOLS = 8000
"""Vocabulary of characters or symbols, at most."""
_CHARACTERS_A_TOKEN = 200
"""Characters of text that there must be for each token of such a vocabulary."""
_LONG_WORD, _LONG_UNPARTED = 15, 5
"""Mean characters of a word from which spaces do not separate words; the same in these scripts,
whose spaces separate phrases unless a text has been segmented."""
_UNPARTED = frozenset(
    {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}
)
_FEW_CHARACTERS = 128
"""So many are an alphabet, where no word says which of them belong together."""


@final
@dataclass(frozen=True)
class Profile:
    """What training texts are like."""

    texts: int
    copies: float
    """Share of the texts that also stand elsewhere."""
    script: str
    """That of most letters, as Unicode names it; empty without letters."""
    words: float
    """Mean number of words in a text; 0 where white space does not part words."""
    characters: int
    """Distinct ones."""
    labels: int
    """Distinct ones; 0 without labels."""
    tokenizer: TokenizerKind
    """The kind that suits the texts, or the one asked for."""
    vocabulary_size: int
    length: int
    """Median number of tokens of a text, without start and end."""
    longest: int
    """Number that 99 % of the texts do not exceed."""
    tokens: int
    """Number in all texts, estimated."""

    @property
    def has_words(self) -> bool:
        """Whether white space parts words."""
        return self.words > 0


def profile(
    texts: Sequence[str],
    labels: Sequence[str | None] | None = None,
    tokenizer: TokenizerKind | None = None,
) -> Profile:
    """Look at training texts: at most 200,000 of them, chosen by their number alone.

    Args:
        texts: All of them.
        labels: Of each text, None where it is missing.
        tokenizer: The kind that is asked for; None for the one that suits the texts.
    """
    seen = [texts[place] for place in sampled(len(texts), _LOOKED_AT, 0)]
    letters = Counter("".join(seen))
    words = Counter(word for text in seen for word in text.split())
    total = words.total()
    parted = has_words(seen)
    kind: TokenizerKind
    kind, size = _tokenizer(words if parted else None, letters, len(texts) / len(seen))
    if tokenizer in ("character", "smiles"):
        everything = len(tokens.SPECIALS) + 256 + len(letters)
        kind, size = tokenizer, max(_SMALLEST, min(everything, _MOST_SYMBOLS))
    lengths = _lengths(texts, kind, size)
    return Profile(
        texts=len(texts),
        copies=1 - len(set(seen)) / len(seen),
        script=_script(letters),
        words=total / len(seen) if parted else 0.0,
        characters=len(letters),
        labels=len({label for label in labels or [] if label is not None}),
        tokenizer=kind,
        vocabulary_size=size,
        length=int(np.quantile(lengths, 0.5)),
        longest=int(np.quantile(lengths, 0.99, method="higher")),
        tokens=round(float(lengths.mean()) * len(texts)),
    )


def has_words(texts: Sequence[str]) -> bool:
    """Whether spaces separate words.

    They do not in Chinese, proteins or SMILES, nor where most texts are one word: there a
    perplexity per word would be one per text.
    """
    words = [word for text in texts for word in text.split()]
    if 2 * len(words) < 3 * len(texts):
        return False
    letters = Counter("".join(words))
    long = _LONG_UNPARTED if _script(letters) in _UNPARTED else _LONG_WORD
    return letters.total() < long * len(words)


def _tokenizer(
    words: Counter[str] | None, letters: Counter[str], times: float
) -> tuple[Literal["word", "bpe"], int]:
    """Words where hardly one is rare, else byte pairs: as many as the texts show often enough."""
    if words is not None:
        known = sum(count for _, count in words.most_common(_WORDS))
        # Good (1953): words seen once are as frequent as those not seen yet.
        once = sum(count == 1 for count in words.values())
        if (words.total() - known + once) / words.total() <= _UNKNOWN:
            return "word", min(len(words), _WORDS) + len(tokens.SPECIALS)
    elif len(letters) <= _FEW_CHARACTERS:
        return "bpe", _SMALLEST
    enough = 2 ** int(math.log2(max(1, times * letters.total() / _CHARACTERS_A_TOKEN)))
    # A script of many signs needs room for each, since its bytes alone say little.
    least = max(_SMALLEST, 256 + len(tokens.SPECIALS) + sum(ord(sign) > 0x7FF for sign in letters))
    return "bpe", max(least, min(enough, _LARGEST))


def _lengths(texts: Sequence[str], kind: TokenizerKind, size: int) -> NDArray[np.int64]:
    """Tokens of some of the texts, without start and end, [N]."""
    order = np.random.default_rng(0).permutation(len(texts))
    read = np.cumsum([len(texts[place]) for place in order])
    few = [texts[place] for place in order[: 1 + int((read < _MEASURED).sum())]]
    if kind == "word":
        return np.array([len(text.split()) for text in few])
    tokenizer = train_tokenizer(kind, few, size)
    whole = 4 * max(map(len, few)) + 1  # no tokenizer makes more tokens than bytes
    return tokens.tokenize(tokenizer, few, whole, None, None).lengths


def _script(letters: Counter[str]) -> str:
    """The first word of most letters' names."""
    scripts: Counter[str] = Counter()
    for sign, count in letters.items():
        if sign.isalpha():
            scripts[unicodedata.name(sign, "?").partition(" ")[0]] += count
    return scripts.most_common(1)[0][0] if scripts else ""
