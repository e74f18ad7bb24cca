"""A results table as it is printed: every number is an interval, as wide as its rounding."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, final

from isthmus.errors import IsthmusError

Quantity = Literal[
    "perplexity",
    "kl",
    "negative_elbo",
    "reconstruction",
    "nll_iw",
    "mutual_information",
    "active_units",
    "latent_size",
    "sentences",
    "pool",
    "tokens",
    "bound",
]
"""What a column holds, nats per sentence where it has a unit. ``pool`` is the number of examples
in one estimate of MI, ``tokens`` what the perplexity counts per sentence, and ``bound`` −ELBO as
the row gives it: reconstruction + KL where both are printed, else the column."""

Severity = Literal["broken", "suspicious", "note"]
"""``broken``: no choice of estimator or unit that the table leaves open explains it.
``suspicious``: such a choice could, and the finding says which. ``note``: nothing is wrong; a part
of the table is not used, or wants reading with care."""

COUNTS = ("active_units", "latent_size", "sentences", "pool")
"""Printed without a decimal point these are exact."""

HEADERS: dict[Quantity, str] = {
    "perplexity": "ppl perplexity testppl pplword pplperword wordppl ppltoken",
    "kl": "kl klterm kldivergence rate",
    "negative_elbo": "-elbo elbo nelbo negelbo negativeelbo nll",
    "reconstruction": "rec recon reconstruction recloss reconloss reconstructionloss distortion",
    "nll_iw": "iwnll nlliw iwaenll nlliwae importanceweightednll",
    "mutual_information": "mi mutualinfo mutualinformation",
    "active_units": "au activeunits activedimensions",
    "latent_size": "latentsize latentdim latentdimension latentdimensions zdim dimz nz",
    "sentences": "n sentences testsentences testset testsize testsetsize",
    "pool": "pool poolsize mipool mibatch mibatchsize poolingbatchsize mutualinformationpool",
    "tokens": "tokens tokenspersentence tokenssentence tokenspersent "
    "words wordspersentence wordssentence wordspersent",
}
"""Column names as :func:`header_key` leaves them."""
NAME_HEADERS = ("model", "name", "row", "system", "method", "run")
DATASET_HEADERS = ("dataset", "data", "corpus")
MISSING = ("", "-", "--", "–", "—", "na", "n/a", "none")
NUMBER = re.compile(r"[-+]?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)(e[-+]?\d{1,3})?", re.IGNORECASE)


@final
@dataclass(frozen=True)
class Interval:
    """All values that a printed number may stand for: 20.90 is [20.895, 20.905]."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The number as printed."""
        return (self.low + self.high) / 2

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, factor: float) -> Interval:
        ends = self.low * factor, self.high * factor
        return Interval(min(ends), max(ends))

    def times(self, other: Interval) -> Interval:
        """The product."""
        ends = [one * two for one in (self.low, self.high) for two in (other.low, other.high)]
        return Interval(min(ends), max(ends))

    def __truediv__(self, other: Interval) -> Interval:
        if other.low <= 0:
            raise ValueError(f"a divisor must be above 0, got {other}")
        return self.times(Interval(1 / other.high, 1 / other.low))

    def log(self) -> Interval:
        """ln, which is −∞ where the number may be 0 or less."""
        low, high = (math.log(end) if end > 0 else -math.inf for end in (self.low, self.high))
        return Interval(low, high)

    def exp(self) -> Interval:
        """The exponential; beyond float64 it is infinity."""
        low, high = (math.exp(end) if end < 709 else math.inf for end in (self.low, self.high))
        return Interval(low, high)

    def widened(self, share: float) -> Interval:
        """Both ends moved outwards by a share of the number."""
        extra = share * abs(self.middle)
        return Interval(self.low - extra, self.high + extra)

    def above(self, other: Interval) -> bool:
        """Larger whatever the rounding was; the last digits of float64 do not count."""
        return self.low - other.high > 1e-9 * max(1.0, abs(self.low))

    def meets(self, other: Interval) -> bool:
        """Whether both may stand for one value."""
        return not self.above(other) and not other.above(self)

    def __str__(self) -> str:
        """As many digits as the rounding leaves."""
        width = self.high - self.low
        if not 1e-6 < width < math.inf or abs(self.middle) >= 1e7:
            return f"{self.middle:,.7g}".replace("-", "−")
        return f"{self.middle:,.{max(0, round(-math.log10(width)))}f}".replace("-", "−")


