"""``isthmus check-table``."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from isthmus.commands.common import Command, emit, read_standard_input
from isthmus.errors import IsthmusError


@dataclass(frozen=True)
class CheckTable(Command):
    """Find contradictions between the numbers of a published table of results.

    The file has a header row, and columns separated by commas, semicolons or tabs. These columns
    are checked, in any case and under other common names: model, dataset, PPL, KL, -ELBO (or ELBO,
    or NLL), reconstruction, IW-NLL, MI, AU, latent size, N (test sentences), pool (examples in one
    estimate of MI), tokens per sentence (or words, if the PPL counts words). Bounds are in nats
    per sentence. Rows of the same dataset are compared; without a dataset column, all rows are.

    A finding is "broken" if an error is certain, "suspicious" if a choice that the table does not
    state could explain it, and a "note" if nothing is wrong. The exit code is 1 if anything is
    broken.
    """

    table: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE.csv")]
    """The table, or "-" for standard input."""
    json: bool = False
    """Print JSON Lines, one object per finding."""

    def run(self) -> int:
        from isthmus.data.files import read_text
        from isthmus.published.identities import check, checked
        from isthmus.published.printed import read_table

        if self.table == "-":
            table = read_table(read_standard_input(), "standard input")
        else:
            table = read_table(read_text(Path(self.table)), self.table)
        identities = checked(table)
        if not identities:
            why = "; ".join(table.notes) or "the cells of the known columns are empty"
            raise IsthmusError(f"{table.source}: has no numbers to check; {why}")
        findings = check(table)
        counts = Counter(finding.severity for finding in findings)
        print(f"checked {len(table.rows)} rows: {', '.join(identities)}", file=sys.stderr)
        if self.json:
            emit([finding.record() for finding in findings], True, "")
        else:
            total = f"{counts['broken']} broken, {counts['suspicious']} suspicious"
            print(*findings, total, sep="\n")
        return 1 if counts["broken"] else 0
