"""A run as one self-contained page: no scripts, no requests, everything escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from isthmus.data.captioned import Example
from isthmus.data.pictures.grid import SIDE
from isthmus.evaluation import plots
from isthmus.evaluation.metrics import finite
from isthmus.evaluation.page import changed_words, document, grid, listed, table
from isthmus.evaluation.readings import Reading
from isthmus.runs.card import ENDS, SUMMARY, counted, summary_of
from isthmus.runs.folders import flattened
from isthmus.runs.hub import title
from isthmus.studio.excerpts import Excerpts
from isthmus.studio.health import curves, dimensions, readings

LEVELS = {"good": "● good", "note": "◆ note", "warning": "▲ warning"}
A_ROW = 12
"""Pictures in a row."""


def page(run: Path, record: dict[str, Any], shown: Excerpts, corpus: Any | None = None) -> str:
    """The whole page.

    Args:
        run: The run directory; only its name and its log are read.
        record: Its run.json.
        shown: What the model answered, see :func:`isthmus.studio.excerpts.excerpts`.
        corpus: The corpus of the map and the reconstructions, if any.
    """
    metrics = finite(record.get("metrics") or {})
    sections = {
        "What the numbers say": _readings(readings(record)),
        "Training": _training(curves(run)),
        "Every dimension": _dimensions(metrics),
        "Map": _map(shown),
        "Reconstructions": _returned(shown),
        "A walk": _walk(shown),
        "Samples": _samples(shown),
        "How far a text reaches": _reach(metrics),
        "All numbers": _numbers(metrics),
        "How it was made": _origin(record, corpus)
        + "".join(f'<p class="soft">{escape(why)}.</p>' for why in shown.skipped),
    }
    intro = f'<p class="soft">{escape(_summary(record))}</p>'
    return document(title(run), intro, sections)


def _summary(record: dict[str, Any]) -> str:
    data, versions = record.get("data", {}), record.get("versions", {})
    number, many = counted(data)
    trained = f"trained on {number:,} {many} of {data['source']}, " if number else ""
    if "imported" in record:
        trained = f"imported from {record['imported'].get('checkpoint', 'a checkpoint')}, "
    number, _ = counted(record.get("metrics", {}))
    measured = f"measured on {number:,}, " if number else ""
    return f"A latent space, {trained}{measured}Isthmus {versions.get('isthmus', 'unknown')}."


def value_with_error(value: float, error: float | None) -> str:
    """Three decimals, or none for a count or a large number."""
    whole = (float(value).is_integer() and not error) or abs(value) >= 1e4
    form = ",.0f" if whole else ",.3f"
    return f"{value:{form}}" + ("" if error is None else f" ± {error:{form}}")


def _readings(rows: Sequence[Reading]) -> str:
    if not rows:
        return "<p>This run was not measured; run isthmus evaluate to measure it.</p>"
    note = (
        '<p class="soft">At β = 1, dropout off; ± is one standard error over the examples. '
        "Small print: the reason for each reading, and its source.</p>"
    )
    alone = [row for row in rows if row.key.startswith(SUMMARY)]
    if not alone:
        return note + _reading_table(rows)
    ends = ([row for row in rows if row not in alone], alone)
    return note + "".join(
        f"<h3>{escape(end.capitalize())}</h3>{_reading_table(part)}"
        for end, part in zip(ENDS, ends, strict=True)
    )


def _reading_table(rows: Sequence[Reading]) -> str:
    cells = [
        (
            escape(row.name.removeprefix("summary: ")),
            f"{value_with_error(row.value, row.standard_error)}<br>"
            f"<small>{escape(row.unit)}</small>",
            f'<span class="level {row.level}">{LEVELS[row.level]}</span> {escape(row.reading)}.'
            f"<br><small>{escape(' '.join(row.why.split()))}</small>",
        )
        for row in rows
    ]
    return table(("quantity", "value", "reading"), cells, "readings")


def _training(records: Sequence[dict[str, Any]]) -> str:
    if not any("reconstruction" in one for one in records):
        return ""
    drawn = [
        plots.inline(title, partial(plots.lines, records=records, names=names))
        for title, names in plots.charted(records).items()
    ]
    return f'<div class="charts">{"".join(drawn)}</div>'


def _dimensions(metrics: dict[str, Any]) -> str:
    rows = dimensions(metrics)
    if not rows:
        return ""
    names = [f"dimension {row['dimension']}" for row in rows]
    drawn, order = "", "spread"
    if rows[0]["kl"] is not None:
        order = "KL"
        costs = partial(plots.bars, nats=[row["kl"] for row in rows], names=names)
        drawn = plots.inline("KL of each dimension", costs)
    summary = summary_of(metrics)
    typical = (metrics | summary).get("standard_deviation_per_dimension")
    spreads = partial(
        plots.spreads,
        names=names,
        means=[row["mean"] or 0.0 for row in rows],
        outer=[row["deviation"] for row in rows],
        inner=typical and [typical[row["dimension"]] for row in rows],
        order=order,
    )
    title = "Where the codes lie: mean ± deviation, over the prior's 0 ± 1 (shaded)"
    whose = "<p>Of the summary, in which walks and samples are.</p>" if summary else ""
    return f'{whose}<div class="charts">{drawn}{plots.inline(title, spreads)}</div>'


def _map(shown: Excerpts) -> str:
    if shown.places is None:
        return ""
    first, second = shown.explained
    title = (
        f"{len(shown.places):,} codes along their first two principal components, "
        f"{first:.0%} and {second:.0%} of the variance; colour: {shown.groups_are}"
    )
    draw = partial(plots.bare_map, points=shown.places, groups=shown.groups)
    return f'<div class="map">{plots.inline(title, draw, shown.groups, (5.2, 5.2))}</div>'


def _written(example: Any) -> str | None:
    return Example.of(example).caption


def _pictured(example: Any) -> Any:
    return Example.of(example).picture


def _side_by_side(part: Callable[[Any], Any], *columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows of one part of the examples, left out if the first example lacks it."""
    rows = [tuple(part(example) for example in row) for row in zip(*columns, strict=True)]
    return [row for row in rows if row[0] is not None]