@final
@dataclass(frozen=True)
class Row:
    """One row: its line in the file, and what is printed in it.

    Arguments:
        line: from 1.
        name: the model, or "line 3" where no column names it.
        dataset: empty where no column names it.
        values: the numbers.
        bound_is_nll: the column of −ELBO is called NLL, which some papers compute with importance
            weights: it may then lie below −ELBO.
    """

    line: int
    name: str
    dataset: str
    values: Mapping[Quantity, Interval]
    bound_is_nll: bool = False

    def __getitem__(self, quantity: Quantity) -> Interval:
        return self.values[quantity]

    def has(self, *quantities: Quantity) -> bool:
        """Whether all of them are printed."""
        return all(quantity in self.values for quantity in quantities)


@final
@dataclass(frozen=True)
class Table:
    """Rows, and what of the file could not be used."""

    source: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@final
@dataclass(frozen=True)
class Finding:
    """What a table breaks.

    Arguments:
        severity: see :data:`Severity`.
        identity: what does not hold.
        rows: those it is about; empty for the table as a whole.
        message: what is printed and what follows from it, with the numbers.
        likely: the likely error.
        values: the numbers again, in full.
    """

    severity: Severity
    identity: str
    rows: tuple[Row, ...]
    message: str
    likely: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For JSON; what is not finite is null."""
        return {
            "severity": self.severity,
            "identity": self.identity,
            "dataset": self.rows[0].dataset if self.rows else "",
            "rows": [row.name for row in self.rows],
            "lines": [row.line for row in self.rows],
            "message": self.message,
            "likely": self.likely,
            "values": {k: v if math.isfinite(v) else None for k, v in self.values.items()},
        }

    def __str__(self) -> str:
        names = dict.fromkeys(f"{row.name} {row.dataset}".strip() for row in self.rows)
        where = f"{', '.join(names)}: " if names else ""
        return f"{self.severity}: {where}{self.message}" + (
            f"; likely: {self.likely}" if self.likely else ""
        )


def header_key(header: str) -> str:
    """A column name without case, spaces, arrows and remarks: "−ELBO (nats) ↓" → "-elbo".

    A remark about bits stays, so that such a column is not taken for nats.
    """
    plain = re.sub("[−–—]", "-", header.casefold())
    plain = re.sub(r"\((?![^)]*(bit|bpc))[^)]*\)", "", plain).strip(" *_")
    sign = "-" if plain.startswith("-") else ""
    return sign + re.sub("[^a-z0-9]", "", plain)


def parse_number(cell: str, *, count: bool = False) -> Interval | None:
    """What a cell may stand for; None where nothing is printed.

    "20.90 ± 0.31" widens the interval by 0.31; "≤ 20.90" is 20.90.

    Arguments:
        cell: as printed.
        count: a number without a decimal point is exact.

    Raises:
        ValueError: something else than a number is printed.
    """
    plain = re.sub("[−–—]", "-", cell).replace("+/-", "±").replace("*", "").strip()
    if plain.lower() in MISSING:
        return None
    value, _, error = (part.strip() for part in plain.lstrip("≤~≈ ").partition("±"))
    if not NUMBER.fullmatch(value) or (error and not NUMBER.fullmatch(error)):
        raise ValueError(f"{cell.strip()!r} is not a number")
    exact = Decimal(value.replace(",", ""))
    if count and exact == int(exact) and "." not in value:
        half = Decimal(0)
    else:
        exponent = exact.as_tuple().exponent
        half = Decimal(1).scaleb(int(exponent)) / 2
    half += Decimal(error.replace(",", "") or 0)
    low, high = float(exact - half), float(exact + half)
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError(f"{cell.strip()!r} is too large a number")
    return Interval(low, high)


def read_table(text: str, source: str) -> Table:
    """Read a table with a header: comma, semicolon or tab separated.

    Arguments:
        text: the content of the file.
        source: its name, for errors.

    Raises:
        IsthmusError: there is no table, its rows differ in length, or two columns say the same.
    """
    first = next((line for line in text.split("\n") if line.strip()), "")
    if not first:
        raise IsthmusError(f"{source} is empty: expected a header row and rows of numbers")
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=max("\t;,", key=first.count), strict=True)
    try:
        numbered = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise IsthmusError(f"{source}: line {reader.line_num} cannot be read: {error}") from None
    (_, headers), *body = numbered
    if not body:
        raise IsthmusError(f"{source} has a header and no rows: expected rows of numbers below it")
    for line, cells in body:
        if len(cells) != len(headers):
            raise IsthmusError(
                f"{source}: line {line} has {len(cells)} cells, the header {len(headers)}; "
                "expected as many: quote cells that hold the separator"
            )
    layout = _Layout(headers, _places(headers, source))
    notes = layout.notes(body)
    turned = layout.is_elbo(body)
    rows = []
    for line, cells in body:
        row, unread = layout.row(line, cells, turned)
        rows.append(row)
        notes += unread
    return Table(source, tuple(rows), tuple(notes))


def _places(headers: Sequence[str], source: str) -> dict[str, int]:
    """Quantity, "name" or "dataset" → index of its column."""
    meanings: dict[str, str] = {
        key: quantity for quantity, keys in HEADERS.items() for key in keys.split()
    }
    meanings |= dict.fromkeys(NAME_HEADERS, "name") | dict.fromkeys(DATASET_HEADERS, "dataset")
    places: dict[str, int] = {}
    for index, header in enumerate(headers):
        meaning = meanings.get(header_key(header))
        if meaning is None:
            continue
        if meaning in places:
            raise IsthmusError(
                f"{source}: the columns {headers[places[meaning]].strip()!r} and "
                f"{header.strip()!r} are both read as {meaning.replace('_', ' ')}; expected one: "
                "rename or remove the other"
            )
        places[meaning] = index
    if not places.keys() & HEADERS.keys():
        raise IsthmusError(
            f"{source}: no column to check, got {', '.join(map(repr, headers))}; expected some of "
            "PPL, KL, -ELBO, reconstruction, IW-NLL, MI, AU, latent size, N, pool, "
            "tokens per sentence"
        )
    return places


@final
@dataclass(frozen=True)
class _Layout:
    """Which column says what."""

    headers: Sequence[str]
    places: Mapping[str, int]

    def cell(self, cells: Sequence[str], meaning: str) -> str:
        """What a row says of something; empty where no column does."""
        return cells[self.places[meaning]].strip() if meaning in self.places else ""

    def is_elbo(self, body: Sequence[tuple[int, list[str]]]) -> bool:
        """Whether the column of −ELBO holds ELBO: by its name, and something in it is below 0."""
        return header_key(self.cell(self.headers, "negative_elbo")) == "elbo" and any(
            re.match(r"[-−–][\d.]", self.cell(cells, "negative_elbo")) for _, cells in body
        )

    def notes(self, body: Sequence[tuple[int, list[str]]]) -> list[str]:
        """Columns that are not read, or not read as they are called."""
        unused = [i for i in range(len(self.headers)) if i not in self.places.values()]
        names = ", ".join(repr(self.headers[index].strip()) for index in unused)
        notes = [f"columns that this check does not use: {names}"] if unused else []
        bound = self.cell(self.headers, "negative_elbo")
        if header_key(bound) == "elbo" and not self.is_elbo(body):
            notes.append(
                f"column {bound!r} holds nothing below 0, and the ELBO of a text is never above "
                "0: read as −ELBO"
            )
        return notes

    def row(self, line: int, cells: Sequence[str], turned: bool) -> tuple[Row, list[str]]:
        """One row, and what in it is no number; ``turned``: the bound is printed as ELBO."""
        values: dict[Quantity, Interval] = {}
        unread = []
        for quantity in HEADERS:
            try:
                value = parse_number(self.cell(cells, quantity), count=quantity in COUNTS)
            except ValueError as error:
                header = self.cell(self.headers, quantity)
                unread.append(f"line {line}, column {header!r}: {error}; not checked")
                continue
            if value is not None:
                values[quantity] = value
        if turned and "negative_elbo" in values:
            values["negative_elbo"] *= -1
        # More symbols than sentences: the number is that of the whole test set.
        if {"tokens", "sentences"} <= values.keys() and values["tokens"].above(
            values["sentences"]
        ):
            values["tokens"] /= values["sentences"]
        if {"reconstruction", "kl"} <= values.keys():
            values["bound"] = values["reconstruction"] + values["kl"]
        elif "negative_elbo" in values:
            values["bound"] = values["negative_elbo"]
        name = self.cell(cells, "name") or f"line {line}"
        is_nll = header_key(self.cell(self.headers, "negative_elbo")) == "nll"
        return Row(line, name, self.cell(cells, "dataset"), values, is_nll), unread
