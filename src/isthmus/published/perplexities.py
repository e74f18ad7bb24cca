"""Perplexities across the rows of one dataset: they share −ELBO / ln PPL = tokens per sentence.

If the rows disagree, this finds the misprint that makes them agree: for example a column that is
reconstruction − KL, even if the reconstruction is not printed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from isthmus.published.printed import Finding, Interval, Row, Severity

IDENTITY = "−ELBO / ln PPL = tokens per sentence, the same in all rows"
EXACT = 0.0005
"""Relative difference, beyond rounding, up to which rows agree."""
LOOSE = 0.025
"""The same for perplexities that may come from importance-weighted bounds."""
MUCH = 10
"""Factor by which a misprint must improve the agreement of rows."""
MOVED = 0.01
"""Share of −ELBO by which a correction must change a row for it to be evidence."""
UNITS = 0.05
"""Relative difference of tokens per sentence above which the tokens are of another kind."""
FLAT = 0.05
"""Gain in reconstruction as a share of the rise in KL, below which it counts as flat."""
RISE = 5.0
"""Nats by which the KL must rise for that."""


class Misprint(NamedTuple):
    """The perplexity follows from printed + ``times`` · KL, not from the printed −ELBO."""

    times: int
    likely: str


MISPRINTS = (
    Misprint(2, "the column is reconstruction − KL instead of reconstruction + KL (sign error)"),
    Misprint(1, "the column is the reconstruction alone: the KL is left out"),
    Misprint(-1, "the perplexity is that of the reconstruction alone: the KL is left out"),
)


def implied(row: Row, times: int = 0) -> Interval:
    """Tokens per sentence that a row implies: (−ELBO + times · KL) / ln PPL."""
    nats = row["bound"] + row["kl"] * times if times else row["bound"]
    return nats / row["perplexity"].log()


def agreeing(rows: Sequence[Row], times: int, tolerance: float) -> list[Row]:
    """The largest group of rows whose tokens per sentence can be the same number."""
    spans = [implied(row, times).widened(tolerance) for row in rows]
    lows, highs = sorted(span.low for span in spans), sorted(span.high for span in spans)
    # If a group has a common value, the low end of one of its members is one.
    common = max(lows, key=lambda x: bisect_right(lows, x) - bisect_left(highs, x), default=0.0)
    return [row for row, span in zip(rows, spans, strict=True) if span.low <= common <= span.high]


def spread(rows: Sequence[Row], times: int) -> float:
    """Range of the rows' tokens per sentence, as a share of the largest."""
    middles = [implied(row, times).middle for row in rows]
    return (max(middles) - min(middles)) / max(middles)


def rounding(rows: Sequence[Row], times: int) -> float:
    """Relative uncertainty of the rows' tokens per sentence from rounding."""
    spans = [implied(row, times) for row in rows]
    return max((span.high - span.low) / span.middle for span in spans)


def confidence(
    group: Sequence[Row], rows: Sequence[Row], misprint: Misprint, tolerance: float
) -> Severity | None:
    """How certain it is that a misprint, and not chance, makes a group of rows agree.

    Without the misprint, each further row that the correction changes agrees by coincidence.
    """
    moved = sum(
        abs(misprint.times) * row["kl"].middle > MOVED * row["bound"].middle for row in group
    )
    coincidences = min(len(group) - 1, moved)
    corrected = max(spread(group, misprint.times), rounding(group, misprint.times), 2 * tolerance)
    if coincidences < 1 or spread(group, 0) < MUCH * corrected:
        return None
    if coincidences > 1 and (2 * len(group) >= len(rows) or len(group) > 3):
        return "broken" if tolerance == EXACT else "suspicious"
    return "suspicious" if len(group) == len(rows) and tolerance == EXACT else None


def find_misprint(rows: Sequence[Row]) -> tuple[Severity, Misprint, list[Row]] | None:
    """The misprint that makes the most rows agree, and those rows; None if there is none."""
    for tolerance in (EXACT, LOOSE):
        found = []
        for misprint in MISPRINTS:
            if tolerance == LOOSE and misprint.times < 0:
                continue  # a gain from importance weights looks the same
            able = [row for row in rows if row.has("kl") and implied(row, misprint.times).low > 0]
            group = agreeing(able, misprint.times, tolerance)
            severity = confidence(group, able, misprint, tolerance) if group else None
            if severity:
                found.append((severity, misprint, group))
        if found:
            return max(found, key=lambda one: (len(one[2]), -spread(one[2], one[1].times)))
    return None


def across(rows: Sequence[Row]) -> Iterator[Finding]:
    """Findings from the perplexities of all rows of one dataset."""
    rows = [row for row in rows if row.has("perplexity", "bound") and measurable(row)]
    if len(rows) < 2:
        return
    tokens = {row.line: implied(row) for row in rows}
    bounds = {row.line: row["bound"] for row in rows}
    found = find_misprint(rows)
    if found:
        severity, misprint, group = found
        yield misprinted(severity, misprint, group)
        for row in group:
            tokens[row.line] = implied(row, misprint.times)
            if misprint.times > 0:
                bounds[row.line] = row["bound"] + row["kl"] * misprint.times
            yield correction(severity, misprint, row, tokens[row.line])
        if misprint.times > 0:
            yield from unused_latent(misprint, group)
    yield from other_units(rows, tokens, bounds)


