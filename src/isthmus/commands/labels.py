"""``isthmus classify``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.commands.common import OnCorpus, accuracy_line, bar, emit, figures
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from torch import Tensor

    from isthmus.models.labels import LabelSet


@dataclass(frozen=True, kw_only=True)
class Classify(OnCorpus):
    """Predict the labels of texts or pictures.

    The run must be trained with --model.labels given, or with --model.clusters; then the labels
    are clusters. If DATA has labels, standard error shows the accuracy.
    """

    json: bool = False
    """Print JSON Lines with the label, its probability and the probabilities of all labels.
    Each object also has the text, or the name of the picture."""

    def run(self) -> None:
        corpus = self.corpus()
        model = self.load("encoder")
        from isthmus.models.labels import label_set, labelled

        names = label_set(model).names
        if not names:
            raise IsthmusError(
                f"{self.run_directory}: has no labels; train a run with --model.labels given or "
                "--model.clusters"
            )
        with bar("classifying", len(corpus)) as progress:
            probabilities = labelled(model).classify(corpus.examples, progress)
        if corpus.labels is not None:
            found = judgement(
                label_set(model), probabilities, corpus.labels, corpus.kind.field, self.json
            )
            print(found, file=sys.stderr)
        records = [
            {
                "label": names[row.index(max(row))],
                "probability": max(row),
                "probabilities": dict(zip(names, row, strict=True)),
                corpus.kind.field: name,
            }
            for row, name in zip(probabilities.tolist(), corpus.names, strict=True)
        ]
        emit(records, self.json, f"{{label}}\t{{probability:.3f}}\t{{{corpus.kind.field}}}")


def judgement(
    known: LabelSet, probabilities: Tensor, labels: list[str], unit: str, as_json: bool
) -> str:
    """A line that compares the predicted labels with the true ones."""
    from isthmus.data.labelled import label_index
    from isthmus.evaluation.clustering import clustering_metrics
    from isthmus.evaluation.labels import accuracy

    if known.clusters:
        agreement = clustering_metrics(labels, probabilities.argmax(-1).tolist())
        return f"agreement with the labels: {figures(agreement, as_json)}"
    for label in sorted(set(labels)):
        label_index(label, known.names)
    return accuracy_line(accuracy(probabilities, known.names, labels), unit)
