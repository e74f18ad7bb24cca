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
    """Write a run as one HTML page to send to someone.

    Training curves, use of every dimension, the evaluation with readings in plain words,
    reconstructions, a walk, samples, settings, fingerprints and versions. The page opens from
    disk, holds no script and asks no host for anything.
    """

    run_directory: RunDirectory
    """A run directory."""
    out: str
    """The .html file."""
    data: str = ""
    """Texts or pictures, in any form that train reads, for the map and the reconstructions. A run
    of a built-in corpus takes that."""
    limit: int = 2000
    """So many of them."""
    seed: int = 0
    """Of the samples."""

    def run(self) -> None:
        """Ask the model, draw, write."""
        if not self.out.endswith((".html", ".htm")):
            raise IsthmusError(f"--out: expected a name that ends with .html, got {self.out}")
        if self.limit < 1:
            raise IsthmusError(f"limit must be ≥ 1, got {self.limit}")
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
        with counting(console(), "asking the model", work(count)) as progress:
            shown = excerpts(model, corpus, self.seed, progress)
        text = page(Path(self.run_directory), record, shown, corpus)
        target.write_text(text, encoding="utf-8")
        print(f"{target}: {len(text.encode()) / 1000:,.0f} kB")
