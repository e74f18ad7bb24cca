"""``isthmus transfer``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from isthmus.commands.common import (
    Command,
    Data,
    RunDirectory,
    console,
    emit,
    encode,
    load_model,
    read_corpus,
)
from isthmus.errors import IsthmusError

KNOWN: Final = 10_000
"""Texts that show where labels lie, at most."""
AT_ONCE: Final = 64
"""Texts between two updates of the progress bar."""


@dataclass(frozen=True)
class Transfer(Command):
    """Write texts anew under another label and keep what they say (style transfer).

    A text is encoded and moved no further than it takes until the run itself finds the wanted
    label in it. A text that never gets there is written under the label without being moved.
    """

    run_directory: RunDirectory
    """A run directory whose decoder reads a label and a latent (--recipe style)."""
    data: Data
    """Texts, in any form that train reads; "-" for standard input."""
    label: str
    """The label to write them under."""
    known: str = ""
    """Texts that show where the latents of each label lie, best the training file; DATA itself if
    absent. The run predicts labels that are not given."""
    certainty: float = 0.95
    """Probability of the wanted label, 0 to 1, at which a text is moved no further: a higher one
    changes more texts, and changes them more."""
    limit: int = 0
    """Read only the first N texts; 0 for all."""
    json: bool = False
    """JSON Lines with text, its label, the written text, and the probability of the new label."""

    def run(self) -> None:
        """Encode, move, write."""
        if not 0 <= self.certainty <= 1:
            raise IsthmusError(f"certainty: got {self.certainty}, expected 0 to 1")
        corpus = read_corpus(self.data, self.limit, self.run_directory)
        known = read_corpus(self.known, KNOWN, self.run_directory) if self.known else corpus
        model = load_model(self.run_directory)
        from isthmus.data.labelled import label_index
        from isthmus.explore.transfer import WAY, Change, label_means, least_change
        from isthmus.explore.walks import likely_labels
        from isthmus.models.labels import label_set, labelled
        from isthmus.progress import counting

        names = label_set(model).read_names
        if not names or len(model.latent_shape) != 1:
            raise IsthmusError(
                f"{self.run_directory}: has no label that its decoder reads next to a latent "
                "vector; train a run with --recipe style"
            )
        place = label_index(self.label, names)
        texts = corpus.examples
        own, z = likely_labels(model, texts), encode(model, texts).mean
        where = z if known is corpus else encode(model, known.examples).mean
        means = label_means(where, known.labels or likely_labels(model, known.examples))
        rows = [row for row, label in enumerate(own) if label != self.label]
        written = list(texts)
        with counting(console(), "writing", len(rows)) as progress:
            for start in range(0, len(rows), AT_ONCE):
                part = rows[start : start + AT_ONCE]
                change = Change([own[row] for row in part], [self.label] * len(part), means)
                found = least_change(model, z[part], change, WAY, self.certainty)
                for row, text in zip(part, found, strict=True):
                    written[row] = text
                progress(len(part))
        sure = labelled(model).classify(written)[:, place].tolist()
        records: list[dict[str, Any]] = [
            {"text": text, "label": label, "written": new, "probability": probability}
            for text, label, new, probability in zip(texts, own, written, sure, strict=True)
        ]
        emit(records, self.json, "{text}\n  → {written}")
