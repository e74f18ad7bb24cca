"""The rules behind the readings: what a number of an evaluation means, in plain words.

Each rule is a pure function of :class:`Measured`, called if the metrics that it needs were
measured. Its docstring is shown to the user as the reason for the rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple, final

from isthmus.data.kinds import of_record
from isthmus.data.tokens import MANY_UNKNOWN
from isthmus.evaluation.floor import FAULT_ERRORS
from isthmus.evaluation.measures import Metrics

Level = Literal["good", "note", "warning"]

USED_NATS = 0.1
"""z counts as used from this swap gap, mutual information (both beyond two standard errors), or
KL of one dimension. The watch uses the same threshold."""
LITTLE_NATS = 1.0
"""Below this mutual information, z says less about x than a choice among three."""
COLLAPSED_NATS = 1.0
"""If the decoder does not read z, the posterior has collapsed below this KL."""
LITTLE = 0.1
"""Below this share of the bound, z carries a theme at best."""
NEAR_LIMIT = 0.05
"""A good model is above a known entropy by at most this share of it."""
LARGE_GAP = 1.0
"""From this many nats a gap between two bounds is worth a note."""
MATCHED_NATS, MISMATCHED_NATS = 1.0, 5.0
"""Up to the first KL(q(z) ‖ p(z)), the decoder knows samples from the prior; from the second it
does not: the densities of examples and of samples differ by a factor e^KL on average."""
WIDE = 1.25
"""The aggregate is wide from this median deviation, and narrow below its inverse."""
SURE = 0.9
"""From this probability of the next token, z says nearly everything."""
SMALL_BETA = 0.1
"""From this β down, a z that is not read needs longer training and no smaller β."""
_LONGER = 5
"""Factor of the steps of a run that was too short."""
READABLE = "train with another tokenizer (--data.tokenizer bpe)"
"""What mends many unknown words."""


def longer(steps: int, minutes: float = 0.0) -> str:
    """What mends a run that was too short, in steps or also in the time that it had."""
    if not steps:
        return "train longer"
    time = f" --train.minutes {_LONGER * minutes:g}" if minutes else ""
    return f"train longer (--train.steps {_LONGER * steps}{time})"


def freed(beta: float) -> str:
    """What keeps a KL from being pressed to 0."""
    less = SMALL_BETA if beta > SMALL_BETA else beta / 5
    return f"train at a smaller β (--objective.beta {less:g})"


def revived(collapsed: bool, beta: float, steps: int, minutes: float = 0.0) -> str:
    """What brings a z into use that the decoder does not read: one remedy, which was tried.

    Args:
        collapsed: whether its KL is near 0 as well.
        beta: weight of the KL at the end of the run.
        steps: of the run; 0 if they are not known.
        minutes: that it was given; 0 for no limit.
    """
    return freed(beta) if collapsed and beta > SMALL_BETA else longer(steps, minutes)


@final
@dataclass(frozen=True)
class Measured:
    """What the rules read.

    Attributes:
        metrics: Of one evaluation.
        limit: Entropy of the data in nats per example, where it is known.
        beta: Weight of the KL at the end of training.
        steps: Of training; 0 if they are not known.
        remedy: What the watch advised in training, if anything.
    """

    metrics: Metrics
    limit: float | None = None
    beta: float = 1.0
    steps: int = 0
    remedy: str = ""

    def __call__(self, key: str) -> float:
        """A metric that was measured."""
        return float(self.metrics[key])

    def has(self, *keys: str) -> bool:
        """Whether all of these were measured."""
        return all(self.metrics.get(key) is not None for key in keys)

    def error(self, key: str) -> float:
        """The standard error of a metric; 0 where it has none."""
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
    def unreadable(self) -> bool:
        """Whether so many words are unknown that the tokenizer is the first thing to mend."""
        if not self.has("unknown_tokens", "tokens"):
            return False
        ends = self.metrics.get("sentences", 0)
        return self("unknown_tokens") > MANY_UNKNOWN * max(1, self("tokens") - ends)

    @property
    def revived(self) -> str:
        """What brings a z into use: the same that training said."""
        if self.unreadable:
            return READABLE
        return self.remedy or revived(self("kl") < COLLAPSED_NATS, self.beta, self.steps)

    @property
    def faint(self) -> bool:
        """Whether z carries so little of a sentence that a smaller β would be worth it."""
        # Nearly all nats of a picture are noise of its values, which no z could carry.
        if self.one != "sentence" or not self.has("kl", "reconstruction"):
            return False
        return self("kl") < LITTLE * (self("kl") + self("reconstruction"))

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


def likelihood(m: Measured) -> Said:
    """An upper bound that approaches the true value with more samples (Burda et al. 2016).

    A value below a known entropy means that the measurement is wrong (docs/numbers.md).
    """
    samples = m.metrics.get("iw_samples", 1)
    if m.limit is None and not m.latent_size:
        return Said("note", "exact, since there is no latent to integrate out; smaller is better")
    if m.limit is None:
        return Said(
            "note",
            f"the tightest bound on −log p(x) from {samples} samples of z; the true value is at "
            "most this. Smaller is better; compare only models of the same data",
        )
    above = m("nll_iw") - m.limit
    known = f"the known entropy of this corpus, {m.limit:.2f} nats"
    if m.has("nll_iw_se") and above < -FAULT_ERRORS * m.error("nll_iw"):
        return Said(
            "warning",
            f"{-above:.2f} nats below {known}: impossible for any model, so the measurement is "
            "wrong or the texts come from another corpus",
        )
    share = above / m.limit
    if above < 0:
        return Said("good", f"{-above:.2f} nats below {known}: the best possible, within error")
    words = f"{above:.2f} nats ({share:.1%}) above {known}, which no model can beat on average"
    return Said("good" if share <= NEAR_LIMIT else "note", words)


def inference_gap(m: Measured) -> Said:
    """What one sample of z loses against K; most of KL(q(z|x) ‖ p(z|x)) (Cremer et al. 2018)."""
    gap = m("inference_gap")
    if gap < LARGE_GAP:
        return Said("good", "the ELBO is tight: many samples of z improve it little")
    measured = m.has("amortisation_gap")
    more = "" if measured else "; isthmus evaluate --refine 20 measures the encoder's share"
    return Said(
        "note",
        f"the ELBO is {gap:.1f} nats looser than the importance-weighted bound, so compare models "
        f"by the latter{more}",
    )


def amortisation(m: Measured) -> Said:
    """The encoder's share of the gap (Cremer et al. 2018, table 1)."""
    gap, steps = m("amortisation_gap"), m.metrics.get("refine_steps")
    if gap < LARGE_GAP:
        return Said("good", "the encoder finds nearly the best posterior of each example")
    return Said(
        "note",
        f"{steps} steps of refinement find posteriors {gap:.1f} nats better than the encoder's",
    )


