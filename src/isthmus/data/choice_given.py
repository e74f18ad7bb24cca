"""Settings chosen where texts come with their vectors: a decoder that writes what a vector says.

Nothing but the vector tells the decoder of its text. So all of it goes there: one latent, as wide
as the vector or :data:`WIDEST`, with little noise, that the decoder reads beside each token and in
slots of its attention. It starts by knowing which words a vector stands for
(`isthmus.models.given`). docs/inversion.md has the figures.
"""

from __future__ import annotations

import math
from typing import Any, Final

from isthmus.data import choice
from isthmus.data.choice import Machine, Network
from isthmus.data.profile import Profile
from isthmus.settings import Settings, TextVAESettings, TokenSettings, from_dict

NETWORKS: Final = (
    Network(96, 0, 2, 0),
    Network(128, 0, 2, 1_000),
    Network(192, 0, 3, 10_000),
    Network(256, 0, 3, 30_000),
    Network(384, 0, 4, 100_000),
)
"""From small to large; the largest is chosen that sees enough tokens in the time."""
ENOUGH: Final = 2_500_000
"""Tokens that a network has to see: fewer than where it has to learn an encoder."""
WIDEST: Final = 512
"""Numbers of the latent, at most: the principal directions of wider vectors."""
SLOTS: Final = 8
"""What the attention of each layer finds of the latent before the text."""
BETA: Final = 0.02
HIDDEN: Final = 0.1
"""Share of the texts whose latent training hides, half of the time, so that the decoder also knows
how probable a text is without its vector."""


def choose_given(profile: Profile, machine: Machine, minutes: float, width: int) -> Settings:
    """The settings of a run without a recipe on texts with vectors.

    Args:
        profile: of the training texts.
        machine: what they are trained on.
        minutes: that the command may take; 0 for no limit.
        width: E, numbers of a vector.
    """
    settings = choice.choose(profile, machine, minutes)
    network = choice.largest(NETWORKS, profile, machine, 60 * (minutes or 60), ENOUGH)
    few = profile.texts < choice.FEW
    data, train = settings.data, settings.train
    assert isinstance(data, TokenSettings)
    values: dict[str, Any] = {
        "model": {
            "latent_size": min(width, WIDEST),
            "latent_dropout": HIDDEN,
            "start": "copy",
            "bridge": "embedding+memory",
            "bridge_length": SLOTS,
            "decoder": {
                "architecture": "llama",
                "layers": network.decoder_layers,
                "hidden_size": network.width,
                "heads": 4,
                "dropout": 0.1 if few else 0.0,
                "options": {"intermediate_size": 2 * network.width},
            },
        },
        "data": {
            "tokenizer": data.tokenizer,
            "vocabulary_size": data.vocabulary_size,
            "maximum_length": data.maximum_length,
            "word_dropout": 0.1 if few else 0.0,
        },
        "objective": {"schedule": "constant", "beta": BETA},
        "train": {
            "minutes": minutes,
            "epochs": train.epochs,
            "tokens_per_batch": train.tokens_per_batch,
            "learning_rate": round(2e-3 * math.sqrt(128 / network.width), 5),
            "embedding_rate": 3.0,
            "sampled_vocabulary": train.sampled_vocabulary,
            "evaluations": 8,
            "keep": "last",
        },
    }
    return from_dict(Settings, values, "choice")


def reasons_given(settings: Settings, profile: Profile, machine: Machine, width: int) -> list[str]:
    """What to say in the place of what the choice without vectors says of latents and networks."""
    model = settings.model
    first, _, last = choice.reasons(settings, profile, machine)
    if not isinstance(model, TextVAESettings):
        return [first, last]
    return [
        first,
        f"vectors of {width:,} numbers, no encoder → {model.latent_size * model.latents:,} for "
        f"the decoder, which reads them beside each token; β = {settings.objective.beta:g}, "
        "so that a text comes back from its vector",
        last.replace(f"{model.encoder.layers} + ", ""),
    ]
