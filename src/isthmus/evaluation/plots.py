"""Pictures of a run: how training went, and what the space looks like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from isthmus.evaluation.calibration import Reliability

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#444444", "#17a2a2", "#c06090")
"""Told apart on white and in print; a ninth group starts again at the first."""
MARKERS = ("o", "^", "s", "D")
MAP_AT_MOST = 3000
"""Points of a map: more cover each other."""


def _figure(columns: int) -> tuple[Any, Sequence[Axes]]:
    """A row of plots that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * columns, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, list(axes)


def training_curves(log: Path, picture: Path) -> None:
    """Terms of the bound, signs of life of the latent, and KL of every dimension, from log.jsonl.

    Lines are training averages between two logs; dots are the true bound on the validation part.
    """
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    train = [record for record in records if "reconstruction" in record]
    valid = [record for record in records if "eval_elbo" in record]
    if not train:
        return
    figure, (terms, life, dimensions) = _figure(3)

    def draw(axis: Axes, key: str, label: str, colour: str, dots: bool = True) -> None:
        axis.plot([r["step"] for r in train], [r[key] for r in train], color=colour, label=label)
        if dots and valid:
            steps, values = [r["step"] for r in valid], [r[f"eval_{key}"] for r in valid]
            axis.plot(steps, values, "o", color=colour, markersize=4)

    draw(terms, "reconstruction", "reconstruction", COLOURS[0])
    draw(terms, "kl", "KL", COLOURS[1])
    late = [r for r in train if 10 * r["step"] >= train[-1]["step"]]
    highest = max(max(r["reconstruction"], r["kl"]) for r in late)
    terms.set(title="terms (dots: validation, β = 1)", xlabel="step", ylabel="nats per example")
    terms.set_ylim(0, 1.1 * highest)
    draw(life, "active_units", "active units", COLOURS[2])
    draw(life, "mutual_information", "mutual information, nats", COLOURS[3])
    draw(life, "beta", "β", COLOURS[5], dots=False)
    life.set(title="is the latent alive?", xlabel="step")
    for axis in (terms, life):
        axis.legend(frameon=False)
    kl = sorted(train[-1]["kl_per_dimension"], reverse=True)
    dimensions.bar(range(len(kl)), kl, color=COLOURS[1])
    dimensions.set(title="KL of every dimension at the end", xlabel="dimension, by KL")
    dimensions.set_ylabel("nats per example")
    figure.savefig(picture, dpi=110)


def latent_map(points: NDArray[Any], labels: Sequence[str], title: str, picture: Path) -> float:
    """Latents [N P] along the two directions that tell three or more labels apart best.

    The directions are Fisher's linear discriminants of the first half; drawn is the second half,
    which they have not seen, so that what looks apart is apart.

    Returns:
        The fraction of the drawn points that a linear classifier on the directions gets right.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    half = len(points) // 2
    directions = LinearDiscriminantAnalysis(n_components=2).fit(points[:half], labels[:half])
    flat: NDArray[Any] = directions.transform(points[half:])  # [N/2 2]
    right = float(directions.score(points[half:], labels[half:]))
    figure, [axis] = _figure(1)
    for place, label in enumerate(sorted(set(labels))):
        chosen = np.asarray([other == label for other in labels[half:]])
        colour = COLOURS[place % len(COLOURS)]
        axis.scatter(*flat[chosen].T, s=9, alpha=0.7, color=colour, label=label, linewidths=0)
    axis.set_title(f"{title}: {right:.0%} linearly right, held out")
    axis.set(xlabel="first discriminant", ylabel="second discriminant")
    axis.legend(frameon=False, markerscale=2, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(picture, dpi=110)
    return right


def cluster_map(
    points: NDArray[Any], clusters: Sequence[int], labels: Sequence[str] | None, picture: Path
) -> None:
    """Latents [N P] along two directions, coloured by cluster and, beside it, by class.

    The directions are those that tell the clusters apart best (Fisher's discriminants), or with
    fewer than three clusters the first principal components; no class has a part in either. At
    most MAP_AT_MOST random points are drawn.
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
    figure, axes = _figure(len(panels))
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        _scatter(axis, flat[chosen], [names[index] for index in chosen])
        axis.set(title=title, xlabel=f"first {kind}", ylabel=f"second {kind}")
    figure.savefig(picture, dpi=110)


def reliability_plot(bins: Reliability, title: str, picture: Path) -> None:
    """Accuracy beside confidence, with 95 % intervals (Wilson's), and how many texts each bin has.

    On the diagonal a probability can be believed; below it the model is too sure of itself.
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
    figure, [curve, size] = _figure(2)
    curve.plot([0, 1], [0, 1], "--", color=COLOURS[5], label="accuracy = confidence")
    curve.errorbar(
        confidence,
        accuracy,
        reach,
        fmt="o-",
        color=COLOURS[0],
        capsize=3,
        label="texts of a bin, 95 %",
    )
    curve.set(title=title, xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    curve.legend(frameon=False, loc="upper left")
    left = np.arange(len(bins.count))[full] * width
    size.bar(left, count, width, align="edge", color=COLOURS[0], edgecolor="white")
    size.set(title="how sure it is", xlabel="confidence", ylabel="texts", xlim=(0, 1))
    figure.savefig(picture, dpi=110)


def _scatter(axis: Axes, flat: NDArray[Any], names: Sequence[str]) -> None:
    """Points [N 2] by name; after all colours comes the next marker."""
    every = np.asarray(names)
    for place, name in enumerate(sorted(set(names), key=lambda name: (len(name), name))):
        turn, colour = divmod(place, len(COLOURS))
        axis.scatter(
            *flat[every == name].T,
            s=9,
            alpha=0.7,
            color=COLOURS[colour],
            marker=MARKERS[turn % len(MARKERS)],
            label=name,
            linewidths=0,
        )
    axis.legend(frameon=False, markerscale=2, loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)


def reconstruction_sheet(rows: dict[str, NDArray[np.uint8]], picture: Path) -> None:
    """Rows of pictures [N C H W] with their names, as an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from isthmus.data.pictures import grid

    sheet = np.moveaxis(grid([list(pictures) for pictures in rows.values()]), 0, -1)
    height, width = sheet.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(
        sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=255
    )
    axis.set_xticks([])
    places = (np.arange(len(rows)) + 0.5) * height / len(rows)
    axis.set_yticks(places, list(rows))
    axis.tick_params(left=False)
    axis.spines[:].set_visible(False)
    figure.savefig(picture, bbox_inches="tight")
