"""The rules behind the readings: what a number of an evaluation says, in plain words.

Each is a pure function of :class:`Measured`, None where its quantity was not measured; the table
in :mod:`isthmus.evaluation.readings` gives its name, its reason and its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple, final

from isthmus.data.kinds import of_record
from isthmus.evaluation.measures import Metrics

Level = Literal["good", "note", "warning"]

USED_NATS = 0.1
"""Swap gap, beyond two standard errors, mutual information, and KL of one dimension from which z
is used at all: the threshold of the collapse watch."""
LITTLE_NATS = 1.0
"""Mutual information below which z tells less than a choice among three."""
COLLAPSED_NATS = 1.0
"""A decoder that does not read z has lost the posterior below this KL; above it, it ignores z."""
LITTLE = 0.1
"""Share of the bound below which z tells a theme at best, and the decoder writes by itself."""
NEAR_LIMIT = 0.05
"""Share of a known entropy that a good model may lie above it."""
FAULT_ERRORS = 3.0
"""Standard errors below a known entropy from which chance is no excuse."""
LARGE_GAP = 1.0
"""Nats from which a gap between two bounds is worth words."""
MATCHED_NATS, MISMATCHED_NATS = 1.0, 5.0
"""KL(q(z) ‖ p(z)) up to which samples from the prior are what the decoder knows, and from which
they are not: the density of texts and of samples differs by a factor e^KL on average."""
WIDE = 1.25
"""Median of the aggregate's deviations, or its inverse, that is called wide or narrow."""
SURE = 0.9
"""Probability of the next token from which z is said to tell nearly everything."""
REMEDIES = (
    "free bits (--objective.free-bits 0.25), a smaller β (--objective.beta 0.1), or a longer "
    "stretch without it (--objective.schedule zero-ramp --objective.zero 0.6)"
)


@final
@dataclass(frozen=True)
class Measured:
    """What a rule may look at.

    Attributes:
        metrics: of one evaluation.
        limit: the entropy of the data, nats an example, where it is known.
        beta: what the KL was charged with at the end of training.
    """

    metrics: Metrics
    limit: float | None = None
    beta: float = 1.0

    def __call__(self, key: str) -> float:
        """A metric that is there."""
        return float(self.metrics[key])

    def has(self, *keys: str) -> bool:
        """Whether all of these were measured."""
        return all(self.metrics.get(key) is not None for key in keys)

    def error(self, key: str) -> float:
        """Its standard error; 0 where there is none."""
        return float(self.metrics.get(f"{key}_se") or 0.0)

    @property
    def one(self) -> str:
        """What an example is called."""
        return of_record(self.metrics).unit

    @property
    def latent_size(self) -> int:
        """P; 0 for a plain language model."""
        return int(self.metrics.get("latent_size") or 0)

    @property
    def unread(self) -> bool:
        """Whether the decoder does as well with another example's z."""
        if not self.has("swap_gap"):
            return self.has("kl") and self("kl") < USED_NATS
        return self("swap_gap") < USED_NATS + 2 * self.error("swap_gap")


class Said(NamedTuple):
    """What a rule says; ``value`` where the metrics have none under the rule's key."""

    level: Level
    reading: str
    value: float | None = None


# The bound


def likelihood(m: Measured) -> Said | None:
    """An upper bound that falls to the truth as samples grow (Burda et al. 2016, theorem 1).

    Below an exact entropy only a faulty metric can be (docs/numbers.md).
    """
    if not m.has("nll_iw"):
        return None
    samples = m.metrics.get("iw_samples", 1)
    if m.limit is None and not m.latent_size:
        return Said("note", "exact, as there is no latent to sum out; smaller is better")
    if m.limit is None:
        return Said(
            "note",
            f"the best bound on −log p(x) that {samples} samples of z give: the truth is this or "
            "less. Compare it between models of the same data only; smaller is better",
        )
    above = m("nll_iw") - m.limit
    known = f"the entropy of this corpus, {m.limit:.2f} nats, which is known exactly"
    if above < -FAULT_ERRORS * m.error("nll_iw"):
        return Said(
            "warning",
            f"{-above:.2f} nats below {known}: no model can be there, so something is wrong with "
            "the measurement, or these are other texts",
        )
    share = above / m.limit
    if above < 0:
        return Said("good", f"{-above:.2f} nats below {known}: within chance, it can be no better")
    words = f"{above:.2f} nats ({share:.1%}) above {known} and no model can beat on average"
    return Said("good" if share <= NEAR_LIMIT else "note", words)


def inference_gap(m: Measured) -> Said | None:
    """What one sample loses to K, of KL(q(z|x) ‖ p(z|x)) the larger part (Cremer et al. 2018)."""
    if not m.has("inference_gap"):
        return None
    gap = m("inference_gap")
    if gap < LARGE_GAP:
        return Said("good", "the ELBO is tight: it tells nearly what many samples of z tell")
    measured = m.has("amortisation_gap")
    more = "" if measured else "; isthmus evaluate --refine 20 tells how much is the encoder's"
    return Said(
        "note",
        f"the ELBO is {gap:.1f} nats looser than the importance-weighted bound, so compare models "
        f"by the latter{more}",
    )


