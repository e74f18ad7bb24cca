"""The report as one page that opens from disk: no script, no network, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from isthmus.signs.candidates import Contexts, Merge
from isthmus.signs.drawing import by_cluster, glyph, picture_styles

if TYPE_CHECKING:
    from isthmus.evaluation.usage import Estimate
    from isthmus.signs.analysis import Report

SHOWN = 300
"""Merge or split candidates on the page; the tables have all."""
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width">
<title>Signs: $title</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 76rem;
 padding: 0 1rem; color: #222; background: #fff }
h2 { margin-top: 2.2rem; border-bottom: 1px solid #bbb }
nav a { margin-right: 1rem }
table { border-collapse: collapse }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: left;
 vertical-align: middle }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
i { display: inline-block; width: 44px; height: 44px; background: #fff center/contain no-repeat;
 print-color-adjust: exact; -webkit-print-color-adjust: exact; vertical-align: middle }
small i { width: 26px; height: 26px; opacity: .75 }
figure { display: inline-block; margin: .15rem; text-align: center; max-width: 6.5rem }
figcaption { font-size: 11px; overflow-wrap: anywhere }
section.c { border-bottom: 1px solid #ddd; padding: .4rem 0 }
section.c h3 { font-size: 14px; margin: 0 }
.doubt { background: #fdf1d8 }
#place { position: relative; width: 100%; padding-top: 100%; border: 1px solid #ccc }
#place i { position: absolute }
</style>
<style>
$pictures
</style>
</head>
<body>
<h1>Signs: $title</h1>
<nav><a href="#number">How many</a><a href="#scores">Scores</a><a href="#merges">Merge?</a>
<a href="#splits">Split?</a><a href="#clusters">Clusters</a><a href="#map">Map</a></nav>
<p>$counts</p>
$warnings
<h2 id="number">How many signs</h2>
$number
<h2 id="scores">Scores against known names</h2>
$scores
<h2 id="merges">May be one sign</h2>
<p>Different names in one cluster, nearest first; beside each what stands most often before and
after it. Agreement is the share of $clusterings that put them together; below 0.5 a row is shaded.
To decide, write <b>merge</b> or <b>keep</b> into the column <code>decision</code> of
<code>merges.csv</code>, then <code>isthmus signs apply</code> this folder.</p>
$merges
<h2 id="splits">May be several signs</h2>
<p>One name in several clusters. To decide, write <b>split</b> or <b>keep</b> into
<code>splits.csv</code>.</p>
$splits
<h2 id="clusters">Every cluster</h2>
<p>The number under a sign is its confidence: how far $seeds runs put it together with the same
pictures (1: all agree). Below 0.5 it is shaded.</p>
$clusters
<h2 id="map">Map</h2>
<p>t-SNE of the codes: neighbours are alike; distances between groups mean nothing.</p>
<div id="place">$map</div>
</body>
</html>
""")


def page(report: Report) -> str:
    """The page, complete in one string."""
    return PAGE.substitute(
        title=escape(report.signs.source.replace("\\", "/").rpartition("/")[2]),
        pictures=picture_styles(report.signs.pictures),
        counts=escape(_counts(report)),
        warnings=_list(report.signs.warnings),
        number=_list(report.number.report()) if report.number else "<p>Too few pictures.</p>",
        scores=_scores(report),
        merges=_merges(report),
        splits=_splits(report),
        seeds=report.seeds * (1 + len(report.others)),
        clusterings=_clusterings(report),
        clusters=_clusters(report),
        map=_map(report),
    )


def _counts(report: Report) -> str:
    return (
        f"{report.signs.report()}. Codes: {', '.join([report.codes_from, *report.others])}. "
        f"{report.clusters.max() + 1:,} clusters, {len(set(report.names)):,} working names, "
        f"{len(report.merges):,} merge and {len(report.splits):,} split candidates."
    )


def _clusterings(report: Report) -> str:
    codes = f", {report.seeds} of each of {1 + len(report.others)} codes" if report.others else ""
    return f"{report.seeds * (1 + len(report.others))} clusterings{codes}"


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if lines else ""


def _table(header: Sequence[str], rows: Iterable[str]) -> str:
    cells = "".join(f"<th>{name}</th>" for name in header)
    return f"<table><tr>{cells}</tr>\n" + "\n".join(rows) + "\n</table>"


