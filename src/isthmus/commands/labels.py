"""``isthmus classify``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.commands.common import (
    Command,
    Data,
    RunDirectory,
    console,
    emit,
    load_model,
    read_corpus,
)
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from torch import Tensor

    from isthmus.models.labels import LabelSet


@dataclass(frozen=True)
class Classify(Command):
    """Predict the label of texts or pictures; with labels in DATA, report the accuracy.

    For a run with --model.labels given; if it was trained with --model.clusters instead, the
    labels are clusters.
    """

    run_directory: RunDirectory
    """A run directory."""
    data: Data
    """Texts or pictures, in any form that train reads; "-" for standard input."""
    limit: int = 0
    """Read only the first N; 0 for all."""
    json: bool = False
    """JSON Lines with label, its probability, the probabilities of all labels, and the text (or
    the name of the picture)."""

    def run(self) -> None:
        """Classify."""
        corpus = read_corpus(self.data, self.limit, self.run_directory)
        model = load_model(self.run_directory)
        from isthmus.models.labels import label_set, labelled
        from isthmus.progress import counting

        names = label_set(model).names
        if not names:
            raise IsthmusError(
                f"{self.run_directory}: has no labels; train one with --model.labels given or "
                "--model.clusters"
            )
        with counting(console(), "classifying", len(corpus)) as progress:
            probabilities = labelled(model).classify(corpus.examples, progress)
        if corpus.labels is not None:
            found = judgement(label_set(model), probabilities, corpus.labels, corpus.kind.field)
            print(found, file=sys.stderr)
        records = [
            {
                "label": names[max(range(len(row)), key=row.__getitem__)],
                "probability": max(row),
                "probabilities": dict(zip(names, row, strict=True)),
                corpus.kind.field: name,
            }
            for row, name in zip(probabilities.tolist(), corpus.names, strict=True)
        ]
        emit(records, self.json, f"{{label}}\t{{probability:.3f}}\t{{{corpus.kind.field}}}")


def judgement(known: LabelSet, probabilities: Tensor, labels: list[str], kind: str) -> str:
    """One line on how well the predicted labels agree with the true ones."""
    from isthmus.data.labelled import label_index
    from isthmus.evaluation.clustering import clustering_metrics
    from isthmus.evaluation.labels import accuracy

    if known.clusters:
        agreement = clustering_metrics(labels, probabilities.argmax(-1).tolist())
        return f"agreement with the labels: {json.dumps(agreement)}"
    for label in sorted(set(labels)):
        label_index(label, known.names)
    found = accuracy(probabilities, known.names, labels)
    error = "" if found.standard_error is None else f" ± {found.standard_error:.4f}"
    return f"accuracy: {found.value:.4f}{error} of {found.count:,} {kind}s"
