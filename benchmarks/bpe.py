"""How much evidence a merge of byte pairs needs: language models on small files, three seeds.

    python benchmarks/bpe.py      # half an hour on one thread; finished runs are kept

A pair that occurs once makes a token that the model sees once: it learns nothing about it, and the
same letters in a validation text are cut otherwise. The same recurrent language model is trained
on tokenizers that merge pairs from 1, 2, 3 and 5 occurrences on; nats a text compare what
perplexities of different tokens cannot. Data: Yelp (label columns are not read), molecules, and
uniform DNA, whose entropy is known: 60 letters, 60 · log 4 = 83.18 nats.
"""

from __future__ import annotations

import gzip
from functools import partial
from itertools import islice
from typing import Any, Final

import numpy as np
import torch

from common import (
    DATA,
    RUNS,
    all_kept,
    figure,
    once,
    one_thread,
    plus_minus,
    settings_of,
    table,
    trained,
    write,
)
from isthmus.data import tokens
from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import Splits
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate

COUNTS: Final = (1, 2, 3, 5)
SEEDS: Final = (0, 1, 2)
VOCABULARY: Final = 8000
SIZES: Final = {"dna": (300, 40), "yelp": (380, 40), "molecules": (1000, 40)}
"""Corpus → training texts, epochs."""
FOLDER: Final = RUNS / "bpe"


def dna(count: int, seed: int) -> list[str]:
    letters = np.random.default_rng(seed).choice(list("ACGT"), (count, 60))
    return ["".join(row) for row in letters]


def lines(corpus: str, split: str, count: int) -> list[str]:
    (path,) = (DATA / corpus).glob(f"{split}.*")
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t")[-1] for line in islice(file, count)]


def measure(corpus: str, minimum: int, seed: int) -> dict[str, Any]:
    count, epochs = SIZES[corpus]
    if corpus == "dna":
        train, valid = dna(count, 1), dna(200, 2)
    else:
        train, valid = lines(corpus, "train", count), lines(corpus, "valid", 500)
    merging = tokens.train_bpe
    tokens.train_bpe = partial(merging, minimum_count=minimum)  # no setting: 2 is for everybody
    settings = settings_of(
        "ctrl",
        {
            "model": {"labels": "none", "rivals": 0},
            "data": {"tokenizer": "bpe", "vocabulary_size": VOCABULARY, "code_dropout": 0.0},
            "objective": {"classification": 0.0},
            "train": {"epochs": epochs, "tokens_per_batch": 1024, "evaluations": 12, "seed": seed},
        },
        {"model": {"decoder": {"architecture": "lstm", "hidden_size": 128, "output": "softmax"}}},
    )
    splits = Splits(*(TextCorpus(part, None, corpus) for part in (train, valid)), None, {})
    model = trained(FOLDER / f"{corpus}-{minimum}-{seed}", settings, splits)
    tokens.train_bpe = merging
    examples = model.codec.prepare(valid)
    unseen = examples.unseen(model.codec.prepare(train))
    return {
        "corpus": corpus,
        "minimum": minimum,
        "seed": seed,
        "vocabulary": len(merging(train, VOCABULARY, minimum)),
        "nats": figure(Estimate.mean_of(bounds(model, examples, samples=1).reconstruction)),
        "unseen_tokens": unseen.tokens,
    }


def report(rows: list[dict[str, Any]]) -> str:
    """Nats a validation text, mean over seeds, and the share of tokens without a training text."""
    lines_ = []
    for corpus, (count, _) in SIZES.items():
        for minimum in COUNTS:
            of = [row for row in rows if (row["corpus"], row["minimum"]) == (corpus, minimum)]
            if of:
                nats = Estimate.mean_of(torch.tensor([row["nats"]["value"] for row in of]))
                shown = plus_minus(nats.value, nats.standard_error if len(of) > 1 else None, 1)
                cells = (of[0]["vocabulary"], f"{of[0]['unseen_tokens']:.1%}", shown, len(of))
                lines_.append((f"{corpus}, {count} texts", minimum, *cells))
    head = ("corpus", "least count", "vocabulary", "unseen tokens", "nats a text", "seeds")
    return "\n".join(table(head, lines_)) + "\n\n± is over seeds; DNA has 83.18 nats of entropy.\n"


def main() -> None:
    one_thread()
    for seed in SEEDS:
        for corpus in SIZES:
            for minimum in COUNTS:
                path = FOLDER / "figures" / f"{corpus}-{minimum}-{seed}.json"
                once(path, partial(measure, corpus, minimum, seed))
        rows = all_kept(FOLDER / "figures")
        write("bpe", {"rows": rows}, report(rows))


if __name__ == "__main__":
    main()