def amortisation(m: Measured) -> Said | None:
    """The encoder's share of the gap (Cremer et al. 2018, table 1)."""
    if not m.has("amortisation_gap"):
        return None
    gap, steps = m("amortisation_gap"), m.metrics.get("refine_steps")
    if gap < LARGE_GAP:
        return Said("good", "the encoder finds nearly the best posterior of each example")
    return Said(
        "note",
        f"{steps} steps for each example find posteriors {gap:.1f} nats better than the encoder's:"
        " train the encoder longer and at β = 1",
    )


def approximation(m: Measured) -> Said | None:
    """The share of the family of posteriors (Cremer et al. 2018, table 1)."""
    if not m.has("approximation_gap"):
        return None
    gap = m("approximation_gap")
    if gap < LARGE_GAP:
        return Said("good", "a diagonal Gaussian is good enough for the true posterior")
    return Said(
        "note",
        f"{gap:.1f} nats remain with the best Gaussians found: take more steps, or a diagonal "
        "Gaussian is too simple here, which no encoder mends",
    )


def reconstruction(m: Measured) -> Said | None:
    """What z leaves to the decoder; by the token it is a probability that one can imagine."""
    if not m.has("reconstruction"):
        return None
    if not m.has("tokens", "sentences") or not m("tokens"):
        return Said("note", f"what the decoder still has to guess of a {m.one} once it knows z")
    each = m("reconstruction") * m("sentences") / m("tokens")
    sure = math.exp(-each)
    words = f"{each:.2f} nats a token: knowing z, the next token has probability {sure:.0%}"
    return Said("good" if sure >= SURE else "note", f"{words} (geometric mean)")


# Is the latent used?


def kl(m: Measured) -> Said | None:
    """Collapse is q(z|x) = p(z) for every x (Bowman et al. 2016, section 3).

    A young decoder may pay for a code that it does not read, which a KL alone hides.
    """
    if not m.has("kl"):
        return None
    kl = m("kl")
    if m.unread and kl < COLLAPSED_NATS:
        return Said(
            "warning",
            f"KL {kl:.2f} nats: z is not used, the posterior has collapsed. Every {m.one} has the "
            f"same code, so nothing in the space means anything; train with {REMEDIES}",
        )
    if m.unread:
        return Said(
            "warning",
            f"the bound pays {kl:.1f} nats for a code that the decoder does not read; train "
            "longer, or at a higher learning rate (--train.learning-rate)",
        )
    # Of a picture nearly all nats are noise of its values, which no z could tell.
    is_text = m.one == "sentence"
    if is_text and m.has("reconstruction") and kl < LITTLE * (kl + m("reconstruction")):
        return Said(
            "note",
            f"KL {kl:.1f} of {kl + m('reconstruction'):.1f} nats: z tells a little, a theme "
            "perhaps, and the decoder writes nearly all by itself; for a richer code take a "
            "smaller β",
        )
    charged = f"; training charged only {m.beta:g} of it (β)" if m.beta < 1 else ""
    if m.beta > 1:
        charged = f"; training charged it {m.beta:g} times (β)"
    return Said("good", f"z costs {kl:.1f} nats a {m.one}, and the decoder reads it{charged}")


def information(m: Measured) -> Said | None:
    """No estimate from N posteriors exceeds ln N (Hoffman & Johnson 2016; evaluate/usage.py)."""
    if not m.has("mutual_information", "mutual_information_limit"):
        return None
    found, limit = m("mutual_information"), m("mutual_information_limit")
    if m.metrics.get("mutual_information_saturated"):
        return Said(
            "note",
            f"MI is at its ceiling ln N = {limit:.2f}: it says that these examples are told apart "
            "and nothing more; only more of them could show more",
        )
    if found < USED_NATS + 2 * m.error("mutual_information"):
        return Said("warning", f"z tells nothing of which {m.one} it came from")
    return Said(
        "note" if found < LITTLE_NATS else "good",
        f"z tells {found:.2f} nats of x, as much as a choice among {math.exp(found):,.1f}; the "
        f"ceiling with so many examples is {limit:.2f}",
    )


def active_units(m: Measured) -> Said | None:
    """Var_x(mean) ≥ 0.01 (Burda et al. 2016, section 2)."""
    if not m.has("active_units"):
        return None
    active, size = int(m("active_units")), m.latent_size
    if not active:
        return Said("warning", f"none of {size} dimensions depends on the {m.one}")
    if active < size:
        unused = size - active
        verb = "dimension follows" if unused == 1 else "dimensions follow"
        return Said(
            "note",
            f"{active} of {size} dimensions are used; {unused} {verb} the prior whatever the "
            f"{m.one} is: moving along them changes nothing, and a smaller latent would do",
        )
    faint = sum(nats < USED_NATS for nats in m.metrics.get("kl_per_dimension", []))
    if faint:
        return Said(
            "note",
            f"all {size} dimensions vary with the {m.one}, {faint} of them by less than "
            f"{USED_NATS} nats: moving along those changes hardly anything",
        )
    return Said("good", f"all {size} dimensions are used")


