"""Rules on what comes back of texts and pictures, on samples, and on labels beside z."""

from __future__ import annotations

import math
from typing import Any

from isthmus.evaluation.verdicts import Measured, Said

WORD_FOR_WORD, FORGOTTEN = 0.9, 0.1
"""Exact match that is called good, and at or below which z holds themes rather than texts."""
SAME_MEANING = 50.0
"""BLEU from which a reconstruction is near enough to be read for the text."""
REPEATED, STUCK = 0.9, 0.5
"""Share of the data's own variety below which samples repeat themselves, and badly."""
LEAKED = 0.02
"""Share of texts from which a leak of the label into z is worth words."""

# What comes back


def exact_match(m: Measured) -> Said | None:
    """Greedy reconstruction from the posterior mean: what a walk in the space shows."""
    if not m.has("exact_match"):
        return None
    share = m("exact_match")
    words = f"{share:.0%} come back from their code word for word"
    if share >= WORD_FOR_WORD:
        return Said("good", f"{words}: a point of the space is a sentence")
    if share <= FORGOTTEN:
        return Said("note", f"{words}: z keeps at most the theme of a sentence, not its words")
    return Said("note", f"{words}: others change in a word or more")


def bleu(m: Measured) -> Said | None:
    """Word groups of one to four words (Papineni et al. 2002), kinder than word for word."""
    if not m.has("bleu"):
        return None
    if m("bleu") >= SAME_MEANING:
        return Said("good", "what comes back shares most of its word groups with the original")
    return Said("note", "of 100: word groups that what comes back shares with the original")


def squared_error(m: Measured) -> Said | None:
    """No likelihood: a number to compare reconstructions by (docs/numbers.md)."""
    if not m.has("squared_error"):
        return None
    typical = math.sqrt(m("squared_error"))
    return Said("note", f"a pixel is off by {typical:.0%} of the grey scale, root mean square")


def bits(m: Measured) -> Said | None:
    """Probabilities of 2 or 256 levels, never densities (docs/numbers.md)."""
    if not m.has("bits_per_dimension"):
        return None
    return Said("note", "what a lossless file would take for each value; compare at equal levels")


def perplexity(m: Measured) -> Said | None:
    """Compares over the same symbols only (docs/numbers.md)."""
    if not m.has("ppl_word"):
        return None
    if m.metrics.get("unknown_tokens"):
        return Said(
            "warning",
            f"{m('unknown_tokens'):,.0f} tokens are unknown to the vocabulary and count as one "
            "cheap word: does not compare with other vocabularies",
        )
    return Said(
        "note",
        f"a guess among {m('ppl_word'):,.1f} equally likely words at every step; the end of a "
        "sentence counts as one",
    )


def variety(m: Measured) -> Said | None:
    """Variety depends on how many texts there are: beside the same of the data."""
    if not m.has("prior_unique", "data_unique") or not m("data_unique"):
        return None
    ratio = m("prior_unique") / m("data_unique")
    words = f"{m('prior_unique'):.0%} of a batch of samples are distinct, of the data as many "
    words = f"{words}are {m('data_unique'):.0%}"
    if ratio < STUCK:
        return Said("warning", f"{words}: samples say the same over and over")
    return Said("note" if ratio < REPEATED else "good", words)


def cut(m: Measured) -> Said | None:
    """Their ends are in no number."""
    if not m.metrics.get("cut"):
        return None
    return Said("note", "sentences are longer than the model reads and were measured up to there")


# Labels beside z


def accuracy(m: Measured) -> Said | None:
    """Beside the trivial answer, or it says nothing."""
    if not m.has("label_accuracy"):
        return None
    right, sizes = m("label_accuracy"), [p["sentences"] for p in _per_label(m)]
    if not sizes:
        return Said("note", f"the label of {right:.0%} is told right")
    chance = max(sizes) / sum(sizes)
    words = f"the label of {right:.0%} is told right; always the commonest one: {chance:.0%}"
    known = right > chance + 2 * m.error("label_accuracy")
    return Said("good" if known else "warning", words if known else f"{words}. Nothing is learned")


def _per_label(m: Measured) -> list[dict[str, Any]]:
    return list(m.metrics.get("per_label", {}).values())


def calibration(m: Measured) -> Said | None:
    """The error of a perfect posterior is not 0 with few texts (evaluate/calibration.py)."""
    if not m.has("calibration_error", "calibration_error_if_perfect"):
        return None
    found, perfect = m("calibration_error"), m("calibration_error_if_perfect")
    errors = math.hypot(m.error("calibration_error"), m.error("calibration_error_if_perfect"))
    if found <= perfect + 2 * errors:
        return Said(
            "good",
            f"a perfect posterior would show {perfect:.3f} from so many texts: its probabilities "
            "can be believed",
        )
    return Said(
        "note",
        f"confidence and accuracy differ by {found:.1%} on average, {perfect:.1%} would be "
        "chance: read the order of its probabilities rather than their size",
    )


def leakage(m: Measured) -> Said | None:
    """Accuracy of a linear probe beyond that of the commonest label (evaluate/labels.py)."""
    if not m.has("label_leakage"):
        return None
    left = m("label_leakage")
    if left <= 2 * m.error("label_leakage") or left < LEAKED:
        return Said("good", "z says nothing of the label: changing the label changes the text")
    return Said(
        "note",
        f"a probe tells the label from z in {left:.0%} more texts than guessing does: part of it "
        "stays in z, and a new label may have to be pushed by guidance",
    )


def labels_used(m: Measured) -> Said | None:
    """Clusters die as dimensions do: all texts in one of them."""
    if not m.has("labels_used", "label_information") or m.has("label_accuracy"):
        return None
    if int(m("labels_used")) == 1:
        return Said("warning", "every text is in the same cluster: y is not used")
    return Said(
        "good", f"y tells {m('label_information'):.2f} nats of x in {int(m('labels_used'))} labels"
    )
