"""Every chart of the package, drawn by matplotlib: as PNG files, and as SVG inside a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.calibration import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#444444", "#17a2a2", "#c06090")
"""Distinguishable on white and in print; the ninth group repeats the first colour."""
SOFT, LINE, BAND = "#5d6875", "#dde2e8", "#e6ebf2"
"""Text, grid, and shaded areas."""
VARIABLES = {
    **{colour: f"var(--c{place})" for place, colour in enumerate(COLOURS)},
    **{SOFT: "var(--soft)", LINE: "var(--line)", BAND: "var(--band)"},
}
"""CSS variables that replace the colours inside a page, so that charts follow its dark mode."""
MARKERS = {"o": "●", "^": "▲", "s": "■", "D": "◆"}
"""Once all colours are used, the next marker begins. Each has the character that looks like it."""
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), SOFT),
    **{"axes.edgecolor": LINE, "grid.color": LINE, "axes.grid": True, "axes.axisbelow": True},
    **{"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False},
    **{"axes.titlecolor": "#1b2430", "font.family": ["DejaVu Sans"], "text.parse_math": False},
    **{"svg.fonttype": "none", "svg.hashsalt": "isthmus"},
}
HINT = "hint: "
MAP_AT_MOST = 3000
"""Points on a map; more would hide each other."""
NAMES_AT_MOST = 24
"""Groups that the legend of a map in a page names."""
TERMS = {"reconstruction": "reconstruction", "kl": "KL"}
BOUND = "Terms of the bound. Dots: validation, at β = 1"
SUMMARY_CHARTS = ("The bound of the summary alone", "Is the summary alive?")
LIFE = {"active_units": "active units", "mutual_information": "MI, nats", "beta": "β"}


@contextmanager
def charts(
    file: Path | IO[bytes], columns: int = 1, size: tuple[float, float] = (5.2, 4), **saving: Any
) -> Iterator[list[Axes]]:
    """Axes side by side, each of a size in inches; saved at the end. Needs no screen."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1]), layout="constrained")
        yield list(figure.subplots(1, columns, squeeze=False)[0])
        figure.savefig(file, dpi=110, **saving)


# Inside a page


def inline(
    title: str,
    draw: Callable[[Axes], None],
    groups: Sequence[str] = (),
    size: tuple[float, float] = (5.2, 3.3),
) -> str:
    """A chart as a ``<figure>``: SVG without scripts, its text as text, its colours the page's.

    Args:
        title: The caption.
        draw: Draws the chart on the axes.
        groups: Names for a legend in the caption, in the order of :func:`scatter`.
        size: Width and height in inches. A page scales the chart to its column.
    """
    file = BytesIO()
    bare = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with charts(file, 1, size, format="svg", metadata=bare, transparent=True) as [axis]:
        draw(axis)
    text = re.sub("font-family: [^;]*; ", "", file.getvalue().decode())
    for old, new in {' xmlns="http://www.w3.org/2000/svg"': "", "xlink:": "", **VARIABLES}.items():
        text = text.replace(old, new)
    root = ElementTree.fromstring(text)
    root.remove(root[0])  # a style that would rule the whole page
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    for element in root.iter():
        _shorten(element)
    svg = ElementTree.tostring(root, encoding="unicode")
    return f"<figure>{svg}<figcaption>{escape(title)}{_legend(groups)}</figcaption></figure>"


def _shorten(element: ElementTree.Element) -> None:
    """Round numbers, write a shared style once, and turn hints into titles."""
    element.tail = None
    for name in element.attrib.keys() & {"d", "x", "y", "transform"}:
        found = element.attrib[name].replace("\n", "")
        element.set(name, re.sub(r"\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", found))
    if element.tag == "g":
        styles = {part.get("style") for part in element}
        if len(element) > 1 and len(styles) == 1 and (style := styles.pop()):
            element.set("style", style)
            for part in element:
                del part.attrib["style"]
        name = element.attrib.pop("id", "")
        if name.startswith(HINT):
            ElementTree.SubElement(element, "title").text = name.removeprefix(HINT)


