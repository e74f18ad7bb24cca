"""Find the identities that a published table of results breaks.

−ELBO = reconstruction + KL; a perplexity is exp(nats / symbols) with the same symbols in both; an
importance-weighted bound is at most −ELBO; I(x; z) is at most KL and at most ln N. Every printed
number is an interval as wide as its rounding, so rounding alone breaks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from isthmus.published.perplexities import across, implied, measurable
from isthmus.published.printed import Finding, Interval, Quantity, Row, Severity, Table

SATURATED = 0.95
"""Share of ln N above which an estimate of MI shows only that z distinguishes the examples."""
USUAL_POOLS = {
    **{size: f"batches of {size:,}" for size in (32, 64, 128, 256, 512, 1024)},
    3761: "the 3,761 test sentences of Penn Treebank",
    10_000: "a test set of 10,000",
}
"""Common sizes of the sample for an estimate of MI, for tables that do not print it."""
NEAR_USUAL = (0.975, 1.01)
"""Shares of ln N that count as its ceiling; the estimate of many implementations exceeds it."""
NOISE = 0.1
"""Nats by which two independent estimates on the same texts may differ."""
ACTIVE_UNIT_NATS = 0.005
"""Smallest KL of an active unit under a standard normal prior: mean² / 2 ≥ 0.01 / 2."""
MARKS = 2
"""Start and end of a sentence, which a count of tokens may include or not."""
INFORMED = 0.5
"""Nats of MI beyond rounding and noise."""
WEIGHTED_GAP = 0.05
"""Largest share of −ELBO that importance weights usually gain; more has another cause."""
ORDER: dict[Severity, int] = {"broken": 0, "suspicious": 1, "note": 2}


class Check(NamedTuple):
    """An identity of one row, the quantities it needs, and the function that checks it."""

    identity: str
    needs: tuple[Quantity, ...]
    find: Callable[[Row], Finding | None]


def beyond_noise(larger: Interval, smaller: Interval) -> bool:
    """Whether the difference exceeds that of two independent estimates on the same texts."""
    return larger.low - smaller.high > NOISE


def too_low(row: Row, least: Interval) -> Severity:
    """Severity of a −ELBO that is too low: a column called NLL may be importance-weighted."""
    sure = beyond_noise(least, row["negative_elbo"]) and not row.bound_is_nll
    return "broken" if sure else "suspicious"


def total(row: Row) -> Finding | None:
    """−ELBO = reconstruction + KL."""
    printed, reconstruction, kl = row["negative_elbo"], row["reconstruction"], row["kl"]
    expected = reconstruction + kl
    if printed.meets(expected):
        return None
    if printed.meets(reconstruction - kl):
        likely = "it is reconstruction − KL: the sign of the KL is wrong"
    elif printed.meets(reconstruction):
        likely = "it is the reconstruction alone: the KL is left out"
    elif kl.middle:
        weight = (printed.middle - reconstruction.middle) / kl.middle
        likely = (
            f"the KL counts {weight:.2f} times (a training objective with β or free bits, not the "
            "bound), or the columns come from different runs"
        )
    else:
        likely = "the columns come from different runs"
    if row.bound_is_nll and expected.above(printed):
        likely += "; or NLL is an importance-weighted bound"
    severity: Severity = "broken" if beyond_noise(printed, expected) else "suspicious"
    return Finding(
        too_low(row, expected) if expected.above(printed) else severity,
        f"−ELBO is {printed}, but reconstruction {reconstruction} + KL {kl} = {expected}",
        likely,
        {"printed": printed.middle, "expected": expected.middle},
    )


def weighted_at_most_bound(row: Row) -> Finding | None:
    """The importance-weighted NLL ≤ −ELBO (Burda et al. 2016, theorem 1)."""
    weighted, bound = row["nll_iw"], row["bound"]
    if not weighted.above(bound):
        return None
    sure = beyond_noise(weighted, bound)
    return Finding(
        "broken" if sure and not row.bound_is_nll else "suspicious",
        f"IW-NLL {weighted} is above −ELBO {bound}: importance weights can only lower it",
        "the log-mean-exp was taken of losses instead of log-weights, or the columns come from "
        "different texts or runs"
        if sure
        else "noise of two independent estimates",
        {"printed": weighted.middle, "at_most": bound.middle},
    )


def information_at_most(quantity: Quantity) -> Callable[[Row], Finding | None]:
    """I(x; z) estimated on N examples ≤ ln N."""

    def find(row: Row) -> Finding | None:
        information, count = row["mutual_information"], row[quantity]
        if count.low < 1 or (quantity == "sentences" and row.has("pool")):
            return None
        limit = Interval(math.log(count.low), math.log(count.high))
        values = {"printed": information.middle, "limit": limit.middle, "n": count.middle}
        ceiling = f"ln N = ln {count} = {limit.middle:.2f}"
        if information.above(limit):
            return Finding(
                "broken",
                f"MI {information} is above its maximum {ceiling}",
                "one term of the estimate is analytic and the other sampled, and it is saturated; "
                "or N is different",
                values,
            )
        if limit.middle and information.middle > SATURATED * limit.middle:
            return Finding(
                "suspicious",
                f"MI {information} is {information.middle / limit.middle:.0%} of its ceiling "
                f"{ceiling}: it shows that z distinguishes the examples, not how much it says "
                "about them",
                "the estimate is saturated; use more examples",
                values,
            )
        return None

    return find


def information_at_usual_ceiling(row: Row) -> Finding | None:
    """MI near ln N of a common N, if the table prints no N."""
    information = row["mutual_information"]
    if row.has("pool") or row.has("sentences"):
        return None
    for size, pool in USUAL_POOLS.items():
        share = information.middle / math.log(size)
        if NEAR_USUAL[0] <= share <= NEAR_USUAL[1]:
            return Finding(
                "suspicious",
                f"MI {information} would be at the ceiling for N = {size:,} "
                f"(ln N = {math.log(size):.2f}); the table prints no N",
                f"the estimate is saturated, if it is over {pool}",
                {"printed": information.middle, "limit": math.log(size), "n": size},
            )
    return None


def information_at_most_kl(row: Row) -> Finding | None:
    """I(x; z) ≤ KL: the difference is KL(q(z) ‖ p(z)) (Hoffman & Johnson 2016)."""
    information, kl = row["mutual_information"], row["kl"]
    if not information.above(kl):
        return None
    sure = beyond_noise(information, kl)
    return Finding(
        "broken" if sure else "suspicious",
        f"MI {information} is above KL {kl}",
        "the KL is a mean over dimensions, or the columns come from different runs"
        if sure
        else "noise of a sampled estimate",
        {"printed": information.middle, "at_most": kl.middle},
    )


def active_units_at_most_size(row: Row) -> Finding | None:
    """AU ≤ P, the latent size."""
    active, size = row["active_units"], row["latent_size"]
    if not active.above(size):
        return None
    return Finding(
        "broken",
        f"{active} active units exceed the latent size {size}",
        "swapped columns, or the latent size of another run",
        {"printed": active.middle, "at_most": size.middle},
    )


def active_units_cost(row: Row) -> Finding | None:
    """KL ≥ Σ Var(mean_j) / 2 under a standard normal prior, 0.005 nats for every active unit."""
    active, kl = row["active_units"], row["kl"]
    # 0.99, because the variance of AU divides by N − 1.
    least = active * (0.99 * ACTIVE_UNIT_NATS)
    if not least.above(kl):
        return None
    return Finding(
        "suspicious",
        f"{active} active units cost at least {least} nats under a standard normal prior, but "
        f"KL is {kl}",
        "another prior, a threshold other than Var(mean) ≥ 0.01, or columns of different runs",
        {"printed": kl.middle, "at_least": least.middle},
    )


def inactive_information(row: Row) -> Finding | None:
    """MI well above 0 needs means that vary: AU > 0."""
    active, information = row["active_units"], row["mutual_information"]
    if active.high > 0 or information.low <= INFORMED:
        return None
    return Finding(
        "suspicious",
        f"MI {information} without active units: z depends on x, but no mean varies",
        "the threshold of AU is too high for these posteriors, or columns of different runs",
        {"printed": information.middle},
    )


def perplexity_of_bound(row: Row) -> Finding | None:
    """PPL = exp(−ELBO / tokens), or less with importance weights."""
    if not measurable(row) or row["tokens"].low <= 0:
        return None
    nats = row["tokens"] * row["perplexity"].log()
    bound = row["bound"]
    lowest = row["nll_iw"] if row.has("nll_iw") and bound.above(row["nll_iw"]) else bound
    values = {"nats": nats.middle, "bound": bound.middle}
    start = f"PPL {row['perplexity']} at {row['tokens']} tokens per sentence is {nats} nats"
    if nats.above(bound):
        sure = (nats - row["perplexity"].log() * MARKS).above(bound) and not row.bound_is_nll
        return Finding(
            "broken" if sure else "suspicious",
            f"{start}, more than −ELBO {bound}: a perplexity is at most exp(−ELBO / tokens)",
            "−ELBO is too low (the sign of its KL), or the perplexity counts other symbols than "
            "the column of tokens"
            if sure
            else "the column of tokens includes the start or the end of a sentence, and the "
            "perplexity does not",
            values,
        )
    if not lowest.above(nats):
        return None
    gap = 1 - nats.high / lowest.low
    counted = implied(row)
    per_token = (bound / row["tokens"]).exp()
    values |= {"tokens": counted.middle, "perplexity": per_token.middle}
    if gap <= WEIGHTED_GAP and not row.has("nll_iw"):
        return Finding(
            "note", f"{start}, {gap:.1%} below −ELBO {bound}", "importance weights", values
        )
    return Finding(
        "suspicious",
        f"{start}, far below {lowest}: the perplexity counts {counted} tokens per sentence; with "
        f"the printed tokens it would be {per_token}",
        "the perplexity counts other symbols (subwords, not words)",
        values,
    )


def part(quantity: Quantity, name: str) -> Check:
    """−ELBO ≥ one of its two parts, if the other is not printed."""

    def find(row: Row) -> Finding | None:
        printed, least = row["negative_elbo"], row[quantity]
        if row.has("reconstruction", "kl") or not least.above(printed):
            return None
        return Finding(
            too_low(row, least),
            f"−ELBO {printed} is below the {name} {least}; its other part would be "
            f"{printed - least}",
            "the column is reconstruction − KL: the sign of the KL is wrong",
            {"printed": printed.middle, "at_least": least.middle},
        )

    return Check(f"−ELBO ≥ {name}", ("negative_elbo", quantity), find)


def floor(
    quantity: Quantity,
    name: str,
    least: int = 0,
    likely: str = "a sign is wrong, or a difference is printed instead of the quantity",
    noisy: bool = False,
) -> Check:
    """A quantity that is at least a number; estimates of a ``noisy`` one may be a bit lower."""

    def find(row: Row) -> Finding | None:
        printed, limit = row[quantity], Interval(least, least)
        if not limit.above(printed):
            return None
        return Finding(
            "suspicious" if noisy and not beyond_noise(limit, printed) else "broken",
            f"{name} {printed} is below {least}",
            likely,
            {"printed": printed.middle, "at_least": float(least)},
        )

    return Check(f"{name} ≥ {least}", (quantity,), find)


CHECKS = (
    Check("−ELBO = reconstruction + KL", ("negative_elbo", "reconstruction", "kl"), total),
    part("reconstruction", "reconstruction"),
    part("kl", "KL"),
    floor("negative_elbo", "−ELBO"),
    floor("kl", "KL"),
    floor("reconstruction", "reconstruction"),
    floor("nll_iw", "IW-NLL"),
    floor("perplexity", "PPL", 1, "it is not a perplexity"),
    floor("tokens", "tokens per sentence"),
    Check("IW-NLL ≤ −ELBO", ("nll_iw", "bound"), weighted_at_most_bound),
    Check("PPL = exp(−ELBO / tokens)", ("perplexity", "tokens", "bound"), perplexity_of_bound),
    Check("MI ≤ ln N", ("mutual_information", "pool"), information_at_most("pool")),
    Check("MI ≤ ln N", ("mutual_information", "sentences"), information_at_most("sentences")),
    Check("MI ≤ ln N", ("mutual_information",), information_at_usual_ceiling),
    Check("MI ≤ KL", ("mutual_information", "kl"), information_at_most_kl),
    floor(
        "mutual_information",
        "MI",
        likely="noise of an estimate with one analytic and one sampled term, near collapse",
        noisy=True,
    ),
    floor("active_units", "AU"),
    Check("AU ≤ latent size", ("active_units", "latent_size"), active_units_at_most_size),
    Check("KL > 0 where AU > 0", ("active_units", "kl"), active_units_cost),
    Check("AU > 0 where MI > 0", ("active_units", "mutual_information"), inactive_information),
)


def by_dataset(table: Table) -> list[list[Row]]:
    """The rows of each dataset; without a column for it, all rows are of one dataset."""
    names = dict.fromkeys(row.dataset.casefold() for row in table.rows)
    return [[row for row in table.rows if row.dataset.casefold() == name] for name in names]


def check(table: Table) -> list[Finding]:
    """All findings about a table, the certain ones first."""
    findings = [
        replace(found, identity=identity, rows=(row,))
        for row in table.rows
        for identity, needs, find in CHECKS
        if row.has(*needs) and (found := find(row))
    ]
    for rows in by_dataset(table):
        findings += across(rows)
    findings += [Finding("note", note, identity="table") for note in table.notes]
    return sorted(findings, key=lambda finding: ORDER[finding.severity])


def checked(table: Table) -> Sequence[str]:
    """The identities that can be checked with the columns of a table."""
    found = [
        identity for identity, needs, _ in CHECKS if any(row.has(*needs) for row in table.rows)
    ]
    if any(sum(row.has("perplexity", "bound") for row in rows) > 1 for rows in by_dataset(table)):
        found.append("the same tokens per sentence in all rows of a dataset")
    return list(dict.fromkeys(found))
