"""Rules on a space to walk in: meaning, fluency, walks, smoothness."""

from __future__ import annotations

from isthmus.evaluation.verdicts import Measured, Said

SAME = 0.9
"""Share of the way from random pairs to the text itself from which the meaning is the same."""
FLUENT_BETWEEN, FLUENT_SAMPLES = 1.5, 1.6
"""Up to these perplexities, relative to real texts, midpoints and samples pass for texts."""
BLAND = 0.6
"""Below this relative perplexity texts are much more predictable than real ones."""
STRANGE, STRANGE_SHARE = 2.0, 0.1
"""From so many times the unknown words of real texts, and this share of all words, no perplexity
speaks for a text."""
ARRIVING = 0.5
"""Share of walks with both ends word for word from which a walk joins the two texts."""
FORWARD = 0.9
"""Share of steps towards the end from which a walk has a direction."""


def meaning(m: Measured) -> Said:
    """Of the way from random pairs to the text itself; retrieval is the baseline."""
    words = f"{m('meaning_share'):.0%} of the way from a random text to the text itself"
    if m.has("meaning", "meaning_nearest") and m("meaning") < m("meaning_nearest"):
        nearest = f"cosine {m('meaning'):.2f} against {m('meaning_nearest'):.2f}"
        others = m.metrics.get("meaning_nearest_of", "others")
        return Said("note", f"{words}: the nearest of the {others} comes nearer ({nearest})")
    return Said("good" if m("meaning_share") >= SAME else "note", words)


def content(m: Measured) -> Said:
    """Words other than the most frequent ones, found in any place of the reconstruction."""
    return Said("note", f"{m('content_kept'):.0%} of the words that carry the content come back")


def ends(m: Measured) -> Said:
    """A walk between two texts should begin with the one and end with the other."""
    share = m("walk_ends_reproduced")
    words = f"{share:.0%} of {m('walk_pairs'):.0f} walks begin and end at the texts asked for"
    return Said("good" if share >= ARRIVING else "note", words)


def steps(m: Measured) -> Said:
    """Each step should lead away from the first text and towards the last."""
    words = (
        f"{m('walk_falls'):.0%} of the steps lead away from the first text and "
        f"{m('walk_rises'):.0%} towards the last; in {m('walk_stays'):.0%} the text stays"
    )
    forward = min(m("walk_falls"), m("walk_rises")) >= FORWARD
    return Said("good" if forward else "note", words)


def midpoints(m: Measured) -> Said:
    """Half-way between two texts there should be a text."""
    return _fluency(m, "midpoints", FLUENT_BETWEEN, "half-way between two texts")


def samples(m: Measured) -> Said:
    """Where the prior puts its samples, the decoder must have been trained."""
    standard = m.metrics.get("prior", "standard") == "standard"
    remedy = "; fit a prior to the space (isthmus prior)" if standard else ""
    return _fluency(m, "samples", FLUENT_SAMPLES, "samples from the prior", remedy)


def _fluency(m: Measured, part: str, most: float, what: str, remedy: str = "") -> Said:
    ratio = m(f"fluency_{part}")
    words = (
        f"{what}: perplexity {m(f'judged_ppl_{part}'):,.1f} per {m.metrics['judge_unit']}, "
        f"real texts {m('judged_ppl'):,.1f}"
    )
    strange, usual = f"unknown_words_{part}", "unknown_words"
    if m.has(strange, usual):
        least = m(strange) - 2 * m.error(strange)
        if least > max(STRANGE * m(usual), STRANGE_SHARE):
            shares = f"{m(strange):.0%} of the words are in no other text"
            return Said("warning", f"{words}, but {shares} ({m(usual):.0%} of real ones){remedy}")
    if ratio > most:
        return Said("warning", f"{words}: not fluent{remedy}")
    if ratio < BLAND:
        return Said("note", f"{words}: blander than real texts")
    return Said("good", words)


def smoothness(m: Measured) -> Said:
    """In standard deviations of the space; two texts lie √2 apart."""
    return Said(
        "note",
        f"moved by {m('meaning_radius'):.2f} deviations of the space, a text has lost half of its "
        f"meaning; a draw from its posterior lies {m('posterior_radius'):.2f} away",
    )