def _sheet(name: str, *parts: Sequence[Any]) -> str:
    """Pictures in rows, the parts above one another, row by row."""
    wide = max(1, A_ROW * SIDE // max(SIDE, *parts[0][0].shape[1:]))
    starts = range(0, len(parts[0]), wide)
    return grid([part[start : start + wide] for start in starts for part in parts], name)


def _returned(shown: Excerpts) -> str:
    markup = ""
    if rows := _side_by_side(_pictured, shown.originals, shown.returned):
        markup += "<p>Above: the original. Below: its reconstruction.</p>"
        markup += _sheet("originals above, reconstructions below", *zip(*rows, strict=True))
    if pairs := _side_by_side(_written, shown.originals, shown.returned):
        same = sum(before == after for before, after in pairs)
        markup += (
            f"<p>{same} of {len(pairs)} are reconstructed word for word from the mean of "
            "their posterior; changes are marked.</p>"
        )
        cells = [(escape(before), changed_words(before, after)) for before, after in pairs]
        markup += table(("original", "reconstruction"), cells, "named")
    return markup


def _walk(shown: Excerpts) -> str:
    if not len(shown.walk):
        return ""
    markup = f"<p>Between {escape(shown.walk_from)}, on the sphere, {len(shown.walk)} points.</p>"
    return markup + _all_parts(shown.walk, "a walk")


def _samples(shown: Excerpts) -> str:
    return "<p>Decoded from draws of the prior.</p>" + _all_parts(shown.samples, "samples")


def _reach(metrics: dict[str, Any]) -> str:
    """How far texts can be moved before meaning and fluency break."""
    rows = metrics.get("smoothness") or []
    if not rows:
        return ""
    charts = {
        "What is left of texts moved in a random direction; dotted: random texts": {
            "exact_match": "word for word",
            "meaning": "cosine",
        },
        "Their perplexity, relative to unmoved ones": {"fluency": "perplexity"},
    }
    draw = partial(plots.reach, rows=rows, own=metrics["posterior_radius"])
    if (random := metrics.get("meaning_random")) is not None:
        draw = partial(draw, floors={"meaning": random})
    drawn = [
        plots.inline(title, partial(draw, names=names))
        for title, names in charts.items()
        if any(rows[0].get(name) is not None for name in names)
    ]
    read = {
        "cosines by": metrics.get("sentence_encoder"),
        "perplexities by": metrics.get("judge"),
    }
    by = "; ".join(f"{what} {name}" for what, name in read.items() if name)
    by += "; dashed: one draw from a posterior"
    return f'<p class="soft">{escape(by)}</p><div class="charts">{"".join(drawn)}</div>'


def _all_parts(examples: Sequence[Any], name: str) -> str:
    """The pictures as a sheet, the texts as a list."""
    markup = ""
    if rows := _side_by_side(_pictured, examples):
        markup += _sheet(name, *zip(*rows, strict=True))
    if rows := _side_by_side(_written, examples):
        markup += listed(text for [text] in rows)
    return markup


def _numbers(metrics: dict[str, Any]) -> str:
    rows = [
        (f"<code>{escape(key)}</code>", escape(_plain(value, metrics.get(f"{key}_se"))))
        for key, value in metrics.items()
        if not key.endswith("_se") and not isinstance(value, dict | list)
    ]
    if not rows:
        return ""
    found = table(("key", "value"), rows, "numbers named")
    return f"<details><summary>with the keys of isthmus evaluate --json</summary>{found}</details>"


def _plain(value: Any, error: float | None) -> str:
    if isinstance(value, float):
        form = ",.4f" if abs(value) < 1e9 else ".3e"
        return f"{value:{form}}" + ("" if error is None else f" ± {error:{form}}")
    return "not known" if value is None else str(value)


def _origin(record: dict[str, Any], corpus: Any | None) -> str:
    data = record.get("data", {})
    pairs = [(name.replace("_", " "), value) for name, value in data.items()]
    if corpus is not None:
        pairs += [("shown here", corpus.source), ("fingerprint of its data", corpus.fingerprint)]
    pairs += [(name, value) for name, value in record.get("versions", {}).items()]
    pairs += [(name, record[name]) for name in ("steps", "seed") if name in record]
    settings = flattened(record.get("settings", {})).items()
    return f"<h3>Data and versions</h3>{_pairs(pairs)}" + (
        f"<h3>Settings</h3>{_pairs(settings)}" if settings else ""
    )


def _pairs(pairs: Iterable[tuple[str, Any]]) -> str:
    items = "".join(
        f"<li><code>{escape(str(name))} = {escape(str(value))}</code></li>"
        for name, value in pairs
    )
    return f'<ul class="settings">{items}</ul>'
