"""The report on a script, written to a folder: a page, tables to fill in, two pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from isthmus.data.pictures.grid import picture_address
from isthmus.evaluation.page import document, listed, table
from isthmus.evaluation.usage import Estimate
from isthmus.signs.analysis import Report, summary
from isthmus.signs.candidates import Contexts, Merge
from isthmus.signs.decisions import check_undecided, write_tables
from isthmus.signs.drawing import by_cluster, contact_sheet, ink, map_picture

SHOWN = 300
"""Merge or split candidates on the page; the tables have all."""
DOUBTFUL = 0.5
"""Agreement or confidence below which a row or a picture is shaded."""
SCORES = (
    "Ward's clusters, one for each known type, every picture counted once. Tokens: the official "
    "protocol, a mean over seven numbers of clusters. Top 1 and 5: how often a picture of the "
    "same type is among the nearest. V is high by chance where types have few pictures: compare "
    "with the row of noise, and read AMI. ± is one standard error over pictures, for these "
    "clusters."
)


def write(report: Report, folder: Path) -> None:
    """Write index.html, three tables to fill in, two pictures, and summary.json.

    Raises:
        IsthmusError: The tables that are already there hold decisions.
    """
    check_undecided(folder)
    folder.mkdir(parents=True, exist_ok=True)
    signs = report.signs
    write_tables(
        folder,
        signs,
        report.names,
        report.clusters,
        report.confidence,
        report.merges,
        report.agreement,
        report.splits,
    )
    contact_sheet(signs.pictures, report.clusters, signs.counts, folder / "contact_sheet.png")
    map_picture(signs.pictures, report.places, folder / "map.png")
    (folder / "index.html").write_text(page(report), encoding="utf-8")
    text = json.dumps(summary(report), indent=1, ensure_ascii=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")


def page(report: Report) -> str:
    """The page, complete in one string."""
    signs = report.signs
    sections = {
        "How many signs": listed(report.number.report(), "ul")
        if report.number
        else "<p>Too few pictures.</p>",
        "Scores against known names": _scores(report),
        "May be one sign": _merges(report),
        "May be several signs": _splits(report),
        "Every cluster": _clusters(report),
        "Map": _map(report),
    }
    # Each picture is in the page once, as a CSS rule.
    pictures = "\n".join(
        f".p{number}{{background-image:url({picture_address(ink(picture))})}}"
        for number, picture in enumerate(signs.pictures)
    )
    name = signs.source.replace("\\", "/").rpartition("/")[2]
    intro = f"<p>{escape(_counts(report))}</p>{listed(signs.warnings, 'ul')}"
    style = (files("isthmus.signs") / "page.css").read_text(encoding="utf-8")
    return document(f"Signs: {name}", intro, sections, f"{style}{pictures}\n")


def _counts(report: Report) -> str:
    return (
        f"{report.signs.report()}. Codes: {', '.join([report.codes_from, *report.others])}. "
        f"{report.clusters.max() + 1:,} clusters, {len(set(report.names)):,} working names, "
        f"{len(report.merges):,} merge and {len(report.splits):,} split candidates."
    )


def _scores(report: Report) -> str:
    if not report.table:
        return "<p>No name has two pictures, or there are no tokens: nothing can be scored.</p>"

    def cell(estimate: Estimate) -> str:
        error = estimate.standard_error
        return f"{estimate.value:.3f}" + ("" if error is None else f" ± {error:.3f}")

    metrics = ("v_measure", "adjusted_mutual_information", "adjusted_rand_index", "accuracy")
    rows = [
        [
            escape(row.name),
            *(cell(row.pictures[metric]) for metric in metrics),
            *(cell(row.tokens[metric]) for metric in metrics[:2]),
            *(cell(row.retrieval[name]) for name in ("top1", "top5")),
        ]
        for row in report.table
    ]
    header = ["codes", "V", "AMI", "ARI", "accuracy", "tokens: V", "tokens: AMI", "top 1", "top 5"]
    return table(header, rows, "scores named") + f"<p>{SCORES}</p>"


def _merges(report: Report) -> str:
    contexts = Contexts(report.signs.order)

    def side(pictures: Sequence[tuple[int, int]]) -> str:
        return f"<small>{' '.join(_glyph(report, other) for other, _ in pictures)}</small>"

    def row(merge: Merge, agreed: float) -> list[str]:
        cells = [
            f"{side(contexts.left(picture))} {_glyph(report, picture)} "
            f"{side(contexts.right(picture))}"
            f"<br>{escape(report.names[picture])}, {report.signs.counts[picture]:,}×"
            for picture in merge.pictures
        ]
        cells += [""] * (3 - len(cells))
        return [f"{merge.distance:.2f}", f"{agreed:.2f}", str(merge.cluster), *cells]

    agreement = report.agreement.tolist()
    clusterings = f"{report.seeds * (1 + len(report.others))} clusterings"
    if report.others:
        clusterings += f", {report.seeds} for each of {1 + len(report.others)} codes,"
    note = (
        "<p>Different names in one cluster, nearest first. Each is shown between the signs that "
        f"most often precede and follow it. Agreement is the share of {clusterings} that put the "
        f"names together; rows below {DOUBTFUL} are shaded. To decide, write <b>merge</b> or "
        "<b>keep</b> into the column <code>decision</code> of <code>merges.csv</code>, then run "
        "<code>isthmus signs apply</code> on this folder.</p>"
    )
    header = ["distance", "agreement", "cluster", "first", "second", "third"]
    rows = map(row, report.merges[:SHOWN], agreement)
    doubtful = {place for place, agreed in enumerate(agreement) if agreed < DOUBTFUL}
    return note + table(header, rows, "merges named", doubtful) + _more(len(report.merges))


def _splits(report: Report) -> str:
    rows = []
    for split in report.splits[:SHOWN]:
        parts = (
            f"<p>{cluster}: {' '.join(_glyph(report, picture) for picture in part)}</p>"
            for cluster, part in split.parts.items()
        )
        rows.append([escape(split.name), "".join(parts)])
    note = (
        "<p>One name in several clusters. To decide, write <b>split</b> or <b>keep</b> into "
        "<code>splits.csv</code>.</p>"
    )
    return note + table(["name", "clusters"], rows) + _more(len(report.splits))


def _more(count: int) -> str:
    return f"<p>The first {SHOWN} of {count:,}; the table has all.</p>" if count > SHOWN else ""


def _clusters(report: Report) -> str:
    blocks = [
        "<p>The number under a sign is its confidence: how far "
        f"{report.seeds * (1 + len(report.others))} clusterings put it together with the same "
        f"pictures (1: all agree). Below {DOUBTFUL} it is shaded.</p>"
    ]
    for cluster, members in by_cluster(report.clusters, report.signs.counts).items():
        figures = []
        for picture in members:
            sure = report.confidence[picture]
            doubt = ' class="doubt"' if sure < DOUBTFUL else ""
            figures.append(
                f"<figure{doubt}>{_glyph(report, picture)}<figcaption>"
                f"{escape(report.names[picture])}<br>{sure:.2f}</figcaption></figure>"
            )
        blocks.append(
            f'<section class="c"><h3>Cluster {cluster}: {len(members)} pictures, '
            f"{report.signs.counts[members].sum():,} tokens, confidence "
            f"{np.mean(report.confidence[members]):.2f}</h3>{''.join(figures)}</section>"
        )
    return "\n".join(blocks)


def _map(report: Report) -> str:
    step = 100 / (int(report.places.max()) + 1)
    size = f"width:{step:.2f}%;height:{step:.2f}%"
    glyphs = "\n".join(
        _glyph(report, picture, f"left:{step * x:.2f}%;top:{step * y:.2f}%;{size}")
        for picture, (x, y) in enumerate(report.places.tolist())
    )
    note = "t-SNE of the codes: neighbours are alike; distances between groups mean nothing."
    return f'<p>{note}</p>\n<div id="place">{glyphs}</div>'


def _glyph(report: Report, picture: int, style: str = "") -> str:
    name = escape(report.names[picture])
    style = f' style="{style}"' if style else ""
    return f'<i class="p{picture}" role="img" aria-label="{name}" title="{name}"{style}></i>'
