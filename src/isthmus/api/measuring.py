"""The figures of a space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.api.given import Data, check_least, corpus_named, examples_of, model_of
from isthmus.data.corpus import read
from isthmus.evaluation import metrics
from isthmus.evaluation.meaning import find_encoder
from isthmus.evaluation.retrieval import pair_metrics, read_pairs
from isthmus.evaluation.walkability import walkability
from isthmus.evaluation.walking import WHOLE, walked
from isthmus.progress import console, counting


def evaluate(
    space: Any,
    data: Data,
    *,
    samples: int = 100,
    texts: int = 1000,
    seed: int = 0,
    meaning: bool = False,
    training: Data = (),
    retrieval: str | Path | None = None,
) -> dict[str, Any]:
    """Every figure of ``isthmus evaluate``, in nats per example unless its name says otherwise.

    Args:
        space: A space or a model.
        data: What to measure it on.
        samples: K of the importance-weighted bound.
        texts: How many examples to decode for exact match, BLEU and diversity.
        seed: Of all noise.
        meaning: Also measure whether the space is worth walking in, as ``--meaning`` does.
        training: The training texts, for that; without them others of ``data`` take their place.
        retrieval: A file of pairs of texts, to measure how near each other they lie, as
            ``--retrieval`` does.

    Returns:
        The keys that docs/numbers.md explains; ``x_se`` is the standard error of ``x``.
    """
    check_least(1, samples=samples)
    check_least(0, texts=texts, seed=seed)
    model = model_of(space)
    pairs = None if retrieval is None else read_pairs(retrieval)
    corpus, given = corpus_named(model, data)
    examples = model.read(given)
    with counting(console(), "evaluating", metrics.work(model, examples, texts)) as progress:
        found = metrics.evaluate(
            model,
            examples,
            samples=samples,
            texts=texts,
            seed=seed,
            labels=corpus.labels if corpus else None,
            floor=corpus.floor if corpus else None,
            progress=progress,
        )
    if pairs is not None:
        with counting(console(), "encoding", 2 * len(pairs.first)) as progress:
            found |= pair_metrics(model, pairs, progress)
    if not meaning:
        return found
    named = isinstance(training, str | Path)
    seen = read(training, split="train").texts if named else examples_of(training)
    encoder, notes = find_encoder()
    with counting(console(), "walking", WHOLE.work(len(given))) as progress:
        there = walked(model, given, seen, seed=seed, progress=progress)
    figures, more = walkability(there, encoder, seed=seed)
    for note in notes + more:
        console().print(f"note: {note}", highlight=False, markup=False)
    return found | figures