def swap_gap(m: Measured) -> Said | None:
    """The one sign of use that asks the decoder itself; 0 if it ignores z (docs/numbers.md)."""
    if not m.has("swap_gap"):
        return None
    gap = m("swap_gap")
    if m.unread:
        return Said(
            "warning", f"another {m.one}'s z does as well as its own: the decoder ignores z"
        )
    words = f"with another {m.one}'s z the reconstruction is {gap:.1f} nats worse"
    if m.has("reconstruction") and gap < LITTLE * m("reconstruction"):
        return Said("note", f"{words}, of {m('reconstruction'):.1f}: the decoder listens a little")
    return Said("good", f"{words}: the decoder listens to z")


# The prior beside the aggregate posterior


def prior_mismatch(metrics: Metrics) -> list[float] | None:
    """½ (s² + m² − 1 − ln s²) of each dimension's mean m and deviation s under q(z), nats.

    Their sum is KL(q(z) ‖ p(z)) at least, for a standard normal prior: of all q with these
    moments a product of normals is nearest to it. Runs that do not tell m are taken at m = 0,
    which lowers the bound and keeps it one.

    Returns:
        [P]; None for another prior, or where the deviations are not told.
    """
    deviations = metrics.get("aggregate_standard_deviation")
    if not deviations or metrics.get("prior", "standard") != "standard":
        return None
    means = metrics.get("aggregate_mean") or [0.0] * len(deviations)
    return [
        0.5 * (s**2 + m**2 - 1 - math.log(max(s, 1e-12) ** 2))
        for m, s in zip(means, deviations, strict=True)
    ]


def aggregate(m: Measured) -> Said | None:
    """The bound charges KL(q(z) ‖ p(z)) beside I(x; z) (Hoffman & Johnson 2016).

    Samples come from p(z), and the decoder has learned q(z). Two bounds from below: moments, and
    what is left of the KL because I(x; z) ≤ H(x) ≤ −E log p(x).
    """
    each, gaps = prior_mismatch(m.metrics), _gaps(m)
    if each is None and gaps is None:
        return None
    shape = math.fsum(each or [])
    total = max(shape, gaps or 0.0)
    if total < MATCHED_NATS:
        if m.unread:
            return Said("note", "q(z) is the prior because every posterior is: no merit", total)
        return Said(
            "good",
            "no difference to speak of is seen, so samples from the prior fall where the decoder "
            f"knows its way{_surgery(m)}",
            total,
        )
    refit = "" if m.one == "example" else ", fit a prior (isthmus prior),"
    seen = _shape(m, each) if each is not None and shape >= (gaps or 0.0) else _between(m, total)
    return Said(
        "warning" if total >= MISMATCHED_NATS else "note",
        f"q(z) is {total:.1f} nats or more from the prior: {seen}. Sample from the aggregate "
        f"posterior{refit} or train at a larger β{_surgery(m)}",
        total,
    )


def _shape(m: Measured, each: list[float]) -> str:
    """Where the moments differ."""
    spread = m.metrics["aggregate_standard_deviation"]
    width, worst = median(spread), each.index(max(each))
    if width > WIDE:
        return f"{m.one}s lie wider than the prior, whose samples crowd in their middle"
    if width < 1 / WIDE:
        return f"{m.one}s lie narrower than the prior, whose samples fall outside of them"
    return f"dimension {worst} is farthest off, with a spread of {spread[worst]:.2f}"


def _gaps(m: Measured) -> float | None:
    """KL − min(H(x), −log p(x)): nats that cannot be told of x."""
    contents = [m.limit, m("nll_iw") if m.has("nll_iw") else None]
    known = [nats for nats in contents if nats is not None]
    return m("kl") - min(known) if known and m.has("kl") else None


def _between(m: Measured, gaps: float) -> str:
    """Where the moments agree and the density does not."""
    return (
        f"a {m.one} has {m('kl') - gaps:.1f} nats to tell and z spends {m('kl'):.1f}, so the rest "
        "keeps codes apart, and samples from the prior fall into the gaps"
    )


def _surgery(m: Measured) -> str:
    """The other side: KL = I(x; z) + KL(q(z) ‖ p(z)), and MI of N examples is I(x; z) at most."""
    if not m.has("kl", "mutual_information") or m.metrics.get("mutual_information_saturated"):
        return ""
    return f" (KL − MI: at most {max(m('kl') - m('mutual_information'), 0):.2f})"
