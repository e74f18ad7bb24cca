"""Tokens of the validation texts that no training text has."""

from __future__ import annotations

from isthmus.data.unseen import Unseen
from isthmus.models.codec import Examples
from isthmus.settings import Settings, TokenSettings

MANY_UNSEEN = 0.1
"""A larger share of validation tokens that no training text has asks for another tokenizer."""


def unseen_line(unseen: Unseen, settings: Settings) -> str:
    """How much of the validation texts has no token in training, and what to do about much of it.

    A pretrained decoder knows tokens that these training texts lack.
    """
    line = (
        f"{unseen.tokens:.1%} of the tokens ({unseen.types:.1%} of the different ones) occur in "
        "no training text"
    )
    data, decoder = settings.data, getattr(settings.model, "decoder", None)
    given = settings.train.start_from or decoder is None or decoder.source
    if unseen.tokens <= MANY_UNSEEN or given or not isinstance(data, TokenSettings):
        return line
    others = {"word": ", or --data.tokenizer bpe", "bpe": ", or a smaller --data.vocabulary-size"}
    other = others.get(data.tokenizer, "")
    return f"{line}: no training can predict them; use more text{other}"


def unseen_shares(valid: Examples, training: Examples) -> dict[str, float]:
    """What a run's record says of validation tokens that no training text has."""
    found = valid.unseen(training)
    if found is None:
        return {}
    return {"unseen_tokens": found.tokens, "unseen_token_types": found.types}
