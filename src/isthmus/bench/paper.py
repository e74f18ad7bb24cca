"""Results as one page: tables, figures, the command of every row, and what others published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final, final

from isthmus.bench.table import (
    PUBLISHED_HEADS,
    cells_of,
    explained,
    published_rows,
    published_title,
)
from isthmus.evaluation.page import document, table
from isthmus.evaluation.plots import COLOURS, HINT, SOFT, inline
from isthmus.published.figures import TEST_SETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR: Final = 1.15
"""Rows whose −ELBO is more than this multiple of their language model's are not drawn."""
STYLE: Final = """
body { max-width: 96rem }
.wide { overflow-x: auto }
.figures td { white-space: nowrap; font-variant-numeric: tabular-nums; font-size: .82rem }
.figures th { white-space: nowrap }
.figures td:first-child { position: sticky; left: 0; background: var(--paper) }
.remarks td:last-child { white-space: normal; min-width: 20rem }
.figures a { color: inherit; text-decoration: none }
.figures a:hover { text-decoration: underline }
.commands li { margin: .5rem 0 } .commands li:target { background: var(--mark) }
figure { max-width: 46rem; margin: 1rem 0 }
"""


@final
@dataclass(frozen=True)
class Part:
    """The results of one corpus.

    Args:
        title: Of the section.
        rows: As :func:`isthmus.bench.table.summary` makes them.
        commands: Row → the command that trains and measures it.
        corpus: Whose published rows are shown, if there are any.
    """

    title: str
    rows: Sequence[dict[str, Any]]
    commands: Mapping[str, str]
    corpus: str = ""


def page(title: str, intro: str, parts: Sequence[Part], others: Mapping[str, str]) -> str:
    """The whole page, which opens from disk.

    Args:
        title: Plain text.
        intro: Plain text above the contents.
        parts: A section each.
        others: Further sections, heading → markup.
    """
    sections = {part.title: section(part) for part in parts}
    head = f"<p>{escape(intro)}</p>"
    return document(title, head, sections | dict(others), STYLE)


def section(part: Part) -> str:
    """Figure, table and commands of a corpus, and the published rows."""
    if not part.rows:
        return ""
    heads, cells = cells_of(part.rows)
    places = {row["row"]: place(part.title, row["row"]) for row in part.rows}
    linked = [
        [f'<a href="#{places[row["row"]]}">{escape(cell)}</a>' for cell in line]
        for row, line in zip(part.rows, cells, strict=True)
    ]
    return "\n".join(
        [
            inline(
                "Rate (KL) and distortion (reconstruction), nats per sentence. On its line a row "
                "has the −ELBO of its language model; below it, a better one.",
                lambda axis: rate_and_distortion(axis, part.rows),
                size=(7.2, 4.4),
            ),
            f'<div class="wide">{table(heads, linked, "figures named")}</div>',
            f'<p class="soft">{escape(explained(part.rows[0]))}</p>',
            "<h3>How each row was made</h3>",
            made(part, places),
            published_part(part.corpus),
        ]
    )


def place(title: str, row: str) -> str:
    """The name of the place on the page that has the command of a row."""
    return f"made-{title}-{row}".lower().replace(" ", "-")


def made(part: Part, places: Mapping[str, str]) -> str:
    """The commands, each where the cells of its row lead."""
    lines = [
        f'<li id="{escape(places[name := row["row"]])}"><b>{escape(name)}</b>: '
        f"{escape(row['what'])}<br><code>{escape(part.commands[name])}</code></li>"
        for row in part.rows
    ]
    return f'<ul class="commands">{"".join(lines)}</ul>'


def published_part(corpus: str) -> str:
    """What others published on a corpus: as printed, as converted, or why it is not comparable."""
    if corpus not in TEST_SETS:
        return ""
    title, differ = published_title(corpus)
    rows = [[escape(cell) for cell in row] for row in published_rows(corpus)]
    shown = f'<div class="wide">{table(PUBLISHED_HEADS, rows, "figures remarks named")}</div>'
    return f'<h3>{escape(title)}</h3><p class="soft">{escape(differ)}</p>{shown}'


def rate_and_distortion(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Reconstruction over KL; rows that share a language model share a colour and its line.

    On the line reconstruction + KL is the −log p(x) of the language model. Rows that differ in a
    number alone, such as a λ, are joined. Rows far above their line are left out, and named; where
    points are close, one has its name beside it and all have theirs as a hint.
    """
    named = {row["row"]: row for row in rows}
    families = dict.fromkeys(row["plain"] or row["row"] for row in rows)
    drawn = {row["row"]: row for row in rows if row["plain"] and not _far(row, named)}
    left = [row["row"] for row in rows if row["plain"] and row["row"] not in drawn]
    end = 1.08 * max([row["kl"] for row in drawn.values()], default=1.0)
    heights = [row["reconstruction"] for row in rows if row["row"] not in left]
    room = 0.06 * (max(heights) - min(heights)) + 0.5
    labelled: list[tuple[float, float]] = []
    for colour, family in zip(COLOURS, families, strict=False):
        if family in named:
            bound = named[family]["negative_elbo"]
            axis.plot((0, end), (bound, bound - end), color=colour, linewidth=1, label=family)
        own = [row for row in drawn.values() if row["plain"] == family]
        for stem in dict.fromkeys(_stem(row["row"]) for row in own):
            line = sorted((r["kl"], r["reconstruction"]) for r in own if _stem(r["row"]) == stem)
            axis.plot(*zip(*line, strict=True), ":", color=colour, linewidth=1)
        for row in own:
            axis.plot(
                *(row["kl"], row["reconstruction"], "o"),
                color=colour,
                markersize=4,
                gid=f"{HINT}{row['row']}: KL {row['kl']:.2f}, rec. {row['reconstruction']:.2f}",
            )
            x, y = row["kl"], row["reconstruction"]
            if all(abs(x - a) > 0.15 * end or abs(y - b) > 0.7 * room for a, b in labelled):
                labelled.append((x, y))
                axis.annotate(row["row"], (x, y), (4, 3), textcoords="offset points", fontsize=7)
    axis.set(xlabel="KL", ylabel="reconstruction", xlim=(-0.02 * end, end))
    axis.set_ylim(min(heights) - room, max(heights) + room)
    if left:
        axis.set_title(f"outside: {', '.join(left)}", fontsize=8, color=SOFT, loc="left")
    axis.legend(fontsize=7, frameon=False)


def _far(row: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> bool:
    plain = named.get(row["plain"])
    return plain is not None and row["negative_elbo"] > FAR * plain["negative_elbo"]


def _stem(name: str) -> str:
    """A name without the number at its end."""
    stem, _, number = name.rpartition("-")
    try:
        return stem if math.isfinite(float(number)) else name
    except ValueError:
        return name
