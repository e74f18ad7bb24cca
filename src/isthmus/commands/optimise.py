"""``isthmus optimise``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from isthmus.commands import common
from isthmus.errors import IsthmusError, in_one_line

if TYPE_CHECKING:
    from isthmus.evaluation.searching import Searched

Objective = Annotated[str, tyro.conf.arg(metavar="MODULE:FUNCTION")]


@dataclass(frozen=True, kw_only=True)
class Optimise(common.OnRun):
    """Search the space for texts of which a Python function says the most.

    CMA-ES proposes latents in the populated part of the space, where the prior is as dense as at
    its own draws. Each is decoded, and the function is asked about every new text, once. Draws of
    the prior and, with --data, texts of the data get as many calls. Ctrl-C loses nothing.
    """

    objective: Objective
    """MODULE:FUNCTION or FILE.py:FUNCTION: text → number, to be maximised.
    If its first parameter is annotated as a list, it gets a list of texts and returns a list.
    An error, None or NaN counts as a failure."""
    out: str
    """The folder for the calls (JSON Lines), figures and way.png, a picture."""
    data: str = ""
    """Texts whose best the search starts from, in any form that train reads.
    By default it starts from draws of the prior."""
    calls: int = 1000
    """Different texts that the search asks about, and each other way."""
    seeds: int = 1
    """Searches, with the seeds seed, seed + 1, … With several, figures have standard errors."""
    seed: int = 0
    """Seed of all random draws."""
    label: str = ""
    """Write texts with this label (a run with labels)."""
    compare: bool = True
    """Ask about draws of the prior and texts of the data as well."""
    resume: bool = False
    """Continue the search in --out, or add calls or seeds to it."""
    json: bool = False
    """Print JSON: a line for each of the ten best texts, then one of figures."""

    def run(self) -> None:
        common.check_positive(calls=self.calls, seeds=self.seeds)
        function = imported(self.objective)
        corpus = common.read_corpus(self.data, run=self.run_directory) if self.data else None
        model = self.load()
        from isthmus.api.searching import optimise
        from isthmus.runs.bundle import read_run
        from isthmus.runs.folders import claim, write_json

        search = {"objective": self.objective, "seed": self.seed, "label": self.label}
        about = {"search": search, "data": corpus.fingerprint if corpus else ""}
        run = {key: read_run(self.run_directory).get(key) for key in ("seed", "data", "versions")}
        out = Path(self.out)
        # No file marks the end: more calls can be added to any search.
        with claim(out, {"run": run, **about}, resume=self.resume, finished=""):
            try:
                found = optimise(
                    model,
                    function,
                    None if corpus is None else corpus.texts,
                    calls=self.calls,
                    seeds=self.seeds,
                    seed=self.seed,
                    label=self.label,
                    compare=self.compare,
                    folder=out,
                )
            except KeyboardInterrupt:
                print(f"{out}: has every call; --resume continues", file=sys.stderr)
                raise
            write_json(found.figures(), out / "figures.json")
            found.draw(out / "way.png", self.objective.rpartition(":")[2])
        self._print(found, set(corpus.texts) if corpus else set())

    def _print(self, found: Searched, known: set[str]) -> None:
        """The best texts, and the figures of each way."""
        import json

        best = found.best()
        rows = [{"value": call.value, "text": call.text, "z": call.z} for call in best]
        if known:
            rows = [{**row, "new": row["text"] not in known} for row in rows]
        common.emit(rows, self.json, "{value:.4g}  {text}")
        figures = found.figures()
        if self.json:
            print(json.dumps(figures))
            return
        from rich.table import Table

        from isthmus.evaluation.searching import NAMES

        titles = {"ten_best": "mean of ten best", "best": "best", "calls": "calls"}
        titles["failed"] = "failed"
        seeds = f", means ± standard errors over {self.seeds} seeds" * (self.seeds > 1)
        table = Table(title=f"{self.objective}{seeds}")
        for title in ("", *titles.values()):
            table.add_column(title, justify="right" if title else "left")
        for way in found.runs[0]:
            table.add_row(NAMES[way], *(shown(figures, f"{way}_{name}") for name in titles))
        out = common.table_console()
        out.print(table)
        if known:
            new = sum(row["new"] for row in rows)
            out.print(f"{new} of the {len(rows)} best texts are not in the data")
        out.print(f"{Path(self.out) / 'way.png'} shows the way")


def shown(figures: dict[str, Any], name: str) -> str:
    """A figure with its standard error, if it has one."""
    error = figures.get(f"{name}_se")
    return f"{figures[name]:.4g}" + ("" if error is None else f" ± {error:.2g}")


def imported(name: str) -> Any:
    """The function that MODULE:FUNCTION or FILE.py:FUNCTION names.

    Raises:
        IsthmusError: There is none.
    """
    module, colon, function = name.rpartition(":")
    if not colon or not module or not function:
        raise IsthmusError(
            f"--objective: got {name!r}, expected MODULE:FUNCTION or FILE.py:FUNCTION"
        )
    with in_one_line(f"--objective: {module} cannot be imported", "mend it or its name"):
        if module.endswith(".py"):
            spec = spec_from_file_location(Path(module).stem, module)
            assert spec is not None
            assert spec.loader is not None
            found = module_from_spec(spec)
            spec.loader.exec_module(found)
        else:
            sys.path.insert(0, "")  # as python -m does; the command's own path lacks the folder
            found = import_module(module)
    if not callable(getattr(found, function, None)):
        names = [each for each in vars(found) if callable(getattr(found, each))]
        own = ", ".join(each for each in names if not each.startswith("_")) or "none"
        raise IsthmusError(f"--objective: {module} has no function {function!r}; it has {own}")
    return getattr(found, function)
