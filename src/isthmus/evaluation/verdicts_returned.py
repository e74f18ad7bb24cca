"""Rules on reconstructed texts and pictures, on samples, and on labels next to z."""

from __future__ import annotations

import math
from typing import Any

from isthmus.evaluation.verdicts import Measured, Said
from isthmus.runs.card import vain

WORD_FOR_WORD, FORGOTTEN = 0.9, 0.1
"""Exact match from which z holds texts, and up to which it holds themes."""
SAME_MEANING = 50.0
"""BLEU from which a reconstruction can pass for the text."""
REPEATED, STUCK = 0.9, 0.5
"""Samples repeat themselves below this share of the data's own variety, and badly below that."""
LEAKED = 0.02
"""Share of texts from which a leak of the label into z is worth a note."""

# Reconstructions


def exact_match(m: Measured) -> Said:
    """Reconstructed greedily from the posterior mean, as on a walk through the space."""
    share = m("exact_match")
    words = f"{share:.0%} are reconstructed word for word"
    if share >= WORD_FOR_WORD:
        return Said("good", f"{words}: a point of the space is a sentence")
    if share <= FORGOTTEN:
        return Said("note", f"{words}: z keeps at most the theme of a sentence, not its words")
    return Said("note", f"{words}; the others change by a word or more")


def bleu(m: Measured) -> Said:
    """Shared groups of one to four words (Papineni et al. 2002): more lenient than exact match."""
    if m("bleu") >= SAME_MEANING:
        return Said("good", "reconstructions share most of their word groups with the original")
    return Said(
        "note", f"{m('bleu'):.1f} of 100: word groups that reconstructions share with the original"
    )


def squared_error(m: Measured) -> Said:
    """Not a likelihood: only compares reconstructions (docs/numbers.md)."""
    typical = math.sqrt(m("squared_error"))
    return Said("note", f"a pixel is off by {typical:.0%} of the grey scale, root mean square")


def bits(m: Measured) -> Said:
    """From probabilities of 2 or 256 levels, never from densities (docs/numbers.md)."""
    return Said(
        "note", "the size of a lossless file, per value; compare only at the same number of levels"
    )


def perplexity(m: Measured) -> Said | None:
    """Comparable only between models with the same symbols (docs/numbers.md)."""
    if vain(m.metrics, "ppl_word"):
        return None
    return Said(
        "note",
        f"as uncertain as a choice among {m('ppl_word'):,.1f} equally likely words at every step; "
        "the end of a sentence counts as a word",
    )


def characters(m: Measured) -> Said | None:
    """What compares models of texts without words between spaces, whatever their tokens."""
    if m.has("ppl_word"):
        return None
    words = "these texts have no words between spaces"
    if m.metrics.get("unknown_tokens"):
        return Said("note", words)
    return Said("note", f"the size of a lossless file; {words}")


def unknown(m: Measured) -> Said | None:
    """A word outside the vocabulary is one easy token: the figures say nothing about it."""
    if not m("unknown_tokens"):
        return None
    words = (
        f"{m('unknown_tokens'):,.0f} are outside the vocabulary and count as one easy word each: "
        "figures do not compare across vocabularies"
    )
    if m.unreadable:
        words += "; train with another tokenizer (--data.tokenizer bpe)"
    return Said("warning", words)


def variety(m: Measured) -> Said | None:
    """Compared with equally many texts of the data, as variety depends on the number of texts."""
    if not m.metrics.get("data_unique"):
        return None
    ratio = m("prior_unique") / m("data_unique")
    words = (
        f"{m('prior_unique'):.0%} of a batch of samples are distinct, against "
        f"{m('data_unique'):.0%} of the data"
    )
    if ratio < STUCK:
        return Said("warning", f"{words}: samples repeat the same texts over and over")
    return Said("note" if ratio < REPEATED else "good", words)


def cut(m: Measured) -> Said | None:
    """The numbers leave out the ends of these sentences."""
    if not m.metrics.get("cut"):
        return None
    return Said("note", "sentences are longer than the model reads and were cut at its limit")


# Labels next to z


def accuracy(m: Measured) -> Said:
    """Compared with always predicting the most common label."""
    right, sizes = m("label_accuracy"), [p["sentences"] for p in _per_label(m)]
    if not sizes:
        return Said("note", f"predicts the label of {right:.0%} correctly")
    chance = max(sizes) / sum(sizes)
    words = (
        f"predicts the label of {right:.0%} correctly; always the most common one: {chance:.0%}"
    )
    if right > chance + 2 * m.error("label_accuracy"):
        return Said("good", words)
    return Said("warning", f"{words}. Nothing was learned")


def _per_label(m: Measured) -> list[dict[str, Any]]:
    return list(m.metrics.get("per_label", {}).values())


def calibration(m: Measured) -> Said | None:
    """From few texts, even a perfect posterior shows an error above 0 (Bröcker & Smith 2007)."""
    if not m.has("calibration_error_if_perfect"):
        return None
    found, perfect = m("calibration_error"), m("calibration_error_if_perfect")
    errors = math.hypot(m.error("calibration_error"), m.error("calibration_error_if_perfect"))
    if found <= perfect + 2 * errors:
        return Said(
            "good",
            f"a perfect posterior would show {perfect:.3f} from this number of texts: the "
            "probabilities can be trusted",
        )
    return Said(
        "note",
        f"confidence and accuracy differ by {found:.1%} on average; {perfect:.1%} would be "
        "chance. Trust the order of the probabilities, not their size",
    )


def leakage(m: Measured) -> Said:
    """Accuracy of a linear probe beyond that of always the most common label."""
    left = m("label_leakage")
    if left <= 2 * m.error("label_leakage") or left < LEAKED:
        return Said("good", "z says nothing about the label: changing the label changes the text")
    return Said(
        "note",
        f"a probe predicts the label from z in {left:.0%} more texts than guessing does: part of "
        "the label stays in z, and a new label may need guidance to take effect",
    )


def labels_used(m: Measured) -> Said | None:
    """Clusters can collapse as dimensions do: all texts then share one."""
    if m.has("label_accuracy") or not m.has("label_information"):
        return None
    if int(m("labels_used")) == 1:
        return Said("warning", "every text is in the same cluster: y is not used")
    return Said(
        "good",
        f"y carries {m('label_information'):.2f} nats about x in {int(m('labels_used'))} labels",
    )
