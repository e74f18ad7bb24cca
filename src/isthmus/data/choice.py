"""Settings chosen for texts, a machine and a time: a pure function, whose tables are for editing.

The choice is for a space to walk in. Each text has a summary, in which walks and samples are, and
details that bring it back word for word: a latent for each of its tokens, or a few tokens each.
The model starts as one that copies (`isthmus.models.copying`); training hides most details, so
that the decoder writes from the summary alone. docs/log.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, final

from isthmus.data.profile import Profile
from isthmus.settings import Settings, TextVAESettings, TokenSettings, from_dict

MINUTES: Final = 10.0
"""How long a run without a recipe may take, unless the user says otherwise."""


@final
class Machine(NamedTuple):
    """What a model is trained on."""

    name: str
    operations: float
    """Floating-point operations a second in a product of matrices, on all cores."""


@final
class Network(NamedTuple):
    """Sizes of encoder and decoder."""

    width: int
    encoder_layers: int
    decoder_layers: int
    texts: int
    """Fewer do not fill it."""


NETWORKS: Final = (
    Network(96, 1, 2, 0),
    Network(128, 1, 2, 1_000),
    Network(192, 1, 2, 20_000),
    Network(256, 2, 3, 50_000),
    Network(384, 2, 4, 100_000),
)
"""From small to large; the largest is chosen that sees enough tokens in the time."""
ENOUGH: Final = 4_000_000
"""Tokens that a network has to see, or all texts `PASSES` times."""
PASSES: Final = 30
MOST_PASSES: Final = 25
"""More of the same texts are only learned by heart."""
FEW: Final = 20_000
"""Texts below which the networks have dropout, and the decoder does not see all words before."""
FEWEST: Final = 2_000
"""Texts below which one table of embeddings serves both ends of the decoder: with two, it learns
the texts by heart, and their latents say little."""
LATENTS: Final = 128
"""Latents of a text at most, one for each token; longer texts have several tokens for each."""
SIZES: Final = ((1_000, 16), (math.inf, 32))
"""Vocabulary up to which a token has so many dimensions of its latent."""
SUMMARY: Final = 128
"""Numbers of a summary, at most; the network's width if that is less."""
HIDDEN: Final = 0.9
"""Share of the texts some of whose details training hides."""
LONGEST: Final = 256
"""Tokens of a text that are read at most."""
BETA: Final = 0.2
SHORT: Final = 0.3
"""What the KL of the summary weighs beyond β."""
WORDS: Final = 0.3
"""Weight of predicting a text's words from its summary."""
SAMPLED: Final = 1024
"""Tokens beside those of a batch from which training estimates the softmax of a large
vocabulary."""
OWN: Final = 512
"""Different tokens of a batch, about."""
FIT_PRIOR: Final = 0.06
"""Share of the time for a prior that lies where the texts are, which a small β leaves apart."""
EFFICIENCY: Final = 0.25
"""What training reaches of the speed of one large product of matrices."""
_SYMBOLS: Final = {
    "word": "words",
    "bpe": "byte pairs",
    "character": "characters",
    "smiles": "symbols of SMILES",
}
"""What the tokens of each kind of tokenizer are called."""


