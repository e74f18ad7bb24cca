"""``isthmus transfer``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from isthmus.commands import common
from isthmus.errors import IsthmusError

KNOWN: Final = 10_000
"""Use at most this many texts of --known."""
AT_ONCE: Final = 64
"""Texts between two updates of the progress bar."""


@dataclass(frozen=True, kw_only=True)
class Transfer(common.OnCorpus):
    """Rewrite texts under another label and keep their content (style transfer).

    Each text is encoded, and its latent is moved towards the label just far enough that the run
    predicts the label for the text decoded from it. If no distance is far enough, the text is
    decoded under the label from its own latent. Of a run with a summary (--model.summary) the
    summary is moved, and details, which hold the words of the text, are hidden.
    """

    run_directory: common.RunDirectory
    """A run directory whose decoder reads a label and a latent (--recipe style)."""
    data: common.Data
    """Texts, in any form that train reads; "-" for standard input."""
    label: str
    """The new label."""
    known: str = ""
    """Texts to compute the mean latent of each label from, best the training file.
    By default DATA. If these texts have no labels, the run predicts them."""
    certainty: float = 0.95
    """Move a latent until the new label has this probability, 0 to 1.
    A higher probability changes more of the texts, and changes each of them more."""
    json: bool = False
    """Print JSON Lines with the text, its label, the new text, and the new label's probability."""

    def run(self) -> None:
        if not 0 <= self.certainty <= 1:
            raise IsthmusError(f"certainty: got {self.certainty}, expected 0 to 1")
        corpus = self.corpus()
        known = corpus
        if self.known:  # a sample: files sorted by label are common
            known = common.read_corpus(self.known, run=self.run_directory).sample(KNOWN, 0)
        model = self.load()
        from isthmus.data.labelled import label_index
        from isthmus.explore.transfer import WAY, Change, label_means, least_change
        from isthmus.explore.walks import likely_labels
        from isthmus.models.base import summarised
        from isthmus.models.labels import label_set, labelled

        names = label_set(model).read_names
        if not names or not math.prod(model.latent_shape):
            raise IsthmusError(
                f"{self.run_directory}: its decoder does not read both a label and a latent "
                "vector; train a run with --recipe style"
            )
        place = label_index(self.label, names)
        texts = corpus.examples
        own = likely_labels(model, texts)
        with summarised(model):
            z = common.encode(model, texts).mean
            where = z if known is corpus else common.encode(model, known.examples).mean
        means = label_means(where, known.labels or likely_labels(model, known.examples))
        rows = [row for row, label in enumerate(own) if label != self.label]
        written = list(texts)
        with common.bar("writing", len(rows)) as progress:
            for start in range(0, len(rows), AT_ONCE):
                part = rows[start : start + AT_ONCE]
                change = Change([own[row] for row in part], [self.label] * len(part), means)
                found = least_change(model, z[part], change, WAY, self.certainty)
                for row, text in zip(part, found, strict=True):
                    written[row] = text
                progress(len(part))
        sure = labelled(model).classify(written)[:, place].tolist()
        columns = {"text": texts, "label": own, "written": written, "probability": sure}
        common.emit(common.rows(columns), self.json, "{text}\n  → {written}")
