"""Which identities does a published table of results break?

−ELBO = reconstruction + KL; a perplexity is exp(nats / symbols) with the same symbols in both; an
importance-weighted bound is at most −ELBO; I(x; z) is at most KL and at most ln N. Every printed
number counts as the interval that its rounding leaves, so that rounding breaks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

from isthmus.published.perplexities import across, implied, measurable
from isthmus.published.printed import Finding, Interval, Quantity, Row, Severity, Table

SATURATED = 0.95
"""Share of ln N above which an estimate of MI says only that examples are told apart."""
USUAL_POOLS = {
    **{size: f"batches of {size:,}" for size in (32, 64, 128, 256, 512, 1024)},
    3761: "the 3,761 test sentences of Penn Treebank",
    10_000: "a test set of 10,000",
}
"""Where N is not printed: what MI is often estimated over."""
NEAR_USUAL = (0.975, 1.01)
"""Share of ln N that counts as being at a usual ceiling; the estimate of many codes exceeds it."""
NOISE = 0.1
"""Nats by which two separately sampled estimates of the same texts may differ."""
ACTIVE_UNIT_NATS = 0.005
"""What one active unit costs at least under a standard normal prior: mean² / 2 ≥ 0.01 / 2."""
MARKS = 2
"""Start and end of a sentence: one count of tokens may have them and another not."""
INFORMED = 0.5
"""Nats of MI that no rounding or noise explains."""
WEIGHTED_GAP = 0.05
"""Share of −ELBO that importance weights commonly gain; more than that has another cause."""
ORDER: dict[Severity, int] = {"broken": 0, "suspicious": 1, "note": 2}


@final
@dataclass(frozen=True)
class Fault:
    """A finding about one row, before it is told which row."""

    severity: Severity
    message: str
    likely: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


class Check(NamedTuple):
    """An identity of one row, what must be printed for it, and what looks for its breach."""

    identity: str
    needs: tuple[Quantity, ...]
    find: Callable[[Row], Fault | None]


def beyond_noise(larger: Interval, smaller: Interval) -> bool:
    """Larger by more than two separate samples of the same texts would differ."""
    return larger.low - smaller.high > NOISE


def too_low(row: Row, least: Interval) -> Severity:
    """How sure it is that −ELBO is too low: a column called NLL may be importance-weighted."""
    sure = beyond_noise(least, row["negative_elbo"]) and not row.bound_is_nll
    return "broken" if sure else "suspicious"


def total(row: Row) -> Fault | None:
    """−ELBO = reconstruction + KL."""
    printed, reconstruction, kl = row["negative_elbo"], row["reconstruction"], row["kl"]
    expected = reconstruction + kl
    if printed.meets(expected):
        return None
    if printed.meets(reconstruction - kl):
        likely = "it is reconstruction − KL: the sign of the KL is wrong"
    elif printed.meets(reconstruction):
        likely = "it is the reconstruction alone, the KL is left out"
    elif kl.middle:
        weight = (printed.middle - reconstruction.middle) / kl.middle
        likely = (
            f"the KL counts {weight:.2f} times (a training objective with β or free bits instead "
            "of the bound), or the columns come from different runs"
        )
    else:
        likely = "the columns come from different runs"
    if row.bound_is_nll and expected.above(printed):
        likely += "; or NLL is an importance-weighted bound"
    severity: Severity = "broken" if beyond_noise(printed, expected) else "suspicious"
    return Fault(
        too_low(row, expected) if expected.above(printed) else severity,
        f"−ELBO is printed as {printed}, reconstruction {reconstruction} + KL {kl} is {expected}",
        likely,
        {"printed": printed.middle, "expected": expected.middle},
    )


def at_least(quantity: Quantity, name: str) -> Callable[[Row], Fault | None]:
    """−ELBO ≥ one of its parts, where the other is not printed."""

    def find(row: Row) -> Fault | None:
        printed, part = row["negative_elbo"], row[quantity]
        if row.has("reconstruction", "kl") or not part.above(printed):
            return None
        return Fault(
            too_low(row, part),
            f"−ELBO {printed} is below the {name} {part}, so that the other part of it would be "
            f"{printed - part}",
            "the column is reconstruction − KL: the sign of the KL is wrong",
            {"printed": printed.middle, "at_least": part.middle},
        )

    return find


def floor(quantity: Quantity, name: str, least: int, likely: str) -> Callable[[Row], Fault | None]:
    """A quantity that is never below some number."""

    def find(row: Row) -> Fault | None:
        if not Interval(least, least).above(row[quantity]):
            return None
        values = {"printed": row[quantity].middle, "at_least": float(least)}
        return Fault("broken", f"{name} {row[quantity]} is below {least}", likely, values)

    return find


def weighted_at_most_bound(row: Row) -> Fault | None:
    """The importance-weighted NLL ≤ −ELBO (Burda et al. 2016, theorem 1)."""
    weighted, bound = row["nll_iw"], row["bound"]
    if not weighted.above(bound):
        return None
    sure = beyond_noise(weighted, bound)
    return Fault(
        "broken" if sure and not row.bound_is_nll else "suspicious",
        f"IW-NLL {weighted} is above −ELBO {bound}: importance weights can only lower it",
        "the logarithm of the mean was taken of positive losses, or the two are of different "
        "texts or runs"
        if sure
        else "noise of two separate samples",
        {"printed": weighted.middle, "at_most": bound.middle},
    )


def information_at_most(quantity: Quantity) -> Callable[[Row], Fault | None]:
    """I(x; z) estimated over N examples ≤ ln N."""

    def find(row: Row) -> Fault | None:
        information, count = row["mutual_information"], row[quantity]
        if count.low < 1 or (quantity == "sentences" and row.has("pool")):
            return None
        limit = Interval(math.log(count.low), math.log(count.high))
        values = {"printed": information.middle, "limit": limit.middle, "n": count.middle}
        ceiling = f"ln N = ln {count} = {limit.middle:.2f}"
        if information.above(limit):
            return Fault(
                "broken",
                f"MI {information} is above {ceiling}, which no information on N examples is",
                "one term of it is analytic and the other sampled (and it is at its ceiling), or "
                "N is another",
                values,
            )
        if limit.middle and information.middle > SATURATED * limit.middle:
            return Fault(
                "suspicious",
                f"MI {information} is {information.middle / limit.middle:.0%} of its ceiling "
                f"{ceiling}: it says that the examples are told apart, not how much z tells of "
                "them",
                "the estimate is saturated; take more examples",
                values,
            )
        return None

    return find


def information_at_usual_ceiling(row: Row) -> Fault | None:
    """MI at ln N of a usual N, where the table prints none."""
    information = row["mutual_information"]
    if row.has("pool") or row.has("sentences"):
        return None
    for size, pool in USUAL_POOLS.items():
        share = information.middle / math.log(size)
        if NEAR_USUAL[0] <= share <= NEAR_USUAL[1]:
            return Fault(
                "suspicious",
                f"MI {information} would be at the ceiling for N = {size:,} "
                f"(ln N = {math.log(size):.2f}); the table prints no N",
                f"the estimate is saturated, if it was taken over {pool}",
                {"printed": information.middle, "limit": math.log(size), "n": size},
            )
    return None


def information_at_most_kl(row: Row) -> Fault | None:
    """I(x; z) ≤ KL: their difference is KL(q(z) ‖ p(z)) (Hoffman & Johnson 2016)."""
    information, kl = row["mutual_information"], row["kl"]
    if not information.above(kl):
        return None
    sure = beyond_noise(information, kl)
    return Fault(
        "broken" if sure else "suspicious",
        f"MI {information} is above KL {kl}",
        "the KL is a mean over dimensions, or the two are of different runs"
        if sure
        else "noise of a sampled estimate",
        {"printed": information.middle, "at_most": kl.middle},
    )


def information_not_negative(row: Row) -> Fault | None:
    """I(x; z) ≥ 0."""
    information, nothing = row["mutual_information"], Interval(0, 0)
    if not nothing.above(information):
        return None
    return Fault(
        "broken" if beyond_noise(nothing, information) else "suspicious",
        f"MI {information} is negative, which no mutual information is",
        "noise of an estimate with one analytic and one sampled term, near collapse",
        {"printed": information.middle, "at_least": 0.0},
    )


def active_units_at_most_size(row: Row) -> Fault | None:
    """AU ≤ P, the latent size."""
    active, size = row["active_units"], row["latent_size"]
    if not active.above(size):
        return None
    return Fault(
        "broken",
        f"{active} active units of a latent of {size}",
        "columns exchanged, or the latent size of another run",
        {"printed": active.middle, "at_most": size.middle},
    )


def active_units_cost(row: Row) -> Fault | None:
    """KL ≥ Σ Var(mean_j) / 2 under a standard normal prior, 0.005 nats for every active unit."""
    active, kl = row["active_units"], row["kl"]
    # 0.99: the variance of AU divides by N − 1
    least = active * (0.99 * ACTIVE_UNIT_NATS)
    if not least.above(kl):
        return None
    return Fault(
        "suspicious",
        f"{active} active units cost at least {least} nats under a standard normal prior, "
        f"KL is {kl}",
        "another prior, another threshold than Var(mean) ≥ 0.01, or columns of different runs",
        {"printed": kl.middle, "at_least": least.middle},
    )


def active_units_tell(row: Row) -> Fault | None:
    """MI well above 0 needs means that vary: AU > 0."""
    active, information = row["active_units"], row["mutual_information"]
    if active.high > 0 or information.low <= INFORMED:
        return None
    return Fault(
        "suspicious",
        f"MI {information} with no active unit: z tells of x though no mean varies",
        "the threshold of AU is too high for these posteriors, or columns of different runs",
        {"printed": information.middle},
    )


def perplexity_of_bound(row: Row) -> Fault | None:
    """PPL = exp(−ELBO / tokens), or less with importance weights, never more."""
    if not measurable(row) or row["tokens"].low <= 0:
        return None
    nats = row["tokens"].times(row["perplexity"].log())
    bound = row["bound"]
    lowest = row["nll_iw"] if row.has("nll_iw") and bound.above(row["nll_iw"]) else bound
    values = {"nats": nats.middle, "bound": bound.middle}
    start = f"PPL {row['perplexity']} at {row['tokens']} tokens a sentence is {nats} nats"
    if nats.above(bound):
        sure = (nats - row["perplexity"].log() * MARKS).above(bound) and not row.bound_is_nll
        return Fault(
            "broken" if sure else "suspicious",
            f"{start}, more than −ELBO {bound}: no bound gives a higher perplexity than −ELBO",
            "−ELBO is printed too low (the sign of its KL), or the perplexity counts other "
            "symbols than the column of tokens"
            if sure
            else "the column of tokens counts the start or the end of a sentence, the perplexity "
            "does not",
            values,
        )
    if not lowest.above(nats):
        return None
    gap = 1 - nats.high / lowest.low
    counted = implied(row)
    per_token = (bound / row["tokens"]).exp()
    values |= {"tokens": counted.middle, "perplexity": per_token.middle}
    if gap <= WEIGHTED_GAP and not row.has("nll_iw"):
        return Fault(
            "note", f"{start}, {gap:.1%} below −ELBO {bound}", "importance weights", values
        )
    return Fault(
        "suspicious",
        f"{start}, far below the printed {lowest}: as a bound it counts {counted} tokens a "
        f"sentence; per token of that column it would be {per_token}",
        "the perplexity counts other symbols (subwords, not words)",
        values,
    )


SIGN = "a sign is wrong, or a difference is printed in place of the quantity"
CHECKS = (
    Check("−ELBO = reconstruction + KL", ("negative_elbo", "reconstruction", "kl"), total),
    Check(
        "−ELBO ≥ reconstruction",
        ("negative_elbo", "reconstruction"),
        at_least("reconstruction", "reconstruction"),
    ),
    Check("−ELBO ≥ KL", ("negative_elbo", "kl"), at_least("kl", "KL")),
    Check("−ELBO ≥ 0", ("negative_elbo",), floor("negative_elbo", "−ELBO", 0, SIGN)),
    Check("KL ≥ 0", ("kl",), floor("kl", "KL", 0, SIGN)),
    Check(
        "reconstruction ≥ 0",
        ("reconstruction",),
        floor("reconstruction", "reconstruction", 0, SIGN),
    ),
    Check("IW-NLL ≥ 0", ("nll_iw",), floor("nll_iw", "IW-NLL", 0, SIGN)),
    Check("PPL ≥ 1", ("perplexity",), floor("perplexity", "PPL", 1, "it is not a perplexity")),
    Check("tokens ≥ 0", ("tokens",), floor("tokens", "tokens per sentence", 0, SIGN)),
    Check("IW-NLL ≤ −ELBO", ("nll_iw", "bound"), weighted_at_most_bound),
    Check("PPL = exp(−ELBO / tokens)", ("perplexity", "tokens", "bound"), perplexity_of_bound),
    Check("MI ≤ ln N", ("mutual_information", "pool"), information_at_most("pool")),
    Check("MI ≤ ln N", ("mutual_information", "sentences"), information_at_most("sentences")),
    Check("MI ≤ ln N", ("mutual_information",), information_at_usual_ceiling),
    Check("MI ≤ KL", ("mutual_information", "kl"), information_at_most_kl),
    Check("MI ≥ 0", ("mutual_information",), information_not_negative),
    Check("AU ≥ 0", ("active_units",), floor("active_units", "AU", 0, SIGN)),
    Check("AU ≤ latent size", ("active_units", "latent_size"), active_units_at_most_size),
    Check("KL > 0 where AU > 0", ("active_units", "kl"), active_units_cost),
    Check("AU > 0 where MI > 0", ("active_units", "mutual_information"), active_units_tell),
)


def by_dataset(table: Table) -> list[list[Row]]:
    """The rows of every dataset; where no column names it, all are of one."""
    names = dict.fromkeys(row.dataset.casefold() for row in table.rows)
    return [[row for row in table.rows if row.dataset.casefold() == name] for name in names]


def check(table: Table) -> list[Finding]:
    """Everything that a table breaks, the certain first."""
    findings = [
        Finding(fault.severity, identity, (row,), fault.message, fault.likely, fault.values)
        for row in table.rows
        for identity, needs, find in CHECKS
        if row.has(*needs) and (fault := find(row))
    ]
    for rows in by_dataset(table):
        findings += across(rows)
    findings += [Finding("note", "table", (), note) for note in table.notes]
    return sorted(findings, key=lambda finding: ORDER[finding.severity])


def checked(table: Table) -> Sequence[str]:
    """The identities that the columns of a table allow to check."""
    found = [
        identity for identity, needs, _ in CHECKS if any(row.has(*needs) for row in table.rows)
    ]
    if any(sum(row.has("perplexity", "bound") for row in rows) > 1 for rows in by_dataset(table)):
        found.append("the same tokens per sentence in all rows of a dataset")
    return list(dict.fromkeys(found))
