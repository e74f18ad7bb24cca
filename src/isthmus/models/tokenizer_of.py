"""The tokenizer of a model source: there, as its author saved it, and of this model."""

from __future__ import annotations

import logging
from typing import Final

from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils.hub import cached_file

from isthmus.data.tokens import SpecialIds
from isthmus.errors import IsthmusError, in_one_line

logger = logging.getLogger(__name__)

SAMPLES: Final = (
    "The quick brown fox jumps over the lazy dog.",
    " They're  here:\n\tISN'T it 12,345.67 (or 1e-9)?",
    "naïve Ærøskøbing — Übergröße, “¿qué?”",
    "東京は日本の首都です。 Привет, мир! 👍🏽",
)
"""Texts on which tokenizers differ if they differ: case, spaces, digits, accents, scripts."""

LEAST_SHARE: Final = 0.8
"""Models pad their vocabulary to round numbers, never by a fifth."""


def source_tokenizer(source: str, place: str, rows: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a model with that many token embeddings.

    Where transformers would rebuild it by a class with other rules than those of the saved
    tokenizer.json, tokenizer.json counts: the model was trained on its ids.

    Args:
        source: what the user named.
        place: its folder, or a name on the hub.
        rows: V.

    Raises:
        IsthmusError: there is no tokenizer, or not this model's.
    """
    with in_one_line(
        f"model source {source}: its tokenizer cannot be loaded",
        "expected the model's tokenizer files beside its weights, such as tokenizer.json",
    ):
        tokenizer = _as_saved(source, place)
    vocabulary = tokenizer.get_vocab()
    added = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    plain = set(vocabulary.values()) - added
    if len(plain) < 2:
        raise IsthmusError(
            f"model source {source}: no tokenizer there; expected the model's tokenizer files "
            "beside its weights, such as tokenizer.json"
        )
    if max(plain) >= rows or len(vocabulary) < LEAST_SHARE * rows:
        raise IsthmusError(
            f"model source {source}: its tokenizer has {len(vocabulary):,} tokens with ids up to "
            f"{max(vocabulary.values()):,}, and its weights are for {rows:,}; give the model its "
            "own tokenizer files"
        )
    return tokenizer


def _as_saved(source: str, place: str) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place)
    if type(tokenizer) is PreTrainedTokenizerFast or not tokenizer.is_fast:
        return tokenizer
    if cached_file(place, "tokenizer.json", _raise_exceptions_for_missing_entries=False) is None:
        return tokenizer
    saved: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(place)
    for text in SAMPLES:
        ids = [each(text, add_special_tokens=False)["input_ids"] for each in (tokenizer, saved)]
        if ids[0] != ids[1]:
            logger.warning(
                "model source %s: transformers' %s gives other ids than its tokenizer.json; using "
                "tokenizer.json (to use the class instead, remove that file)",
                source,
                type(tokenizer).__name__,
            )
            return saved
    return tokenizer


def own_special_ids(tokenizer: PreTrainedTokenizerBase) -> SpecialIds:
    """The ids that a tokenizer itself puts around a text, and its padding.

    Raises:
        IsthmusError: it puts more than one on a side.
    """
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    places = [
        place
        for place in range(len(whole) - len(plain) + 1)
        if whole[place : place + len(plain)] == plain
    ]
    ends = [(whole[:place], whole[place + len(plain) :]) for place in places[:1]]
    if not ends or max(map(len, ends[0])) > 1:
        raise IsthmusError(
            f"{tokenizer.name_or_path or 'the tokenizer'}: got {len(whole) - len(plain)} special "
            "tokens around a text, expected at most one on each side; use another encoder"
        )
    start, end = (side[0] if side else None for side in ends[0])
    pad = next((i for i in (tokenizer.pad_token_id, end, start) if i is not None), 0)
    return SpecialIds(start, end, pad)
