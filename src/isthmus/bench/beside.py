"""What has been published on a corpus, converted where it can be, to stand beside a table."""

from __future__ import annotations

from isthmus.published.figures import TEST_SETS, per_word, published, remarks


def published_block(dataset: str) -> str:
    """Markdown of the published rows; empty for a corpus without any.

    Printed figures stay as printed; the per-word perplexity is the converted one, or says why
    there is none. None of these texts are the ones that Isthmus measures, so that the block is
    for reading, not for ranking.
    """
    if dataset not in TEST_SETS:
        return ""
    lines = [
        f"**Published on {TEST_SETS[dataset]}** (as printed; other splits, vocabularies and "
        "budgets than above)",
        "",
        "| system | paper | PPL | counts | PPL / word | KL | −ELBO | MI | AU | remarks |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for figure in published(dataset):
        word = per_word(figure)
        # A remark on units is what the column per word is there for.
        said = [remark for remark in remarks(figure) if not remark.startswith("PPL ")]
        cells = [
            figure.system,
            figure.paper,
            _shown(figure.perplexity),
            figure.unit or "–",
            "not comparable" if word.value is None else f"{word.value:.1f}",
            _shown(figure.kl),
            _shown(figure.true_negative_elbo),
            _shown(figure.mutual_information),
            _shown(figure.active_units),
            "; ".join([word.reason.removesuffix(f"; {TEST_SETS[dataset]}"), *said]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