def choose(profile: Profile, machine: Machine, minutes: float) -> Settings:
    """The settings of a run without a recipe.

    Args:
        profile: of the training texts.
        machine: what they are trained on.
        minutes: that the command may take; 0 for no limit, which chooses as for an hour.
    """
    length = min(profile.longest, LONGEST - 2)
    tokens = _batch_tokens(profile)
    network = _network(profile, machine, 60 * (minutes or 60))
    longest = max(8, min(LONGEST, length + length // 4 + 2))  # some outside the sample are longer
    values: dict[str, Any] = {
        "model": _model(network, profile, longest),
        "data": {
            "tokenizer": profile.tokenizer,
            "vocabulary_size": profile.vocabulary_size,
            "maximum_length": longest,
            "word_dropout": 0.3 if profile.texts < FEW else 0.0,
        },
        "objective": {
            "schedule": "constant",
            "beta": BETA,
            "words": WORDS,
            "summary_kl": SHORT,
        },
        "train": {
            "minutes": minutes,
            "fit_prior": FIT_PRIOR,
            "epochs": float(MOST_PASSES),
            "tokens_per_batch": tokens,
            "learning_rate": round(2e-3 * math.sqrt(128 / network.width), 5),
            "embedding_rate": 3.0,
            "sampled_vocabulary": SAMPLED if _samples(profile) else 0,
            "evaluations": 8,
            "keep": "last",
        },
    }
    return from_dict(Settings, values, "choice")


def _model(network: Network, profile: Profile, longest: int) -> dict[str, Any]:
    """Its summary, a latent for each token or few, and the networks on either side."""
    block = math.ceil((longest - 1) / LATENTS)
    size = block * next(size for most, size in SIZES if profile.vocabulary_size <= most)
    summary = max(1, min(SUMMARY, network.width) // size)
    part = {"hidden_size": network.width, "heads": 4, "dropout": _dropout(profile)}
    options = {"intermediate_size": 2 * network.width}
    return {
        "latents": summary + math.ceil((longest - 1) / block),
        "latent_size": size,
        "summary": summary,
        "latent_dropout": HIDDEN,
        "start": "copy",
        "bridge": "aligned",
        "bridge_length": block,
        "encoder": {
            **part,
            "architecture": "modernbert",
            "layers": network.encoder_layers,
            "pooling": "blocks",
            "options": options,
        },
        "decoder": {
            **part,
            "architecture": "llama",
            "layers": network.decoder_layers,
            "options": {**options, "tie_word_embeddings": profile.texts < FEWEST},
        },
    }


def _network(profile: Profile, machine: Machine, seconds: float) -> Network:
    """That of a model with an encoder."""
    return largest(NETWORKS, profile, machine, seconds)


def largest(
    networks: Sequence[Network],
    profile: Profile,
    machine: Machine,
    seconds: float,
    enough: int = ENOUGH,
) -> Network:
    """The largest network that has enough texts, and sees enough of them in the time."""
    enough = min(enough, PASSES * profile.tokens)

    def fits(network: Network) -> bool:
        done = machine.operations * EFFICIENCY * seconds / _operations(network, profile)
        return profile.texts >= network.texts and done >= enough

    return next(filter(fits, reversed(networks)), networks[0])


def _operations(network: Network, profile: Profile) -> float:
    """Of training, for a token: 2 in each weight forwards, and twice as many backwards."""
    layers = network.encoder_layers + network.decoder_layers
    outputs = OWN + SAMPLED if _samples(profile) else profile.vocabulary_size
    return 6.0 * (12 * layers * network.width**2 + network.width * outputs)


def _samples(profile: Profile) -> bool:
    return profile.vocabulary_size > 2 * SAMPLED


def _batch_tokens(profile: Profile) -> int:
    """A power of two, so that an epoch has some sixteen batches; always several texts."""
    wanted = 2 ** round(math.log2(max(1, profile.tokens / 16)))
    several = 2 ** math.ceil(math.log2(8 * (min(profile.longest, LONGEST) + 2)))
    return max(several, min(2048, max(256, wanted)))


def _dropout(profile: Profile) -> float:
    """Few texts are seen many times."""
    return 0.1 if profile.texts < FEW else 0.0


def reasons(settings: Settings, profile: Profile, machine: Machine) -> list[str]:
    """Three lines: the texts and their tokens, the latent, the networks and the time."""
    model, data, train = settings.model, settings.data, settings.train
    assert isinstance(model, TextVAESettings)
    assert isinstance(data, TokenSettings)
    copies = f" ({profile.copies:.0%} copies)" if profile.copies >= 0.01 else ""
    each = f"about {profile.words:.0f} words each" if profile.has_words else "without spaces"
    name = profile.script if len(profile.script) < 4 else profile.script.title()  # CJK, Latin
    script = f", mostly {name}" if name else ""
    unused = ""
    if profile.labels > 1 and model.labels == "none":
        unused = f"; the {profile.labels:,} labels are not used (--model.labels given)"
    length = f"{train.steps:,} steps" if train.steps else f"{train.epochs:g} passes"
    return [
        f"{profile.texts:,} texts{copies}, {each}, {profile.characters:,} different characters"
        f"{script} → up to {data.vocabulary_size:,} "
        f"{_SYMBOLS[data.tokenizer]}{unused}",
        f"{profile.length:,} tokens in the median text, {profile.longest:,} cover 99 % → "
        f"{data.maximum_length:,} are read, {_latents(model)} of {model.latent_size} numbers; "
        f"β = {settings.objective.beta:g}, so that what goes in comes back",
        f"{machine.name}, {machine.operations / 1e9:,.0f} GFLOP/s → "
        f"{model.encoder.source or model.encoder.layers} + {model.decoder.layers} layers of width "
        f"{model.decoder.hidden_size}, batches of {train.tokens_per_batch:,} tokens, at most "
        f"{length}{at_most(settings)}",
    ]


def at_most(settings: Settings) -> str:
    """How long training may take, to end a line with; empty without a limit."""
    minutes = settings.train.minutes
    return f", at most {minutes:g} minute{'' if minutes == 1 else 's'}" if minutes else ""


def _latents(model: TextVAESettings) -> str:
    if not model.summary:
        return f"{model.latents} latent{'s' if model.latents > 1 else ''}"
    return f"{model.latents} latents, {model.summary} of them a summary,"


TYPICAL: Final = choose(
    Profile(
        texts=100_000,
        copies=0.0,
        script="LATIN",
        words=10.0,
        characters=80,
        labels=0,
        tokenizer="bpe",
        vocabulary_size=4096,
        length=12,
        longest=30,
        tokens=1_200_000,
    ),
    Machine("2 cores", 2e11),
    MINUTES,
)
"""What the help shows."""