def approximation(m: Measured) -> Said:
    """The share of the posterior family in the gap (Cremer et al. 2018, table 1)."""
    gap = m("approximation_gap")
    if gap < LARGE_GAP:
        return Said("good", "the Gaussian family comes close to the true posterior")
    return Said(
        "note",
        f"{gap:.1f} nats remain with the best Gaussians found. Refine for more steps; if they "
        "remain, the Gaussian family is too simple here, and no encoder can help",
    )


def reconstruction(m: Measured) -> Said:
    """What the decoder still has to guess; per token, this is the probability of each guess."""
    if not m.has("tokens", "sentences") or not m("tokens"):
        return Said("note", f"what the decoder still has to guess about the {m.one}, given z")
    each = m("reconstruction") * m("sentences") / m("tokens")
    sure = math.exp(-each)
    shown = f"{sure:.0%}" if sure >= 0.01 else f"{100 * sure:.1g}%"
    words = f"{each:.2f} nats per token: given z, the next token has probability {shown}"
    return Said("good" if sure >= SURE else "note", f"{words} (geometric mean)")


# Is the latent used?


def kl(m: Measured) -> Said:
    """The posterior has collapsed if q(z|x) = p(z) for every x (Bowman et al. 2016, section 3).

    Early in training the bound may pay for a code that the decoder ignores; the KL alone does not
    show this.
    """
    kl = m("kl")
    if m.unread and kl < COLLAPSED_NATS:
        return Said(
            "warning",
            f"KL {kl:.2f} nats: z is not used, the posterior has collapsed. Every {m.one} has the "
            f"same code, so the space has no meaning; {m.revived}",
        )
    if m.unread:
        return Said(
            "warning",
            f"the bound pays {kl:.1f} nats for a code that the decoder does not read; {m.revived}",
        )
    if m.faint:
        # No second remedy beside that of the watch.
        free = f"; for a richer code, {freed(m.beta)}" if m.beta > SMALL_BETA else ""
        return Said(
            "note",
            f"KL {kl:.1f} of {kl + m('reconstruction'):.1f} nats: z carries a little, perhaps a "
            f"theme, and the decoder writes nearly all by itself{'' if m.remedy else free}",
        )
    charged = f"; training charged only {m.beta:g} of it (β)" if m.beta < 1 else ""
    if m.beta > 1:
        charged = f"; training charged it {m.beta:g} times (β)"
    return Said("good", f"z costs {kl:.1f} nats per {m.one}, and the decoder reads it{charged}")


