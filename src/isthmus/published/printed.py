"""A printed table of results: every number is an interval as wide as its rounding."""

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
"""What a column contains; bounds are in nats per sentence. ``pool`` is the number of examples in
one estimate of MI, ``tokens`` the number of symbols per sentence that the perplexity counts, and
``bound`` −ELBO: reconstruction + KL if both are printed, else the column."""

Severity = Literal["broken", "suspicious", "note"]
"""``broken``: no unstated choice of estimator or unit explains it. ``suspicious``: such a choice
could, and the finding names it. ``note``: nothing is wrong, but a part of the table is not used or
needs care."""

COUNTS = ("active_units", "latent_size", "sentences", "pool")
"""Quantities that are exact if printed without a decimal point."""

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
"""Quantity → column names in the form of :func:`header_key`."""
NAME_HEADERS = ("model", "name", "row", "system", "method", "run")
DATASET_HEADERS = ("dataset", "data", "corpus")
MISSING = ("", "-", "--", "–", "—", "na", "n/a", "none")
NUMBER = re.compile(r"[-+]?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)(e[-+]?\d{1,3})?", re.IGNORECASE)


@final
@dataclass(frozen=True)
class Interval:
    """All values that round to a printed number: 20.90 is [20.895, 20.905]."""

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

    def __mul__(self, other: Interval | float) -> Interval:
        factors = (other.low, other.high) if isinstance(other, Interval) else (other,)
        ends = [end * factor for end in (self.low, self.high) for factor in factors]
        return Interval(min(ends), max(ends))

    def __truediv__(self, other: Interval) -> Interval:
        if other.low <= 0:
            raise ValueError(f"a divisor must be above 0, got {other}")
        return self * Interval(1 / other.high, 1 / other.low)

    def log(self) -> Interval:
        """ln, −∞ for an end at or below 0."""
        low, high = (math.log(end) if end > 0 else -math.inf for end in (self.low, self.high))
        return Interval(low, high)

    def exp(self) -> Interval:
        """The exponential, ∞ beyond float64."""
        low, high = (math.exp(end) if end < 709 else math.inf for end in (self.low, self.high))
        return Interval(low, high)

    def widened(self, share: float) -> Interval:
        """Both ends moved outwards by a share of the middle."""
        extra = share * abs(self.middle)
        return Interval(self.low - extra, self.high + extra)

    def above(self, other: Interval) -> bool:
        """Whether it is larger for any rounding, beyond the precision of float64."""
        return self.low - other.high > 1e-9 * max(1.0, abs(self.low))

    def meets(self, other: Interval) -> bool:
        """Whether both may be the same value."""
        return not self.above(other) and not other.above(self)

    def __str__(self) -> str:
        """The middle with the digits that the rounding leaves."""
        width = self.high - self.low
        if not 1e-6 < width < math.inf or abs(self.middle) >= 1e7:
            return f"{self.middle:,.7g}".replace("-", "−")
        return f"{self.middle:,.{max(0, round(-math.log10(width)))}f}".replace("-", "−")


@final
@dataclass(frozen=True)
class Row:
    """One printed row.

    Args:
        line: Its line in the file, from 1.
        name: The model, or "line 3" without a column for it.
        dataset: Empty without a column for it.
        values: The numbers.
        bound_is_nll: The column of −ELBO is called NLL, which some papers compute with importance
            weights: it may then be below −ELBO.
    """

    line: int
    name: str
    dataset: str
    values: Mapping[Quantity, Interval]
    bound_is_nll: bool = False

    def __getitem__(self, quantity: Quantity) -> Interval:
        return self.values[quantity]

    def has(self, *quantities: Quantity) -> bool:
        """Whether all these quantities are printed."""
        return all(quantity in self.values for quantity in quantities)


@final
@dataclass(frozen=True)
class Table:
    """The rows, and notes on what was not used."""

    source: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@final
