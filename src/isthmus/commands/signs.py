"""``isthmus signs``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from isthmus.commands.common import Command, bar, console
from isthmus.errors import IsthmusError
from isthmus.signs.settings import TrainingSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.signs import inscriptions


@dataclass(frozen=True)
class Signs(Command):
    """Recover the inventory of signs of an undeciphered script.

    train DATA trains a network on the pictures of signs and their order. report DATA clusters the
    pictures and writes a page that shows which names may be one sign, which may be several signs,
    and how many signs there are, with tables for your decisions. apply FOLDER writes the sign list
    that follows from your decisions in those tables.
    """

    what: Annotated[
        tyro.conf.Positional[Literal["train", "report", "apply"]], tyro.conf.arg(metavar="WHAT")
    ]
    """train, report or apply."""
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """For train and report: an .npz file with ids, images and paths; or a folder of pictures
    with order.txt (file names, one sequence per line) or transliteration.txt (sign names).
    For report also: a run directory of train. For apply: the folder of a report."""
    out: str = ""
    """The folder for the run or the report."""
    codes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN|NPZ …")] = ()
    """Runs of train, or .npz files with codes [M P], a row for each picture.
    The first codes are clustered; others, from other seeds or networks, measure agreement.
    Default: the codes of DATA if it is a run, else principal components of oriented gradients."""
    components: int = 64
    """Number of these principal components."""
    deslant: bool = False
    """Straighten slanted writing before computing the components."""
    clusters: int = 0
    """Number of clusters; 0 for the middle of the interval for the number of signs."""
    method: Literal["kmeans", "gmm", "ward", "hdbscan"] = "kmeans"
    """k-means, Gaussian mixture, Ward's hierarchy, or HDBSCAN.
    HDBSCAN chooses its own number of clusters."""
    seeds: int = 5
    """Number of clusterings of each set of codes; their agreement is the confidence."""
    fold_variants: bool = False
    """Treat variants as one sign: M157-A and M157-B count as M157."""
    by_token: bool = False
    """Weight each picture by its number of tokens."""
    json: bool = False
    """Print a summary as one JSON object."""
    resume: bool = False
    """Continue the training in --out from its last checkpoint."""
    train: TrainingSettings = field(default_factory=TrainingSettings)

    def run(self) -> None:
        if self.what == "apply":
            from isthmus.signs.decisions import apply_decisions

            print(apply_decisions(Path(self.data)))
            return
        if not self.out:
            kind = "report" if self.what == "report" else "run"
            raise IsthmusError(f"--out: give the folder of the {kind}, for example --out {kind}")
        if self.what == "train":
            self._train()
        else:
            self._report()

    def _train(self) -> None:
        from isthmus.signs.runs import train

        train(self._signs(), self.train, Path(self.out), self.resume, console())
        print(self.out)

    def _report(self) -> None:
        if self.seeds < 2:
            raise IsthmusError(f"seeds: got {self.seeds}, expected at least 2 for a confidence")
        from isthmus.signs.analysis import PIECES, analyse, summary
        from isthmus.signs.decisions import check_undecided
        from isthmus.signs.page import write

        check_undecided(Path(self.out))
        signs = self._signs()
        (codes_from, codes), *further = self._codes(signs)
        pieces = PIECES + (self.seeds + 1) * (1 + len(further))
        with bar("clustering", pieces) as progress:
            report = analyse(
                signs,
                codes,
                codes_from,
                self.clusters,
                self.method,
                self.seeds,
                self.fold_variants,
                self.by_token,
                dict(further),
                progress,
            )
        write(report, Path(self.out))
        if self.json:
            print(json.dumps(summary(report), ensure_ascii=False))
            return
        lines = [str(Path(self.out) / "index.html")]
        lines += report.number.report() if report.number else []
        lines.append(f"{len(report.merges):,} merge and {len(report.splits):,} split candidates")
        print(*lines, sep="\n")

    def _signs(self) -> inscriptions.Signs:
        """The signs of DATA, reported on standard error."""
        from isthmus.signs.inscriptions import read
        from isthmus.signs.runs import is_run, read_signs

        signs = read_signs(Path(self.data)) if is_run(Path(self.data)) else read(self.data)
        for line in [signs.report(), *signs.warnings]:
            print(line, file=sys.stderr)
        return signs

    def _codes(self, signs: inscriptions.Signs) -> list[tuple[str, NDArray[np.float64]]]:
        """Sets of codes of the pictures, each with its name."""
        from isthmus.signs.analysis import read_codes
        from isthmus.signs.runs import codes_of, is_run

        given = self.codes or ((self.data,) if is_run(Path(self.data)) else ())
        names = [Path(each).name for each in given]
        if len(set(names)) < len(names):
            names = list(given)
        found = []
        for name, each in zip(names, given, strict=True):
            path = Path(each)
            run = path.is_dir()
            codes = codes_of(path, signs) if run else read_codes(path, len(signs.pictures))
            found.append((name, codes))
        if found:
            return found
        if self.components < 1:
            raise IsthmusError(f"components: got {self.components}, expected at least 1")
        from isthmus.signs.gradients import oriented_gradients
        from isthmus.signs.normalise import normalise
        from isthmus.signs.scores import principal

        alike = normalise(signs.pictures, self.deslant)
        codes = principal(oriented_gradients(alike), self.components)
        return [(f"PCA{codes.shape[1]} of oriented gradients", codes)]
