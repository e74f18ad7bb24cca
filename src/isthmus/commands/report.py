"""``isthmus report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.commands.common import (
    Command,
    RunDirectory,
    check_can_write,
    console,
    load_model,
    read_corpus,
)
from isthmus.errors import IsthmusError


@dataclass(frozen=True)
class Report(Command):
    """Write a run as a single HTML page that you can send to someone.

    It shows training curves, the use of every dimension, the evaluation in plain words,
    reconstructions, a walk, samples, settings, fingerprints and versions. The page opens from
    disk; it has no scripts and contacts no server.
    """

    run_directory: RunDirectory
    """A run directory."""
    out: str
    """The .html file to write."""
    data: str = ""
    """Texts or pictures for the map and the reconstructions, in any form that train reads.
    Without it, a run on a built-in corpus uses that corpus."""
    limit: int = 2000
    """Number of texts or pictures to use."""
    seed: int = 0
    """Seed of the samples."""

    def run(self) -> None:
        """Run the model and write the page."""
        if not self.out.endswith((".html", ".htm")):
            raise IsthmusError(f"--out: got {self.out}, expected a name that ends in .html")
        if self.limit < 1:
            raise IsthmusError(f"limit: got {self.limit}, expected at least 1")
        target = check_can_write(self.out)
        from isthmus.runs.bundle import read_run
        from isthmus.studio.examples import own_corpus

        record = read_run(self.run_directory)
        data = self.data or own_corpus(record)
        corpus = read_corpus(data, self.limit, self.run_directory) if data else None
        model = load_model(self.run_directory)
        from isthmus.progress import counting
        from isthmus.studio.excerpts import excerpts, work
        from isthmus.studio.page_report import page

        count = 0 if corpus is None else len(corpus)
        with counting(console(), "running the model", work(count)) as progress:
            shown = excerpts(model, corpus, self.seed, progress)
        text = page(Path(self.run_directory), record, shown, corpus)
        target.write_text(text, encoding="utf-8")
        print(f"{target}: {len(text.encode()) / 1000:,.0f} kB")
