"""``isthmus report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.commands import common
from isthmus.commands.meaning import measure
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.models.base import LatentModel


@dataclass(frozen=True, kw_only=True)
class Report(common.OnRun):
    """Write a report on a run: a single HTML page that you can send to someone.

    It shows training curves, the use of every dimension, the evaluation in plain words,
    reconstructions, an interpolation and samples. It also lists the settings, the software
    versions, and fingerprints of the data. The page has no scripts and loads nothing from the
    network.
    """

    out: str
    """The .html file to write."""
    data: str = ""
    """Texts or pictures for the map and the reconstructions, in any form that train reads.
    By default those of the built-in corpus, if the run was trained on one."""
    embeddings: str = ""
    """The vectors of the texts (a run that was trained with --embeddings)."""
    limit: int = 2000
    """Use only a random sample of N texts or pictures."""
    meaning: bool = True
    """Of texts, also show what of the meaning comes back, walks between pairs, fluency, and how
    far a text reaches; see evaluate --meaning, which measures more texts."""
    training: str = ""
    """The training texts, as for evaluate --meaning."""
    seed: int = 0
    """Seed of all random draws."""

    def run(self) -> None:
        if not self.out.endswith((".html", ".htm")):
            raise IsthmusError(f"--out: got {self.out}, expected a name that ends in .html")
        common.check_positive(limit=self.limit)
        target = common.check_can_write(self.out)
        from isthmus.runs.bundle import RUN_FILE, read_run
        from isthmus.runs.folders import reading
        from isthmus.studio.examples import own_corpus

        record = read_run(self.run_directory)
        data = self.data or own_corpus(record)
        corpus = None
        if data:
            corpus = common.read_corpus(data, run=self.run_directory, embeddings=self.embeddings)
        corpus = corpus and corpus.sample(self.limit, self.seed)
        model = self.load()
        from isthmus.studio.excerpts import excerpts, work
        from isthmus.studio.page_report import page

        count = 0 if corpus is None else len(corpus)
        with common.bar("running the model", work(count)) as progress:
            shown = excerpts(model, corpus, self.seed, progress)
        if self.meaning and corpus is not None and shown.originals and model.kind.name == "text":
            walked, notes = self.walked(model, corpus.examples)
            record["metrics"] = (record.get("metrics") or {}) | walked
            shown.skipped.extend(notes)
        with reading(Path(self.run_directory) / RUN_FILE):
            text = page(Path(self.run_directory), record, shown, corpus)
        target.write_text(text, encoding="utf-8")
        print(f"{target}: {len(text.encode()) / 1000:,.0f} kB")

    def walked(self, model: LatentModel, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
        """Figures of a space to walk in, of fewer texts than evaluate takes."""
        from isthmus.evaluation.walking import Extent

        few = Extent(texts=200, pairs=50, samples=200, moved=50, nearest=500)
        return measure(
            model,
            self.run_directory,
            texts,
            training=self.training,
            extent=few,
            seed=self.seed,
        )