def measurable(row: Row) -> bool:
    """Whether rounding leaves ln PPL and −ELBO above 0."""
    return row["perplexity"].low > 1 and row["bound"].low > 0


def misprinted(severity: Severity, misprint: Misprint, group: Sequence[Row]) -> Finding:
    """The finding about a column."""
    printed = sorted((implied(row) for row in group), key=lambda span: span.middle)
    corrected = [implied(row, misprint.times) for row in group]
    middle = sum(span.middle for span in corrected) / len(corrected)
    sign = "+" if misprint.times > 0 else "−"
    factor = "2·KL" if misprint.times == 2 else "KL"
    return Finding(
        severity,
        f"“−ELBO” / ln PPL ranges from {printed[0]} to {printed[-1]} tokens per sentence, but "
        f"(“−ELBO” {sign} {factor}) / ln PPL is {middle:.1f} in all {len(group)} rows",
        misprint.likely,
        {
            "tokens": middle,
            "spread_as_printed": spread(group, 0),
            "spread_corrected": spread(group, misprint.times),
        },
        IDENTITY,
        tuple(group),
    )


def correction(severity: Severity, misprint: Misprint, row: Row, tokens: Interval) -> Finding:
    """The corrected figures of a row."""
    if misprint.times < 0:
        true = (row["bound"] / tokens).exp()
        message = f"the perplexity of −ELBO {row['bound']} is {true}, not {row['perplexity']}"
        return Finding(severity, message, "", {"perplexity": true.middle}, IDENTITY, (row,))
    reconstruction = row["bound"] + row["kl"] * (misprint.times - 1)
    true = row["bound"] + row["kl"] * misprint.times
    message = (
        f"true −ELBO = reconstruction {reconstruction} + KL {row['kl']} = {true}, "
        f"not {row['bound']}"
    )
    values = {"negative_elbo": true.middle, "reconstruction": reconstruction.middle}
    return Finding(severity, message, "", values, IDENTITY, (row,))


def unused_latent(misprint: Misprint, group: Sequence[Row]) -> Iterator[Finding]:
    """Rows whose KL rises without a better reconstruction."""

    def reconstruction(row: Row) -> Interval:
        return row["bound"] + row["kl"] * (misprint.times - 1)

    start = min(group, key=lambda row: row["kl"].middle)
    flat = [start]
    for row in group:
        rise = row["kl"].middle - start["kl"].middle
        gain = reconstruction(start).middle - reconstruction(row).middle
        if rise > RISE and abs(gain) < FLAT * rise:
            flat.append(row)
    if len(flat) < 2:
        return
    flat.sort(key=lambda row: row["kl"].middle)
    low, *_, high = sorted((reconstruction(row) for row in flat), key=lambda span: span.middle)
    yield Finding(
        "suspicious",
        f"KL rises from {flat[0]['kl']} to {flat[-1]['kl']} nats while the reconstruction stays "
        f"at {low} to {high}: −ELBO gets worse by the whole rise",
        "the decoder ignores the latent; KL, MI and AU show only that the encoder separates texts",
        {"kl_rise": flat[-1]["kl"].middle - flat[0]["kl"].middle},
        "KL buys reconstruction",
        tuple(flat),
    )


def other_units(
    rows: Sequence[Row], tokens: dict[int, Interval], bounds: dict[int, Interval]
) -> Iterator[Finding]:
    """Perplexities that count different symbols, converted to the coarsest of them."""
    fewest = min(rows, key=lambda row: tokens[row.line].middle)
    most = max(rows, key=lambda row: tokens[row.line].middle)
    few, many = tokens[fewest.line], tokens[most.line]
    if not many.widened(EXACT).above(few.widened(EXACT)) or weighted_agree(rows):
        return
    apart = f"the rows imply {few} ({fewest.name}) to {many} ({most.name}) tokens per sentence"
    values = {"fewest": few.middle, "most": many.middle}
    if many.low / few.high - 1 <= UNITS:
        likely = "perplexities of importance-weighted bounds, which are below exp(−ELBO / tokens)"
        yield Finding("note", apart, likely, values, IDENTITY, tuple(rows))
        return
    likely = "subwords in some rows and words in others, or different texts"
    apart += ": their PPLs are not comparable"
    yield Finding("suspicious", apart, likely, values, IDENTITY, tuple(rows))
    for row in rows:
        counted = tokens[row.line]
        if counted.low / few.high - 1 > UNITS:
            converted = (bounds[row.line] / few).exp()
            message = (
                f"PPL {row['perplexity']} counts {counted} tokens per sentence; with {few} it "
                f"would be about {converted}"
            )
            values = {"perplexity": converted.middle, "tokens": counted.middle}
            yield Finding("suspicious", message, "", values, IDENTITY, (row,))


def weighted_agree(rows: Sequence[Row]) -> bool:
    """Whether the perplexities are those of the rows' importance-weighted bounds."""
    if not all(row.has("nll_iw") and row["nll_iw"].low > 0 for row in rows):
        return False
    spans = [(row["nll_iw"] / row["perplexity"].log()).widened(EXACT) for row in rows]
    return max(span.low for span in spans) <= min(span.high for span in spans)
