"""``isthmus signs``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from isthmus.commands.common import Command, console
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.signs import inscriptions


@dataclass(frozen=True)
class Signs(Command):
    """Recover the inventory of an undeciphered script.

    report DATA: cluster the signs' pictures, and write a page with what may be one sign, what may
    be several, how many signs there are, and tables to decide in. apply FOLDER: the sign list that
    follows from the decisions in a report's tables.
    """

    what: Annotated[
        tyro.conf.Positional[Literal["report", "apply"]], tyro.conf.arg(metavar="WHAT")
    ]
    """report or apply."""
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """For report: an .npz file with ids, images and paths, or a folder of pictures with order.txt
    (file names, a sequence a line) or transliteration.txt (sign names). For apply: the folder of a
    report."""
    out: str = ""
    """The folder of the report."""
    codes: str = ""
    """An .npz file with codes [M P], a row for each picture; principal components of the
    normalised pictures if absent."""
    components: int = 64
    """How many principal components."""
    deslant: bool = False
    """Straighten slanted writing before that."""
    clusters: int = 0
    """How many; 0 takes the middle of the interval for the number of signs."""
    method: Literal["kmeans", "gmm", "ward", "hdbscan"] = "kmeans"
    """Of the clusters: k-means, Gaussian mixture, Ward's hierarchy, HDBSCAN (finds its own
    number)."""
    seeds: int = 5
    """Runs that the confidence of each picture is measured with."""
    fold_variants: bool = False
    """Count M157-A and M157-B as M157."""
    by_token: bool = False
    """Let a picture weigh as much as it has tokens."""
    json: bool = False
    """Print the summary as one JSON object."""

    def run(self) -> None:
        """Do it."""
        if self.what == "apply":
            from isthmus.signs.decisions import apply_decisions

            print(apply_decisions(Path(self.data)))
            return
        if not self.out:
            raise IsthmusError("--out: give the folder of the report, for example --out report")
        if self.seeds < 2:
            raise IsthmusError(f"seeds must be ≥ 2 for a confidence, got {self.seeds}")
        from isthmus.progress import counting
        from isthmus.signs.decisions import check_undecided
        from isthmus.signs.inscriptions import read
        from isthmus.signs.report import PIECES, analyse, summary, write

        check_undecided(Path(self.out))
        signs = read(self.data)
        for line in [signs.report(), *signs.warnings]:
            print(line, file=sys.stderr)
        codes, codes_from = self._codes(signs)
        with counting(console(), "clustering", PIECES + self.seeds) as progress:
            report = analyse(
                signs,
                codes,
                codes_from,
                self.clusters,
                self.method,
                self.seeds,
                self.fold_variants,
                self.by_token,
                progress,
            )
        write(report, Path(self.out))
        if self.json:
            print(json.dumps(summary(report), ensure_ascii=False))
            return
        told = [str(Path(self.out) / "index.html")]
        told += report.number.report() if report.number else []
        told.append(f"{len(report.merges):,} merge and {len(report.splits):,} split candidates")
        print(*told, sep="\n")

    def _codes(self, signs: inscriptions.Signs) -> tuple[NDArray[np.float64], str]:
        """Codes of the pictures, and what they are."""
        if self.codes:
            from isthmus.signs.report import read_codes

            return read_codes(Path(self.codes), len(signs.pictures)), Path(self.codes).name
        if self.components < 1:
            raise IsthmusError(f"components must be ≥ 1, got {self.components}")
        from isthmus.signs.normalise import Normalisation, normalise
        from isthmus.signs.scores import principal

        alike = normalise(signs.pictures, Normalisation(deslant=self.deslant))
        codes = principal(alike, self.components)
        return codes, f"PCA{codes.shape[1]} of normalised pictures"