@dataclass(frozen=True)
class Finding:
    """An identity that a table breaks.

    Args:
        severity: See :data:`Severity`.
        message: The printed numbers and what follows from them.
        likely: The likely error.
        values: The numbers in full precision.
        identity: What does not hold.
        rows: The rows in question; empty for the whole table.
    """

    severity: Severity
    message: str
    likely: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    identity: str = ""
    rows: tuple[Row, ...] = ()

    def record(self) -> dict[str, Any]:
        """For JSON; numbers that are not finite are null."""
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

    A remark about bits stays, so that the column is not read as nats.
    """
    plain = re.sub("[−–—]", "-", header.casefold())
    plain = re.sub(r"\((?![^)]*(bit|bpc))[^)]*\)", "", plain).strip(" *_")
    sign = "-" if plain.startswith("-") else ""
    return sign + re.sub("[^a-z0-9]", "", plain)


def parse_number(cell: str, *, count: bool = False) -> Interval | None:
    """The interval of a printed number; None for an empty cell.

    "20.90 ± 0.31" widens the interval by 0.31; "≤ 20.90" is 20.90.

    Args:
        cell: As printed.
        count: A number without a decimal point is exact.

    Raises:
        ValueError: The cell is not a number.
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
    """Read a table with a header, separated by commas, semicolons or tabs.

    Args:
        text: The content of the file.
        source: Its name, for errors.

    Raises:
        IsthmusError: There is no table, its rows differ in length, or two columns mean the same.
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
    if not numbered:
        raise IsthmusError(f"{source} has no row: expected a header row and rows of numbers")
    (_, headers), *body = numbered
    if not body:
        raise IsthmusError(f"{source} has a header and no rows: expected rows of numbers below it")
    for line, cells in body:
        if len(cells) != len(headers):
            raise IsthmusError(
                f"{source}: line {line} has {len(cells)} cells, the header {len(headers)}; "
                "expected the same number: quote cells that contain the separator"
            )
    places = _places(headers, source)
    names = {meaning: headers[place].strip() for meaning, place in places.items()}
    printed = [
        (line, {meaning: cells[place].strip() for meaning, place in places.items()})
        for line, cells in body
    ]
    unused = [repr(each.strip()) for n, each in enumerate(headers) if n not in places.values()]
    notes = [f"columns that this check does not use: {', '.join(unused)}"] if unused else []
    bound = header_key(names.get("negative_elbo", ""))
    negate = bound == "elbo" and any(
        re.match(r"[-−–][\d.]", cells["negative_elbo"]) for _, cells in printed
    )
    if bound == "elbo" and not negate:
        notes.append(
            f"column {names['negative_elbo']!r} has no number below 0, but the ELBO of a text is "
            "never above 0: read as −ELBO"
        )
    rows = []
    for line, cells_of in printed:
        values, unread = _values(line, cells_of, names, negate)
        notes += unread
        name = cells_of.get("name") or f"line {line}"
        rows.append(Row(line, name, cells_of.get("dataset", ""), values, bound == "nll"))
    return Table(source, tuple(rows), tuple(notes))


def _places(headers: Sequence[str], source: str) -> dict[str, int]:
    """Meaning (a quantity, "name" or "dataset") → index of its column."""
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


def _values(
    line: int, cells: Mapping[str, str], names: Mapping[str, str], negate: bool
) -> tuple[dict[Quantity, Interval], list[str]]:
    """The numbers of a row, and notes on cells without one; ``negate`` a bound printed as ELBO."""
    values: dict[Quantity, Interval] = {}
    unread = []
    for quantity in HEADERS:
        try:
            value = parse_number(cells.get(quantity, ""), count=quantity in COUNTS)
        except ValueError as error:
            unread.append(f"line {line}, column {names[quantity]!r}: {error}; not checked")
            continue
        if value is not None:
            values[quantity] = value
    if negate and "negative_elbo" in values:
        values["negative_elbo"] *= -1
    # More tokens than sentences: they are those of the whole test set.
    if {"tokens", "sentences"} <= values.keys() and values["tokens"].above(values["sentences"]):
        values["tokens"] /= values["sentences"]
    if {"reconstruction", "kl"} <= values.keys():
        values["bound"] = values["reconstruction"] + values["kl"]
    elif "negative_elbo" in values:
        values["bound"] = values["negative_elbo"]
    return values, unread
