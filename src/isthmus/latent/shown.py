"""How a posterior looks in a notebook: HTML without scripts, in the colours of the page."""

from __future__ import annotations

import html
from typing import Final

import torch
from torch import Tensor

EXAMPLES_SHOWN: Final = 5
DIMENSIONS_SHOWN: Final = 64
_REACH: Final = 3.0
"""Largest distance from 0 on the picture; the prior has a standard deviation of 1."""
_WIDTH, _HEIGHT = 4, 36
"""Pixels of a dimension, and of a row."""


def posterior_html(title: str, mean: Tensor, deviation: Tensor, kl: Tensor) -> str:
    """A row for each of the first examples: its KL, and mean ± standard deviation as a picture.

    Args:
        title: What it is; plain text.
        mean: [N D].
        deviation: The same shape.
        kl: KL(q ‖ N(0, I)) of each example, [N], nats.
    """
    mean, deviation = mean[:EXAMPLES_SHOWN], deviation[:EXAMPLES_SHOWN]
    chosen, which = _chosen(mean, deviation)
    rows = [
        f"<tr><td>{place}</td><td>{kl[place].item():.2f}</td>"
        f"<td>{_strip(mean[place, chosen], deviation[place, chosen])}</td></tr>"
        for place in range(len(mean))
    ]
    more = len(kl) - len(mean)
    rest = f"<div>… and {more:,} more</div>" if more else ""
    return (
        f"<div><b>{html.escape(title)}</b><table><thead><tr><th></th><th>KL to N(0, I), nats</th>"
        f"<th>mean ± standard deviation{which}; grey: N(0, 1)</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>{rest}</div>"
    )


def _chosen(mean: Tensor, deviation: Tensor) -> tuple[Tensor, str]:
    """Places of the dimensions to show, in order, and words that say which."""
    size = mean.shape[1]
    if size <= DIMENSIONS_SHOWN:
        return torch.arange(size, device=mean.device), ""
    variance = deviation.square()
    kl = (mean.square() + variance - variance.log() - 1).sum(0)
    words = f" of the {DIMENSIONS_SHOWN} dimensions with the largest KL"
    return kl.topk(DIMENSIONS_SHOWN).indices.sort().values, words


def _strip(mean: Tensor, deviation: Tensor) -> str:
    """A bar from mean − deviation to mean + deviation for each dimension, a dot for the mean."""
    scale = _HEIGHT / (2 * _REACH)

    def height(value: float) -> float:
        return _HEIGHT / 2 - scale * min(max(value, -_REACH), _REACH)

    marks = []
    for place, (m, s) in enumerate(zip(mean.tolist(), deviation.tolist(), strict=True)):
        x = (place + 0.5) * _WIDTH
        marks.append(
            f'<line x1="{x:g}" x2="{x:g}" y1="{height(m - s):.1f}" y2="{height(m + s):.1f}" '
            f'stroke="currentColor" stroke-opacity="0.4" stroke-width="{_WIDTH - 1}"/>'
            f'<circle cx="{x:g}" cy="{height(m):.1f}" r="1.4" fill="currentColor"/>'
        )
    width = _WIDTH * len(mean)
    return (
        f'<svg width="{width}" height="{_HEIGHT}" role="img" aria-label="means and deviations">'
        f'<rect width="{width}" y="{height(1):.1f}" height="{2 * scale:.1f}" '
        f'fill="currentColor" fill-opacity="0.08"/>{"".join(marks)}</svg>'
    )
