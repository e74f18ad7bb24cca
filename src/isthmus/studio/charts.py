"""Charts as SVG to stand inside a page: their colours are classes, ruled by the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import final

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 30, 36
COLOURS = 8
"""Classes c0 … c7; a ninth group starts again at the first, with wide pale dots."""


@final
@dataclass(frozen=True)
class Line:
    """Points joined by a line, and single points of the same quantity, such as validation."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    dots: Sequence[tuple[float, float]] = ()


@final
@dataclass(frozen=True)
class Scale:
    """Numbers from low to high on pixels from start to end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value stands; what lies outside stops at the border."""
        share = (value - self.low) / (self.high - self.low or 1)
        return self.start + min(max(share, 0), 1) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers inside, 1, 2 or 5 times a power of ten apart."""
        span = self.high - self.low
        if not span > 0:
            return [self.low]
        raw = span / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [place * step for place in range(first, last + 1)]


def lines(title: str, series: Sequence[Line], x_label: str, y_label: str = "") -> str:
    """Lines over a common x; y begins at 0 and ends where the last nine tenths of x are seen."""
    xs = [x for line in series for x in [*line.xs, *(x for x, _ in line.dots)]]
    last = max(xs, default=1)
    late = [
        y
        for line in series
        for x, y in [*zip(line.xs, line.ys, strict=True), *line.dots]
        if 10 * x >= last
    ]
    across = Scale(0, last, LEFT, WIDTH - RIGHT)
    up = Scale(0, 1.08 * max(late, default=1) or 1, HEIGHT - BOTTOM, TOP)
    parts = [_frame(across, up, x_label, y_label)]
    for place, line in enumerate(series):
        path = " ".join(
            f"{across(x):.1f},{up(y):.1f}" for x, y in zip(line.xs, line.ys, strict=True)
        )
        parts.append(f'<polyline class="line c{place % COLOURS}" points="{path}"/>')
        dots = "".join(f"M{across(x):.1f} {up(y):.1f}h0" for x, y in line.dots)
        parts.append(f'<path class="dot c{place % COLOURS}" d="{dots}"/>' if dots else "")
    parts.append(_legend([line.name for line in series]))
    return _svg(title, parts)


def bars(
    title: str, values: Sequence[float], names: Sequence[str], x_label: str, unit: str
) -> str:
    """A bar a value, each with its name and value for whoever points at it."""
    across = Scale(0, max(len(values), 1), LEFT, WIDTH - RIGHT)
    up = Scale(0, 1.08 * max(values, default=1) or 1, HEIGHT - BOTTOM, TOP)
    parts = [_frame(across, up, x_label, unit, x_ticks=False)]
    for place, (value, name) in enumerate(zip(values, names, strict=True)):
        left, right = across(place + 0.1), across(place + 0.9)
        top = up(value)
        parts.append(
            f'<rect class="bar c1" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{up(0) - top:.1f}"><title>{escape(name)}: {value:.3g} {escape(unit)}'
            "</title></rect>"
        )
    return _svg(title, parts)


def spreads(
    title: str,
    names: Sequence[str],
    means: Sequence[float],
    outer: Sequence[float],
    inner: Sequence[float] | None,
    x_label: str,
) -> str:
    """Mean ± deviation of each dimension over the band ± 1 of a standard normal prior.

    Arguments:
        title: of the chart.
        names: of the dimensions.
        means: of the aggregate posterior.
        outer: its deviations.
        inner: typical deviation of one posterior, drawn narrow inside; None where it is not told.
        x_label: what the dimensions are ordered by.
    """
    reach = max([abs(m) + s for m, s in zip(means, outer, strict=True)] + [1.0]) * 1.1
    across = Scale(0, max(len(means), 1), LEFT, WIDTH - RIGHT)
    up = Scale(-reach, reach, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<rect class="band" x="{LEFT}" y="{up(1):.1f}" width="{WIDTH - LEFT - RIGHT}" '
        f'height="{up(-1) - up(1):.1f}"><title>prior: 0 ± 1</title></rect>',
        _frame(across, up, x_label, "z", x_ticks=False),
    ]
    for place, (name, mean, deviation) in enumerate(zip(names, means, outer, strict=True)):
        middle = across(place + 0.5)
        told = f"{name}: aggregate {mean:+.2f} ± {deviation:.2f}"
        rods = _rod(middle, up(mean - deviation), up(mean + deviation), "thick c0")
        if inner is not None:
            told += f", one posterior ± {inner[place]:.2f}"
            rods += _rod(middle, up(mean - inner[place]), up(mean + inner[place]), "thin c1")
        parts.append(f"<g>{rods}<title>{escape(told)}</title></g>")
    parts.append(
        _legend(["aggregate posterior q(z)", *([] if inner is None else ["one posterior"])])
    )
    return _svg(title, parts)


def scatter(title: str, points: NDArray[np.float64], groups: Sequence[str]) -> str:
    """Points [N 2] by group, one path a group so that thousands stay small; no axes, no units."""
    low, high = points.min(0), points.max(0)
    side = float((high - low).max()) or 1.0
    middle = (low + high) / 2
    size = 400.0
    placed = (points - middle) / side * (size - 12) + [size / 2, size / 2]
    names = sorted(set(groups), key=lambda name: (len(name), name))
    parts = []
    every = np.asarray(groups)
    for place, name in enumerate(names):
        path = "".join(f"M{x:.0f} {size - y:.0f}h0" for x, y in placed[every == name])
        parts.append(f'<path class="point c{place % COLOURS}{_ring(place)}" d="{path}"/>')
    legend = "".join(
        f'<span><i class="key c{place % COLOURS}{_ring(place)}"></i>{escape(name)}</span>'
        for place, name in enumerate(names[:24])
    )
    legend += "<span>…</span>" if len(names) > 24 else ""
    return (
        f'<figure class="map"><svg viewBox="0 0 {size:.0f} {size:.0f}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f'<figcaption>{escape(title)}<div class="keys">{legend}</div></figcaption></figure>'
    )


def _ring(place: int) -> str:
    """Every second turn through the colours has wide pale dots."""
    return " ring" if place // COLOURS % 2 else ""


def _rod(x: float, bottom: float, top: float, kind: str) -> str:
    return f'<path class="rod {kind}" d="M{x:.1f} {bottom:.1f}V{top:.1f}"/>'


def _frame(across: Scale, up: Scale, x_label: str, y_label: str, x_ticks: bool = True) -> str:
    """Grid lines, numbers beside them, and what the axes are."""
    parts = []
    for value in up.ticks():
        y = up(value)
        parts.append(
            f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="end">{_number(value)}</text>'
        )
    if x_ticks:
        parts += [
            f'<text x="{across(value):.1f}" y="{HEIGHT - BOTTOM + 15}" class="middle">'
            f"{_number(value)}</text>"
            for value in across.ticks()
        ]
    centre = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{centre}" y="{HEIGHT - 6}" class="middle">{escape(x_label)}</text>')
    parts.append(f'<text x="2" y="{TOP - 12}">{escape(y_label)}</text>')
    return "".join(parts)


def _number(value: float) -> str:
    return f"{value:,.10g}"


def _legend(names: Sequence[str]) -> str:
    """Names with their colours, right-aligned above the plot."""
    parts, right = [], float(WIDTH - RIGHT)
    for place, name in reversed(list(enumerate(names))):
        parts.append(
            f'<text x="{right:.0f}" y="{TOP - 12}" class="end">{escape(name)}</text>'
            f'<circle class="bar c{place % COLOURS}" r="4" '
            f'cx="{right - 6.3 * len(name) - 7:.0f}" cy="{TOP - 16}"/>'
        )
        right -= 6.3 * len(name) + 24
    return "".join(parts)


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg><figcaption>{escape(title)}</figcaption></figure>"
    )
