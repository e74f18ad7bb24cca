"""How a space looks: one line in a console, a small table in a notebook."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from isthmus.models.base import LatentModel
from isthmus.models.tuning import parameter_count
from isthmus.runs.card import counted, metric_rows


def described(model: LatentModel, run: Mapping[str, Any]) -> list[str]:
    """What a model is, what it was trained on and its bound, a phrase each."""
    size = " × ".join(map(str, model.latent_shape))
    latent = f"{size} dimensions" if math.prod(model.latent_shape) else "no latent"
    found = [
        f"{model.kind.title} model",
        latent,
        f"{parameter_count(model)[0]:,} parameters",
    ]
    data, metrics = run.get("data", {}), run.get("metrics", {})
    if data:
        number, many = counted(data)
        found.append(f"trained on {data.get('source', 'unknown')}, {number:,} {many}")
    if "elbo" in metrics:
        error = metrics.get("elbo_se")
        spread = "" if error is None else f" ± {error:.2f}"
        found.append(f"ELBO {metrics['elbo']:.2f}{spread} nats")
    return found


def space_html(model: LatentModel, run: Mapping[str, Any]) -> str:
    """The same, and every figure of the model card with its unit, to unfold."""
    head = f"<b>Space</b>: {html.escape(' · '.join(described(model, run)))}"
    metrics = run.get("metrics", {})
    if not metrics:
        return f"<div>{head}</div>"
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in metric_rows(metrics)
    )
    number, many = counted(metrics)
    return (
        f"<div>{head}<details><summary>figures on {number:,} validation {many}</summary>"
        "<table><thead><tr><th>quantity</th><th>value ± standard error</th><th>unit</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></details></div>"
    )
