"""What evaluate and report share: the figures of a space to walk in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.commands import common

if TYPE_CHECKING:
    from isthmus.evaluation.walking import Extent
    from isthmus.models.base import LatentModel

TRAINING_AT_MOST = 100_000
"""Training texts that are read: a random sample if there are more."""


def measure(
    model: LatentModel,
    run: str,
    texts: list[str],
    *,
    training: str = "",
    judge: str = "",
    encoder: str = "",
    extent: Extent | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], list[str]]:
    """Figures of :func:`isthmus.evaluation.walkability.walkability`, and lines on what they lack.

    Args:
        model: A VAE of texts.
        run: Its run directory.
        texts: What to measure it on.
        training: DATA of the training texts; by default what run.json says, where it still lies.
        judge: A folder of a language model; by default n-grams of the training texts.
        encoder: Of sentences.
        extent: How much to decode.
        seed: Of all draws.
    """
    from isthmus.data.corpus import read
    from isthmus.data.kind import sampled
    from isthmus.evaluation.judge import load_judge
    from isthmus.evaluation.meaning import DEFAULT_ENCODER, find_encoder
    from isthmus.evaluation.walkability import walkability
    from isthmus.evaluation.walking import WHOLE, walked
    from isthmus.runs.bundle import read_run
    from isthmus.runs.training_texts import training_texts

    if getattr(model.config, "vector_size", 0):
        return {}, ["meaning is not measured: it reads new texts, and this run given vectors"]
    extent = extent or WHOLE
    judging = load_judge(judge, texts) if judge else None
    seen = read(training, split="train").texts if training else training_texts(read_run(run))
    seen = [seen[place] for place in sampled(len(seen), TRAINING_AT_MOST, seed)]
    sentences, notes = find_encoder(encoder or DEFAULT_ENCODER)
    with common.bar("walking", extent.work(len(texts))) as progress:
        found = walked(model, texts, seen, extent, seed, progress)
    metrics, more = walkability(found, sentences, judging, extent, seed)
    return metrics, notes + more
