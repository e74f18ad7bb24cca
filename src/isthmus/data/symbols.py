"""Tokenizers of strings without words: by characters, or by the symbols of SMILES.

Both spell texts out: the tokens of a text, joined, are the text. A symbol that is rare in the
training texts is written as its characters. A rare character is written as its bytes, and then
nothing is unknown. Where every character is frequent, as in DNA, there are no tokens for bytes,
and a character that training never met is unknown.

Examples:
    >>> smiles = train_tokenizer("smiles", ["C[C@H](N)Br"] * 2, 100)
    >>> smiles.tokenize("BrC[C@H]%12")
    ['Br', 'C', '[C@H]', '<unk>', '<unk>', '<unk>']
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from isthmus.data import tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TokenizerKind = Literal["word", "bpe", "character", "smiles"]
"""The tokenizers that are trained here."""

SMILES_SYMBOL: Final = r"\[[^\[\]]*\]|Br|Cl|%[0-9]{2}|%\([0-9]+\)"
"""The symbols of SMILES that have several characters: atoms in brackets, bromine and chlorine, and
ring numbers from 10. The others are atoms, bonds, branches and ring numbers of one character. All
symbols of SELFIES stand in brackets, so it reads them as well."""
_TWICE: Final = 2
"""A symbol that occurs once shows that there are others which do not occur."""
_BYTES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))


def train_tokenizer(
    kind: TokenizerKind, texts: Sequence[str], size: int
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of some kind.

    Args:
        kind: What its tokens are.
        texts: The training split only.
        size: Largest number of tokens, with the five special ones.

    Raises:
        IsthmusError: The vocabulary is too small for the kind.
    """
    match kind:
        case "word":
            return tokens.train_word_level(texts, size)
        case "bpe":
            return tokens.train_bpe(texts, size)
        case "character":
            return train_symbols(texts, size)
        case "smiles":
            return train_symbols(texts, size, SMILES_SYMBOL)


def train_symbols(
    texts: Iterable[str], vocabulary_size: int, symbol: str = ""
) -> PreTrainedTokenizerFast:
    """Make a tokenizer of single characters, and of longer symbols kept whole.

    ``decode(encode(text)) == text`` for any text without an unknown character.

    Args:
        texts: The training split only.
        vocabulary_size: Largest number of tokens, with the five special ones.
        symbol: A regular expression of longer symbols; empty for characters alone.

    Raises:
        IsthmusError: The vocabulary has no room for the bytes of characters left out of it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    symbols = _vocabulary(texts, vocabulary_size, symbol)
    model = models.BPE(
        vocab={token: place for place, token in enumerate(symbols)},
        merges=[],  # so that what is no token itself comes apart into characters
        unk_token=tokens.SPECIALS["unk_token"],
        byte_fallback=_BYTES[0] in symbols,
        ignore_merges=bool(symbol),
    )
    tokenizer = Tokenizer(model)
    if symbol:
        # "<" is parted too: "<pad>" and "<0x0A>" in a text are no tokens.
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f"{symbol}|<"), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return tokens.wrapped(tokenizer)


def _vocabulary(texts: Iterable[str], size: int, symbol: str) -> list[str]:
    """Special tokens, bytes if they are needed, and symbols, of which frequent ones come first."""
    specials = list(tokens.SPECIALS.values())
    pattern = re.compile(f"{symbol}|[\\s\\S]" if symbol else r"[\s\S]")
    found: Counter[str] = Counter()
    for text in texts:
        found.update(pattern.findall(text))
    counts: Counter[str] = Counter()
    for piece, count in found.items():
        if len(piece) == 1 or count >= _TWICE:
            counts[piece] += count
        else:
            counts.update(piece)
    frequent = [piece for piece, count in counts.items() if count >= _TWICE]
    frequent.sort(key=lambda piece: (-counts[piece], piece))
    if len(frequent) == len(counts) and len(specials) + len(frequent) <= size:
        return specials + frequent
    least = len(specials) + len(_BYTES)
    tokens.check_size(size, least + 1, "256 bytes and one symbol")
    return specials + list(_BYTES) + frequent[: size - least]
