"""The rows of the table: recipes, made comparable with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from isthmus.settings import Settings, change_kind, load_recipe, merged, with_changes

BUDGETS: Final = {"small": 4_000_000, "full": 16_000_000}
"""Words (ends of sentences included) that every row is trained on, over all phases."""


@final
@dataclass(frozen=True)
class Row:
    """One system of the table.

    Args:
        name: Its name in the table.
        recipe: The recipe of its settings.
        what: One line of explanation.
        plain: The row of the language model with the same decoder; empty for a language model.
        changes: Nested settings that differ from the recipe.
        first: Share of the budget for a first phase.
    """

    name: str
    recipe: str
    what: str
    plain: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    first: float = 0.0


def _plain(name: str, recipe: str, what: str) -> Row:
    """A language model: the decoder of the recipe, without word dropout."""
    return Row(name, recipe, what, changes=_CLEAN)


_CLEAN: Final[dict[str, Any]] = {"data": {"word_dropout": 0.0}}
_COLLAPSE: Final = _CLEAN | {"objective": {"schedule": "constant", "free_bits": 0.0}}
# Keep the last weights: the bound would select the autoencoder that has learnt least.
_AUTOENCODER: Final = _CLEAN | {
    "objective": {"schedule": "constant", "beta": 0.0},
    "train": {"keep": "last"},
}
_FREE_BITS: Final = _CLEAN | {
    "objective": {"free_bits": 3.5, "free_bits_form": "total", "ramp": 0.1}
}
_GPT2: Final[dict[str, Any]] = {
    "model": {
        "encoder": {"hidden_size": 128},
        "decoder": {"layers": 2, "hidden_size": 128, "dropout": 0.2},
    }
}
"""Half as wide as the LSTMs, as attention takes a CPU longer per token."""


def _optimus(free_bits: float) -> Row:
    return Row(
        f"optimus-{free_bits:g}",
        "optimus",
        f"Optimus' objective at λ = {free_bits:g} (Li et al. 2020)",
        plain="gpt2-lm",
        changes=_GPT2 | {"objective": {"free_bits": free_bits}},
    )


ROWS: Final[dict[str, Row]] = {
    row.name: row
    for row in (
        _plain("lstm-lm", "lstm-vae", "LSTM language model"),
        Row(
            "lstm-ae",
            "lstm-vae",
            "LSTM autoencoder with a sampled z: β = 0",
            "lstm-lm",
            _AUTOENCODER,
        ),
        Row("lstm-collapse", "lstm-vae", "β = 1 from the start", "lstm-lm", _COLLAPSE),
        Row("lstm-vae", "lstm-vae", "KL annealing, word dropout (Bowman et al. 2016)", "lstm-lm"),
        Row(
            "lstm-free-bits",
            "lstm-vae",
            "a floor of 3.5 nats on the total KL (Kingma et al. 2016)",
            "lstm-lm",
            _FREE_BITS,
        ),
        Row(
            "lstm-pretraining",
            "encoder-pretraining",
            "encoder pretraining, free bits (Li et al. 2019)",
            "lstm-lm",
            {"model": {"decoder": {"dropout": 0.3}}},
            first=0.25,
        ),
        _plain("scnn-lm", "scnn-vae", "dilated-CNN language model, 15 words"),
        Row("scnn-collapse", "scnn-vae", "the same at β = 1 from the start", "scnn-lm", _COLLAPSE),
        Row("scnn-vae", "scnn-vae", "dilated-CNN VAE (Yang et al. 2017)", "scnn-lm"),
        Row(
            "scnn-free-bits",
            "scnn-vae",
            "a floor of 3.5 nats on the total KL",
            "scnn-lm",
            _FREE_BITS,
        ),
        Row(
            "gpt2-lm",
            "optimus",
            "Transformer language model",
            changes=_GPT2,
        ),
        *(_optimus(free_bits) for free_bits in (0.05, 0.1, 0.25, 0.5, 1.0)),
        Row(
            "gpt2-pretraining",
            "optimus",
            "encoder pretraining with a Transformer",
            "gpt2-lm",
            _GPT2 | {"objective": {"schedule": "linear", "ramp": 0.5, "free_bits": 0.25}},
            first=0.25,
        ),
        Row(
            "t5-lm",
            "t5-vae",
            "the decoder half of T5 as a language model",
            changes=_GPT2,
        ),
        Row("t5-vae", "t5-vae", "T5 VAE (Park & Lee 2021)", "t5-lm", _GPT2),
    )
}


def settings_of(row: Row, texts: Sequence[str], words: int, seed: int) -> Settings:
    """The settings of a row: its recipe, the common tokens and batches, and the budget.

    Args:
        row: The row.
        texts: The training texts.
        words: The budget in words.
        seed: Seed of weights, batches and noise.
    """
    lengths = [len(text.split()) + 1 for text in texts]
    passes = words / sum(lengths)
    common: dict[str, Any] = {
        "data": {
            "tokenizer": "word",
            "vocabulary_size": 10_005,
            "maximum_length": min(256, max(lengths) + 2),
        },
        "model": {
            "latent_size": 32,
            "encoder": {"layers": 1, "hidden_size": 256, "dropout": 0.1},
            "decoder": {"hidden_size": 256, "output": "adaptive"},
        },
        "train": {
            "epochs": passes * (1 - row.first),
            "tokens_per_batch": 1024,
            "sentences_per_batch": 0,
            "learning_rate": 2e-3,
            "evaluations": 4,
            "precision": "float32",  # rows are compared: none may differ by what a machine is
            "log_every": 50,
            "keep": "best",
            "seed": seed,
        },
        "first": {"epochs": passes * row.first},
    }
    recipe = load_recipe(row.recipe)
    settings = with_changes(recipe, merged(common, row.changes), f"row {row.name}")
    return settings if row.plain else change_kind(settings, "language-model")