def _legend(groups: Sequence[str]) -> str:
    names = ordered(groups)
    keys = [
        f'<span><i style="color:var(--c{place % len(COLOURS)})">{_marker(place)[1]}</i> '
        f"{escape(name)}</span>"
        for place, name in enumerate(names[:NAMES_AT_MOST])
    ]
    keys += ["<span>…</span>"] if len(names) > NAMES_AT_MOST else []
    return f'<div class="keys">{"".join(keys)}</div>' if keys else ""


# Charts on axes


def charted(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Titles of the charts of a log, and the keys in each with their names.

    Of two levels the summary by itself has its own, with what the validation part says of it.
    """
    if not any("eval_summary_elbo" in record for record in records):
        return {BOUND: TERMS, "Is the latent alive?": LIFE}
    of_summary = [
        {f"summary_{key}": name for key, name in names.items() if key != "beta"}
        for names in (TERMS, LIFE)
    ]
    return {
        f"{BOUND}. Lines: training, with hidden details": TERMS,
        **dict(zip(SUMMARY_CHARTS, of_summary, strict=True)),
    }


def lines(axis: Axes, records: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    """Training averages as lines, the same on the validation part as dots, over the steps.

    y begins at 0 and ends above the highest value of the last nine tenths of the steps.

    Args:
        axis: Where to draw.
        records: Lines of log.jsonl.
        names: Key of a record → its name in the legend.
    """
    late = [0.0]
    for colour, (key, name) in zip(COLOURS, names.items(), strict=False):
        for source, form, label in ((key, "-", name), (f"eval_{key}", "o", None)):
            points = [(r["step"], r[source]) for r in records if r.get(source) is not None]
            xs, ys = zip(*points, strict=True) if points else ((), ())
            axis.plot(xs, ys, form, color=colour, label=label, markersize=4)
            late += [y for x, y in points if 10 * x >= records[-1]["step"]]
    axis.set(xlabel="step", xlim=(0, None), ylim=(0, 1.08 * max(late) or 1))
    axis.xaxis.set_major_formatter("{x:,g}")
    _legend_above(axis)


def bars(axis: Axes, nats: Sequence[float], names: Sequence[str]) -> None:
    """The KL of every dimension, with its name and value as a hint."""
    drawn = axis.bar(range(len(nats)), nats, color=COLOURS[1])
    for bar, value, name in zip(drawn, nats, names, strict=True):
        bar.set_gid(f"{HINT}{name}: {value:.3g} nats")
    axis.set(xlabel="dimension, by KL", ylabel="nats per example", xticks=[])


def spreads(
    axis: Axes,
    names: Sequence[str],
    means: Sequence[float],
    outer: Sequence[float],
    inner: Sequence[float] | None,
    order: str,
) -> None:
    """Mean ± deviation of each dimension over the band ± 1 of a standard normal prior.

    Args:
        axis: Where to draw.
        names: Of the dimensions.
        means: Of the aggregate posterior.
        outer: Its standard deviations.
        inner: The typical deviation of one posterior, drawn narrow inside; None where unknown.
        order: What the dimensions are sorted by.
    """
    axis.axhspan(-1, 1, color=BAND, zorder=0, gid=f"{HINT}prior: 0 ± 1")
    widths = {"aggregate posterior q(z)": outer}
    if inner is not None:
        widths["one posterior"] = inner
    looks = ((COLOURS[0], 4.0, 0.55), (COLOURS[1], 2.0, 1.0))
    for (what, deviations), (colour, width, alpha) in zip(widths.items(), looks, strict=False):
        for place, (name, mean, deviation) in enumerate(
            zip(names, means, deviations, strict=True)
        ):
            axis.plot(
                (place, place),
                (mean - deviation, mean + deviation),
                color=colour,
                linewidth=width,
                alpha=alpha,
                solid_capstyle="butt",
                label=None if place else what,
                gid=f"{HINT}{name}: {what} {mean:+.2f} ± {deviation:.2f}",
            )
    axis.set(xlabel=f"dimension, by {order}", ylabel="z", xticks=[])
    _legend_above(axis)


def reach(
    axis: Axes,
    rows: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    own: float,
    floors: Mapping[str, float] | None = None,
) -> None:
    """What is left of texts that are moved, over how far, with two standard errors.

    Lines mark one draw from a posterior, and where other texts lie.

    Args:
        axis: Where to draw.
        rows: Those of ``smoothness``.
        names: Key of a row → its name in the legend; one that was not measured is left out.
        own: How far one draw from a posterior lies from its mean.
        floors: Key of a row → its value where nothing is left.
    """
    radii = [row["radius"] for row in rows]
    for colour, (key, name) in zip(COLOURS, names.items(), strict=False):
        if rows[0].get(key) is None:
            continue
        errors = [2 * (row[f"{key}_se"] or 0) for row in rows]
        values = [row[key] for row in rows]
        axis.errorbar(radii, values, errors, fmt="o-", color=colour, markersize=3, label=name)
        if floors and key in floors:
            axis.axhline(floors[key], color=colour, linestyle=":", linewidth=1)
    axis.axvline(own, color=SOFT, linestyle="--", label="one draw")
    axis.axvline(2**0.5, color=SOFT, linestyle=":", label="another text")
    axis.set(xlabel="moved by, in standard deviations of the space", xlim=(0, None))
    axis.set_ylim(0, None)
    _legend_above(axis, columns=4)


def ordered(groups: Sequence[str]) -> list[str]:
    """Names of groups, each once, short ones first, so that 10 follows 9."""
    return sorted(set(groups), key=lambda name: (len(name), name))


def _marker(place: int) -> tuple[str, str]:
    return list(MARKERS.items())[place // len(COLOURS) % len(MARKERS)]


def scatter(axis: Axes, points: NDArray[Any], groups: Sequence[str]) -> None:
    """Points [N 2] coloured by group; after all colours comes the next marker."""
    every = np.asarray(groups)
    for place, name in enumerate(ordered(groups)):
        xs, ys = points[every == name].T
        axis.scatter(
            xs,
            ys,
            s=9,
            alpha=0.7,
            color=COLOURS[place % len(COLOURS)],
            marker=_marker(place)[0],
            label=name,
            linewidths=0,
        )


def bare_map(axis: Axes, points: NDArray[Any], groups: Sequence[str]) -> None:
    """The same with equal scales and no axes: such places have no units."""
    scatter(axis, points, groups)
    axis.set_aspect("equal", "datalim")
    axis.set_axis_off()


def _legend_above(axis: Axes, columns: int = 3) -> None:
    spacing = 6 / columns
    axis.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=columns,
        borderaxespad=0,
        columnspacing=spacing,
    )


def _legend_right(axis: Axes, size: str) -> None:
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=2, fontsize=size)


# Files


def training_curves(log: Path, picture: Path) -> None:
    """Terms of the bound, signs of life of the latent, and KL of every dimension, from log.jsonl.

    Lines are training averages between two logs; dots are the bound on the validation part.
    """
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    costs = [record["kl_per_dimension"] for record in records if "reconstruction" in record]
    if not costs:
        return
    named = charted(records)
    with charts(picture, len(named) + 1) as (*axes, dimensions):
        for axis, (title, names) in zip(axes, named.items(), strict=True):
            lines(axis, records, names)
            axis.set_title(title, pad=20)
        axes[0].set(ylabel="nats per example")
        bars(dimensions, kl := sorted(costs[-1], reverse=True), [""] * len(kl))
        dimensions.set_title("KL of every dimension at the end", pad=20)


def latent_map(points: NDArray[Any], labels: Sequence[str], title: str, picture: Path) -> float:
    """Latents [N P] along the two directions that separate three or more labels best.

    The directions are Fisher's linear discriminants of the first half. The second half is drawn:
    the directions have not seen it, so that what looks separate is separate.

    Returns:
        The fraction of the drawn points that a linear classifier on the directions gets right.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    half = len(points) // 2
    directions = LinearDiscriminantAnalysis(n_components=2).fit(points[:half], labels[:half])
    right = float(directions.score(points[half:], labels[half:]))
    with charts(picture) as [axis]:
        scatter(axis, directions.transform(points[half:]), labels[half:])
        axis.set(
            title=f"{title}: {right:.0%} linearly right, held out",
            xlabel="first discriminant",
            ylabel="second discriminant",
        )
        _legend_right(axis, "medium")
    return right


def cluster_map(
    points: NDArray[Any], clusters: Sequence[int], labels: Sequence[str] | None, picture: Path
) -> None:
    """Latents [N P] along two directions, coloured by cluster and, next to it, by class.

    The directions separate the clusters best (Fisher's discriminants), or with fewer than three
    clusters are the first principal components; classes do not influence them. At most
    MAP_AT_MOST random points are drawn.
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    chosen = np.random.default_rng(0).permutation(len(points))[:MAP_AT_MOST]
    if len(set(clusters)) > 2 and points.shape[1] > 1:
        kind = "discriminant of the clusters"
        flat = LinearDiscriminantAnalysis(n_components=2).fit_transform(points, clusters)
    else:
        kind = "principal component"
        flat = PCA(2).fit_transform(np.pad(points, ((0, 0), (0, max(0, 2 - points.shape[1])))))
    panels = {"clusters": [str(cluster) for cluster in clusters]}
    if labels is not None:
        panels["classes"] = list(labels)
    with charts(picture, len(panels)) as axes:
        for axis, (title, names) in zip(axes, panels.items(), strict=True):
            scatter(axis, flat[chosen], [names[index] for index in chosen])
            axis.set(title=title, xlabel=f"first {kind}", ylabel=f"second {kind}")
            _legend_right(axis, "x-small")


def reliability_plot(bins: Reliability, title: str, picture: Path) -> None:
    """Accuracy against confidence, with 95 % intervals (Wilson's), and the texts in each bin.

    On the diagonal, probabilities can be trusted; below it, the model is overconfident.
    """
    from scipy.stats import binomtest

    width = 1 / len(bins.count)
    full = (bins.count > 0).numpy()
    confidence, accuracy, count = (
        values.numpy()[full] for values in (bins.confidence, bins.accuracy, bins.count)
    )
    intervals = [
        binomtest(round(right * number), int(number)).proportion_ci(method="wilson")
        for right, number in zip(accuracy, count, strict=True)
    ]
    reach = np.abs(np.asarray([(found.low, found.high) for found in intervals]).T - accuracy)
    with charts(picture, 2) as (curve, size):
        curve.plot([0, 1], [0, 1], "--", color=SOFT, label="accuracy = confidence")
        curve.errorbar(
            confidence,
            accuracy,
            reach,
            fmt="o-",
            color=COLOURS[0],
            capsize=3,
            label="texts in a bin, 95 %",
        )
        curve.set(title=title, xlabel="confidence", ylabel="accuracy")
        curve.set(xlim=(0, 1.03), ylim=(0, 1.03))
        curve.legend(loc="upper left")
        left = np.arange(len(bins.count))[full] * width
        size.bar(left, count, width, align="edge", color=COLOURS[0], edgecolor="white")
        size.set(title="how sure it is", xlabel="confidence", ylabel="texts", xlim=(0, 1))


def reconstruction_sheet(rows: dict[str, NDArray[np.uint8]], picture: Path) -> None:
    """Rows of pictures [N C H W] with their names, as an image file."""
    from matplotlib.figure import Figure

    from isthmus.data.pictures import grid

    sheet = np.moveaxis(grid([list(pictures) for pictures in rows.values()]), 0, -1)
    height, width = sheet.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(
        sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=255
    )
    axis.set_xticks([])
    axis.set_yticks((np.arange(len(rows)) + 0.5) * height / len(rows), list(rows))
    axis.tick_params(left=False)
    axis.spines[:].set_visible(False)
    figure.savefig(picture, bbox_inches="tight")