def _scores(report: Report) -> str:
    if not report.table:
        return "<p>No name has two pictures, or there are no tokens: nothing can be scored.</p>"

    def cell(estimate: Estimate) -> str:
        error = estimate.standard_error
        return f'<td class="n">{estimate.value:.3f}' + ("" if error is None else f" ± {error:.3f}")

    metrics = ("v_measure", "adjusted_mutual_information", "adjusted_rand_index", "accuracy")
    rows = []
    for row in report.table:
        cells = [cell(row.pictures[metric]) for metric in metrics]
        cells += [cell(row.tokens[metric]) for metric in metrics[:2]]
        cells += [cell(row.retrieval[name]) for name in ("top1", "top5")]
        rows.append(f"<tr><td>{escape(row.name)}" + "".join(cells))
    header = ["codes", "V", "AMI", "ARI", "accuracy", "tokens: V", "tokens: AMI", "top 1", "top 5"]
    note = (
        "<p>Ward's clusters, as many as types, each picture once; tokens by the official protocol "
        "(mean over seven numbers of clusters); top 1 and 5: a picture of the same type among the "
        "nearest. V is high by chance where types have few pictures: compare with the row of "
        "noise, and read AMI. ± is one standard error over pictures, for these clusters.</p>"
    )
    return _table(header, rows) + note


def _merges(report: Report) -> str:
    contexts = Contexts(report.signs.order)

    def row(merge: Merge, agreed: float) -> str:
        cells = []
        for picture in merge.pictures:
            before = " ".join(_glyph(report, other) for other, _ in contexts.left(picture))
            behind = " ".join(_glyph(report, other) for other, _ in contexts.right(picture))
            cells.append(
                f"<td><small>{before}</small> {_glyph(report, picture)} <small>{behind}</small>"
                f"<br>{escape(report.names[picture])}, {report.signs.counts[picture]:,}×"
            )
        cells += ["<td>"] * (3 - len(cells))
        doubt = ' class="doubt"' if agreed < 0.5 else ""
        begin = f'<tr{doubt}><td class="n">{merge.distance:.2f}<td class="n">{agreed:.2f}'
        return f"{begin}<td>{merge.cluster}" + "".join(cells)

    shown = report.merges[:SHOWN]
    header = ["distance", "agreement", "cluster", "first", "second", "third"]
    return _table(header, map(row, shown, report.agreement.tolist())) + _more(len(report.merges))


def _splits(report: Report) -> str:
    rows = []
    for split in report.splits[:SHOWN]:
        parts = "".join(
            f"<p>{cluster}: " + " ".join(_glyph(report, picture) for picture in part) + "</p>"
            for cluster, part in split.parts.items()
        )
        rows.append(f"<tr><td>{escape(split.name)}<td>{parts}")
    return _table(["name", "clusters"], rows) + _more(len(report.splits))


def _more(count: int) -> str:
    return f"<p>The first {SHOWN} of {count:,}; the table has all.</p>" if count > SHOWN else ""


def _clusters(report: Report) -> str:
    blocks = []
    for cluster, members in by_cluster(report.clusters, report.signs.counts).items():
        figures = []
        for picture in members:
            sure = report.confidence[picture]
            doubt = ' class="doubt"' if sure < 0.5 else ""
            figures.append(
                f"<figure{doubt}>{_glyph(report, picture)}<figcaption>"
                f"{escape(report.names[picture])}<br>{sure:.2f}</figcaption></figure>"
            )
        mean = np.mean(report.confidence[members])
        blocks.append(
            f'<section class="c"><h3>Cluster {cluster}: {len(members)} pictures, '
            f"{report.signs.counts[members].sum():,} tokens, confidence {mean:.2f}</h3>"
            + "".join(figures)
            + "</section>"
        )
    return "\n".join(blocks)


def _map(report: Report) -> str:
    step = 100 / (int(report.places.max()) + 1)
    size = f"width:{step:.2f}%;height:{step:.2f}%"
    return "\n".join(
        _glyph(report, picture, (f"left:{step * x:.2f}%", f"top:{step * y:.2f}%", size))
        for picture, (x, y) in enumerate(report.places.tolist())
    )


def _glyph(report: Report, picture: int, extra: Sequence[str] = ()) -> str:
    return glyph(picture, escape(report.names[picture]), extra)
