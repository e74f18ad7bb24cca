"""The tables and pictures of moses.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import isthmus
from common import RESULTS, figure, kept, plus_minus, share, table, write
from isthmus.evaluation.usage import Estimate
from isthmus.explore.walks import losses_under
from isthmus.models.base import summarised

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the details of a molecule, from its start, that the decoder sees."""
PUBLISHED = (
    # Polykovskiy et al. 2020, "Molecular Sets (MOSES)", table 2: 1.6 million molecules, a GPU.
    ("VAE of 2020", {"valid": 0.977, "unique@10000": 0.998, "FCD/Test": 0.099, "Novelty": 0.695}),
    ("CharRNN of 2020", {"valid": 0.975, "FCD/Test": 0.073}),
)
METRICS = (
    *("valid", "unique@1000", "unique@10000", "FCD/Test", "FCD/TestSF", "SNN/Test", "SNN/TestSF"),
    *("Frag/Test", "Frag/TestSF", "Scaf/Test", "Scaf/TestSF", "IntDiv", "Filters", "Novelty"),
)
BOUNDS = {
    "exact_match": "molecules that come back exactly",
    "nll_iw": "importance-weighted −log p(x), nats",
    "summary_nll_iw": "… by the summary, or the one vector, alone",
    "summary_elbo": "ELBO by the summary alone, nats",
    "summary_kl": "KL of the summary, nats",
    "summary_mutual_information": "I(x; summary), nats",
    "summary_active_units": "active units of the summary",
    "summary_swap_gap": "swap gap of the summary, nats",
}

AROUND = {
    "mean_valid": "valid at the mean of the summary",
    "posterior_valid": "… at a draw from its posterior",
    "step_valid": "… one standard deviation away",
    "mean_keeps_scaffold": "same scaffold at the mean of the summary",
    "step_keeps_scaffold": "… one standard deviation away",
    "all_mean_same": "same molecule at the mean of all latents",
    "all_posterior_same": "… at a draw from their posterior",
    "all_posterior_keeps_scaffold": "… same scaffold",
    "between_valid": "valid between two molecules",
}


def shown(value: Any) -> str:
    """A figure, with its error if it has one."""
    if isinstance(value, dict):
        return plus_minus(value["value"], value["se"])
    return "–" if value is None else f"{value:.3f}"


def alone(figures: dict[str, Any], key: str) -> Any:
    """A figure of the summary, which of one level is that of the whole."""
    return figures.get(key, figures.get(key.removeprefix("summary_")))


def report(folder: Path, variants: Sequence[str]) -> None:
    """Write the figures of all stages that are kept."""
    found = {path.stem: kept(path) for path in sorted(folder.glob("*.json"))}
    figures = {
        name: one
        for name, one in found.items()
        if not name.startswith("samples") and not name.endswith("-seconds")
    }
    names = [name for name in (*variants, "published") if f"metrics-{name}" in figures]
    columns = [figures[f"metrics-{name}"] for name in names] + [row for _, row in PUBLISHED]
    rows = [[key, *(shown(column.get(key)) for column in columns)] for key in METRICS]
    lines = table(["samples", *names, *(name for name, _ in PUBLISHED)], rows)
    for part, keys in (("bounds", BOUNDS), ("around", AROUND)):
        names = [name for name in variants if f"{part}-{name}" in figures]
        if not names:
            continue
        columns = [figures[f"{part}-{name}"] for name in names]
        rows = [[keys[key], *(shown(alone(column, key)) for column in columns)] for key in keys]
        lines += ["", *table(["test molecules", *names], rows)]
    write("moses", figures, "\n".join(lines) + "\n")


def rates(space: isthmus.Space, texts: Sequence[str]) -> list[dict[str, Any]]:
    """What comes back, and for how many nats, when details behind some place are hidden.

    A hidden detail costs nothing, so each share is a VAE of its own: its rate is the KL of the
    summary and of the details that are shown, its distortion −log p(x|z).
    """
    model, posterior = space.model, space.encode(texts)
    summary = model.config.summary
    kl = posterior.kl_to_standard_normal().sum(-1)  # [N K]
    with summarised(model):
        kl[:, :summary] = 0
        first = model.terms(texts).kl.flatten(1).sum(1)  # under the fitted prior
    torch.manual_seed(0)
    z = posterior.rsample()[0]
    used, found = (kl[:, summary:] > 0).sum(1, keepdim=True), []
    for part in SHARES:
        seen = torch.arange(kl.shape[1] - summary) < (part * used).round()
        seen = torch.nn.functional.pad(seen, (summary, 0), value=True)
        shown = z * seen.unsqueeze(-1)
        back = space.decode(shown)
        found.append(
            {
                "share": part,
                "rate": figure(Estimate.mean_of(first + (kl * seen).sum(1))),
                "distortion": figure(Estimate.mean_of(losses_under(model, texts, shown))),
                "exact": share([a == b for a, b in zip(texts, back, strict=True)]),
            }
        )
    return found


def draw(folder: Path) -> None:
    """Rate and distortion of the runs with two levels; molecules between two others."""
    import matplotlib.pyplot as plt

    canvas, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for file in sorted(folder.glob("curve-*.json")):
        name, rows = file.stem.removeprefix("curve-"), kept(file)["shares"]
        rate = [row["rate"]["value"] for row in rows]
        for axes, key in ((left, "distortion"), (right, "exact")):
            values = [row[key]["value"] for row in rows]
            errors = [2 * row[key]["se"] for row in rows]
            axes.errorbar(rate, values, errors, marker="o", markersize=4, label=name)
    left.set(ylabel="distortion −log p(x|z), nats", title="A molecule's nats, ± 2 standard errors")
    right.set(ylabel="share that comes back exactly", title="Shown details: 0, 20, … 100 %")
    for axes in (left, right):
        axes.set(xlabel="rate: KL of the summary and of shown details, nats", ylim=(0, None))
        axes.legend()
    canvas.savefig(RESULTS / "moses.png", dpi=110)
    plt.close(canvas)
    walks = sorted(folder.glob("walk-*.json"))
    if walks:
        from rdkit import Chem
        from rdkit.Chem.Draw import MolsToGridImage

        texts = [text for file in walks for text in kept(file)["molecules"]]
        size = {"molsPerRow": len(texts) // len(walks), "subImgSize": (180, 150)}
        picture = MolsToGridImage([Chem.MolFromSmiles(text) for text in texts], **size)
        picture.save(RESULTS / "moses_walk.png")