def information(m: Measured) -> Said | None:
    """An estimate from N posteriors cannot exceed ln N (Hoffman & Johnson 2016)."""
    if not m.has("mutual_information_limit"):
        return None
    found, limit = m("mutual_information"), m("mutual_information_limit")
    if m.metrics.get("mutual_information_saturated"):
        return Said(
            "note",
            f"MI is at its ceiling, ln N = {limit:.2f}: z identifies each of these examples. Only "
            "more examples could show more",
        )
    if found < USED_NATS + 2 * m.error("mutual_information"):
        return Said("warning", f"z says nothing about which {m.one} it came from")
    return Said(
        "note" if found < LITTLE_NATS else "good",
        f"z carries {found:.2f} nats about x, as much as a choice among {math.exp(found):,.1f}; "
        f"the ceiling for this number of examples is {limit:.2f}",
    )


def active_units(m: Measured) -> Said:
    """Dimensions whose posterior mean has variance ≥ 0.01 over x (Burda et al. 2016)."""
    active, size = int(m("active_units")), m.latent_size
    if not active:
        return Said("warning", f"none of {size} dimensions depends on the {m.one}")
    if active < size:
        unused = size - active
        verb = "dimension follows" if unused == 1 else "dimensions follow"
        return Said(
            "note",
            f"{active} of {size} dimensions are used; {unused} {verb} the prior for every "
            f"{m.one}. Moving along them changes nothing; a smaller latent would be enough",
        )
    faint = sum(nats < USED_NATS for nats in m.metrics.get("kl_per_dimension", []))
    if faint:
        return Said(
            "note",
            f"all {size} dimensions vary with the {m.one}, {faint} of them by less than "
            f"{USED_NATS} nats: moving along those changes hardly anything",
        )
    return Said("good", f"all {size} dimensions are used")


def swap_gap(m: Measured) -> Said:
    """The only measure of use that involves the decoder; 0 if it ignores z (docs/numbers.md)."""
    gap = m("swap_gap")
    if m.unread:
        return Said(
            "warning", f"another {m.one}'s z does as well as its own: the decoder ignores z"
        )
    words = f"with another {m.one}'s z the reconstruction is {gap:.1f} nats worse"
    if m.has("reconstruction") and gap < LITTLE * m("reconstruction"):
        return Said("note", f"{words}, of {m('reconstruction'):.1f}: the decoder uses z a little")
    gaps = m.metrics.get("swap_gap_per_latent") or []
    errors = m.metrics.get("swap_gap_per_latent_se") or []
    pairs = zip(gaps, errors, strict=True)
    idle = sum(alone < USED_NATS + 2 * (error or 0.0) for alone, error in pairs)
    if idle:
        return Said(
            "note",
            f"{words}, but no worse when {idle} of the {len(gaps)} latents, one at a time, are "
            "that other one's: these hold nothing that the others do not",
        )
    return Said("good", f"{words}: the decoder uses z")


