"""``isthmus check``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Self

import tyro

from isthmus.commands.common import Command, emit, local_run, quiet

if TYPE_CHECKING:
    from isthmus.runs.check import Finding


@dataclass(frozen=True, kw_only=True)
class Check(Command):
    """Check that runs are whole: every file is as it was written, all weights are finite.

    Prints the state of each file: ok, changed, missing, edited (the README.md, which you may
    edit), unchecked (runs of version 0.1.0 have no digests; the size is right) or unknown (no
    file of the run). Of an unfinished run it checks the checkpoints. The exit code is 1 unless
    all runs are whole.
    """

    runs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN …]", help_behavior_hint="(required)"),
    ]
    """Run directories, or names on the Hugging Face hub, owner/name."""
    json: bool = False
    """Print JSON Lines, one object per run."""

    def with_local_runs(self) -> Self:
        return replace(self, runs=tuple(map(local_run, self.runs)))

    def run(self) -> int:
        quiet()
        from isthmus.errors import IsthmusError
        from isthmus.runs.check import check

        if not self.runs:
            raise IsthmusError("RUN: expected at least one run directory")
        whole = True
        for run in self.runs:
            found = check(run)
            whole = whole and not found.problems
            if self.json:
                emit([asdict(found) | {"whole": not found.problems}], True, "")
            else:
                print(*_lines(found), sep="\n", flush=True)
        return 0 if whole else 1


def _lines(found: Finding) -> list[str]:
    from isthmus.runs.check import UNCHECKED

    written = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    verdict = "not whole" if found.problems else "whole"
    if not found.problems and UNCHECKED in found.files.values():
        verdict = "whole, as far as the sizes of its files tell"
    lines = [f"{found.run}: {verdict}" + (f" (written by {written})" if written else "")]
    lines += [f"  {state:<9}  {name}" for name, state in found.files.items()]
    lines += [f"  {name}: {state}" for name, state in found.checkpoints.items()]
    return [*lines, *(f"  {problem}" for problem in found.problems)]
