"""``isthmus invert``."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from isthmus.commands import common
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.evaluation.inversion import Known

ROWS = (
    ("token_f1", "token F1"),
    ("bleu", "BLEU"),
    ("exact_match", "word for word"),
    ("cosine", "cosine to the vector"),
)
WAYS = (("", "inverted"), ("first_", "without correction"), ("nearest_", "nearest training text"))
ALONE = (
    ("cosine_gain", "cosine that correction adds, paired"),
    ("token_f1_gain", "token F1 that correction adds, paired"),
    ("token_f1_over_nearest", "token F1 above the nearest training text, paired"),
    ("way", "share of the way from the nearest training text's cosine to 1"),
    ("neighbours_kept", "share of a vector's 10 nearest training texts that its text keeps"),
    ("neighbours_kept_by_z", "share of a vector's 10 nearest training texts its latent keeps"),
    ("nats", "−log p(text | vector), nats"),
    ("nats_without", "−log p(text), nats"),
    ("nats_in_vector", "nats of a text that its vector holds"),
)


@dataclass(frozen=True, kw_only=True)
class Invert(common.OnRun):
    """Write the texts of vectors that came without any, such as embeddings.

    The run is one that was trained with --embeddings on vectors of the same encoder. With
    --encoder, that encoder reads drafts again, and what lies nearest to the vector stays.
    """

    vectors: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="VECTORS")]
    """A file of vectors, in any form that train --embeddings reads."""
    encoder: str = ""
    """The encoder that made the vectors, to correct texts with: a folder of
    sentence-transformers, a package of weights or a hub name. Empty for no correction."""
    rounds: int = 10
    """Rounds of correction; each lets the encoder read some 30 drafts of every text."""
    texts: str = ""
    """The texts that the vectors stand for, in the same order or with the same ids, to measure
    what comes back."""
    training: str = ""
    """The training texts, for the nearest of them as a ruler. By default the run's own, if they
    are still where they were."""
    training_embeddings: str = ""
    """The vectors of --training."""
    limit: int = 0
    """Invert only the first N vectors; 0 for all."""
    json: bool = False
    """Print JSON Lines, one object per vector; with --texts a last one of all figures."""
    seed: int = 0
    """Seed of all random draws."""

    def run(self) -> None:
        if self.rounds < 0 or self.limit < 0:
            raise IsthmusError(
                f"expected rounds ≥ 0 and limit ≥ 0, got {self.rounds} and {self.limit}"
            )
        if bool(self.training) != bool(self.training_embeddings):
            raise IsthmusError("--training and --training-embeddings need each other")
        from isthmus.data.corpus import read
        from isthmus.data.vectors import read_vectors, stacked

        limit = self.limit or None
        texts = None
        if self.texts:
            texts = read(self.texts, limit=limit, embeddings=self.vectors).examples
        rows = stacked(texts) if texts else read_vectors(self.vectors, "test").rows[:limit]
        model = self.load()
        from isthmus.evaluation.meaning import SentenceEncoder
        from isthmus.models.inversion import as_tensor, invert
        from isthmus.models.text_model import text_model

        space, vectors = text_model(model), as_tensor(rows)
        embed = SentenceEncoder(self.encoder).embed if self.encoder else None
        with common.bar("inverting", len(vectors)) as progress:
            found = invert(
                space, vectors, embed, rounds=self.rounds, seed=self.seed, progress=progress
            )
        columns: dict[str, Any] = {"text": found.texts}
        plain = "{text}"
        if found.cosines is not None:
            columns |= {"first": found.first, "cosine": found.cosines.tolist()}
        if texts is not None:
            columns = {"original": [str(text) for text in texts]} | columns
            plain = "{original}\n  → {text}"
        common.emit(common.rows(columns), self.json, plain)
        if texts is None:
            return
        from isthmus.evaluation.inversion import inversion_metrics
        from isthmus.evaluation.metrics import finite

        metrics = inversion_metrics(space, vectors, found, texts, self._known())
        if self.json:
            sys.stdout.write(json.dumps(finite(metrics)) + "\n")
        else:
            print_figures(metrics)

    def _known(self) -> Known | None:
        """The training texts and their vectors, if they are to be had."""
        from isthmus.data.corpus import read
        from isthmus.data.vectors import stacked, width_of
        from isthmus.evaluation.inversion import Known
        from isthmus.runs.bundle import read_run
        from isthmus.runs.training_texts import training_texts

        if self.training:
            seen = read(self.training, split="train", embeddings=self.training_embeddings).texts
        else:
            seen = training_texts(read_run(self.run_directory))
        if not width_of(seen):
            common.console().print(
                "note: the training texts are not where they were, so the nearest of them is no "
                "ruler; give --training and --training-embeddings",
                markup=False,
            )
            return None
        return Known(seen, stacked(seen))


def print_figures(metrics: dict[str, Any]) -> None:
    """The figures as a table, each with its standard error."""
    ways = [(key, name) for key, name in WAYS if f"{key}token_f1" in metrics]
    print(f"\n{'':<24}" + "".join(f"{name:>24}" for _, name in ways))
    for key, name in ROWS:
        cells = "".join(f"{_shown(metrics, way + key):>24}" for way, _ in ways)
        print(f"{name:<24}{cells}")
    print()
    for key, name in ALONE:
        if key in metrics:
            print(f"{name:<66} {_shown(metrics, key):>20}")


def _shown(metrics: dict[str, Any], key: str) -> str:
    value, error = metrics.get(key), metrics.get(f"{key}_se")
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")