# The prior and the aggregate posterior


def prior_mismatch(metrics: Metrics) -> list[float] | None:
    """½ (s² + m² − 1 − ln s²) of each dimension's mean m and deviation s under q(z), nats.

    For a standard normal prior, their sum is a lower bound on KL(q(z) ‖ p(z)): of all q with
    these moments, a product of normals is the nearest. A run without m counts as m = 0, which can
    only lower the bound.

    Returns:
        [P]; None for another prior, or for a run without the deviations.
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
    """The KL of the bound is I(x; z) + KL(q(z) ‖ p(z)) (Hoffman & Johnson 2016).

    Samples come from p(z), but the decoder has learned q(z). The value is the larger of two lower
    bounds: one from the moments of q(z), and one from I(x; z) ≤ H(x) ≤ −E log p(x).
    """
    each, gaps = prior_mismatch(m.metrics), _gaps(m)
    if each is None and not (gaps or 0.0) > 0:
        return None  # neither bound says anything
    shape = math.fsum(each or [])
    total = max(shape, gaps or 0.0)
    if total < MATCHED_NATS:
        if m.unread:
            return Said("note", "q(z) is the prior only because every posterior is", total)
        return Said(
            "good",
            "q(z) is close to the prior, so samples from the prior fall where the decoder was "
            f"trained{_surgery(m)}",
            total,
        )
    ways = ["Sample from the aggregate posterior"]
    ways += [] if m.one == "example" else ["fit a prior (isthmus prior)"]
    seen = _shape(m, each) if each is not None and shape >= (gaps or 0.0) else _between(m, total)
    return Said(
        "warning" if total >= MISMATCHED_NATS else "note",
        f"q(z) is {total:.1f} nats or more from the prior: {seen}. "
        f"{' or '.join(filter(None, [', '.join(ways[:-1]), ways[-1]]))}{_surgery(m)}",
        total,
    )


def _shape(m: Measured, each: list[float]) -> str:
    """Where the moments differ."""
    spread = m.metrics["aggregate_standard_deviation"]
    width, worst = median(spread), each.index(max(each))
    if width > WIDE:
        return f"{m.one}s spread wider than the prior, whose samples crowd in their middle"
    if width < 1 / WIDE:
        return f"{m.one}s spread narrower than the prior, whose samples fall outside them"
    return f"dimension {worst} is farthest off, with a spread of {spread[worst]:.2f}"


def _gaps(m: Measured) -> float | None:
    """KL − min(H(x), −log p(x)): nats of z that cannot be about x."""
    contents = [m.limit, m("nll_iw") if m.has("nll_iw") else None]
    known = [nats for nats in contents if nats is not None]
    return m("kl") - min(known) if known and m.has("kl") else None


def _between(m: Measured, gaps: float) -> str:
    """Where the moments agree and the density does not."""
    return (
        f"a {m.one} holds {m('kl') - gaps:.1f} nats and z spends {m('kl'):.1f}, so the rest keeps "
        "codes apart, and samples from the prior fall into the gaps between them"
    )


def _surgery(m: Measured) -> str:
    """An upper bound: KL = I(x; z) + KL(q(z) ‖ p(z)), and MI of N examples is at most I(x; z)."""
    if not m.has("kl", "mutual_information") or m.metrics.get("mutual_information_saturated"):
        return ""
    return f" (KL − MI: at most {max(m('kl') - m('mutual_information'), 0):.2f})"
