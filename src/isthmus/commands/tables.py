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
    """Tell which identities a published table of results breaks, row by row and across rows.

    The file has a header and comma, semicolon or tab separated rows. Columns that it reads, in
    any case and with common other names: model, dataset, PPL, KL, -ELBO (or ELBO, or NLL),
    reconstruction, IW-NLL, MI, AU, latent size, N (test sentences), pool (examples in one
    estimate of MI), tokens per sentence (or words: what the PPL counts). Nats per sentence. Rows
    of one dataset are compared with each other; without a column for it all are of one.

    "broken" is certain, "suspicious" could be a choice that the table does not state, a "note"
    is no fault. Exit code 1 if anything is broken.
    """

    table: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE.csv")]
    """The table; "-" is standard input."""
    json: bool = False
    """JSON Lines, one finding a line."""

    def run(self) -> int:
        """Read, check, print."""
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
            raise IsthmusError(f"{table.source}: no number to check; {why}")
        findings = check(table)
        counts = Counter(finding.severity for finding in findings)
        print(f"checked {len(table.rows)} rows: {', '.join(identities)}", file=sys.stderr)
        if self.json:
            emit([finding.record() for finding in findings], True, "")
        else:
            lines = [str(finding) for finding in findings]
            total = f"{counts['broken']} broken, {counts['suspicious']} suspicious"
            emit([{"line": line} for line in [*lines, total]], False, "{line}")
        return 1 if counts["broken"] else 0
