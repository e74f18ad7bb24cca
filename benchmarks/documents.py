"""Documents: how much of a text comes back, and at what rate, by the number of tokens per latent.

Yahoo Answers documents of about 79 words (../shared/data/yahoo, a tenth of the papers' size). Its
valid file is the test set here; validation texts are the last 1,000 of its train file. A model for
each block size, and one with a single vector, all of the recipe documents. K is chosen on
validation texts: the largest block that brings half of them back word for word.

    python benchmarks/documents.py                 # all points; resumable
    python benchmarks/documents.py --points 1      # one of them

A finished point is kept in runs/documents; the table is written again after each. Block 1 and the
single vector take --steps, the others --curve-steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common import (
    DATA,
    RESULTS,
    clocked,
    kept,
    once,
    one_thread,
    seconds_of,
    settings_of,
    table,
    trained,
    write,
)
from isthmus.data.corpus import TextCorpus, read
from isthmus.data.kind import Splits
from isthmus.evaluation.metrics import evaluate
from isthmus.evaluation.text import bleu, exact_match
from isthmus.evaluation.usage import put
from isthmus.models.generation import Generation
from isthmus.settings import Settings

POINTS = ("1", "2", "4", "8", "single")
LENGTH = 288
HELD_OUT = 1000
BARS = {"exact_match": 0.5, "bleu": 85.0}


def documents() -> tuple[Splits[str], TextCorpus]:
    """Training and validation texts, and those to test on."""
    files = [read(str(DATA / "yahoo" / f"{name}.txt.gz")).texts for name in ("train", "valid")]
    train, valid, test = (
        TextCorpus(texts, None, "yahoo")
        for texts in (files[0][:-HELD_OUT], files[0][-HELD_OUT:], files[1])
    )
    return Splits(train, valid, None, {}), test


def settings(point: str, steps: int) -> Settings:
    """The recipe with that block, or with one vector for the whole text, 32 dimensions each."""
    train = {"train": {"steps": steps, "threads": 1, "validation": 100, "evaluations": 1}}
    if point == "single":
        model = {
            "latents": 1,
            "bridge": "memory+embedding",
            "bridge_length": 1,
            "start": "fresh",
            "encoder": {"pooling": "mean"},
        }
        return settings_of("documents", train, {"model": model})
    block = int(point)
    model = {"latents": LENGTH // block, "bridge_length": block}
    return settings_of("documents", train, {"model": model})


@torch.no_grad()
def returned(model: Any, texts: Sequence[str], name: str) -> dict[str, Any]:
    """Exact matches and BLEU of greedy decodings of posterior means."""
    back = model.decode(model.encode(texts).mean, Generation(max_new_tokens=LENGTH))
    figures: dict[str, Any] = {}
    own = [" ".join(text.split()) for text in texts]
    put(figures, f"{name}_exact_match", exact_match(own, back))
    put(figures, f"{name}_bleu", bleu(own, back))
    return figures


def measure(point: str, args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """All figures of a point."""
    splits, test = documents()
    steps = args.steps if point in ("1", "single") else args.curve_steps
    model = trained(out, settings(point, steps), splits)
    figures: dict[str, Any] = {"point": point, "steps": steps, **seconds_of(out)}
    with clocked(out.with_name(f"{out.name}-measured")):
        for name, corpus in (("valid", splits.valid), ("test", test)):
            part = corpus.sample(args.texts, 0)
            figures |= returned(model, part.examples, name)
        prepared = model.codec.prepare(part.examples)
        found = evaluate(model, prepared, samples=1, texts=0, seed=0)
    keys = ("kl", "kl_se", "reconstruction", "reconstruction_se", "elbo", "elbo_se")
    return figures | {key: found[key] for key in (*keys, "sentences", "tokens")}


def chosen(rows: Sequence[dict[str, Any]]) -> str | None:
    """The point with the fewest latents that reaches the bars on validation texts."""
    reach = [
        row["point"]
        for row in rows
        if row["point"] != "single"
        and all(row[f"valid_{name}"] >= least for name, least in BARS.items())
    ]
    return max(reach, key=int, default=None)


def report(rows: list[dict[str, Any]]) -> None:
    """Write the table and the curve of the points so far."""
    rows = sorted(rows, key=lambda row: POINTS.index(row["point"]))
    pick = chosen(rows)
    head = ("tokens a latent", "steps", "minutes", "rate", "distortion", "exact", "BLEU", "valid")
    cells = [
        (
            f"**{row['point']}**" if row["point"] == pick else row["point"],
            row["steps"],
            f"{row['processor_seconds'] / 60:.1f}",
            f"{row['kl']:.1f} ± {row['kl_se']:.1f}",
            f"{row['reconstruction']:.2f} ± {row['reconstruction_se']:.2f}",
            f"{row['test_exact_match']:.3f} ± {row['test_exact_match_se']:.3f}",
            f"{row['test_bleu']:.1f} ± {row['test_bleu_se']:.1f}",
            f"{row['valid_exact_match']:.3f}, {row['valid_bleu']:.1f}",
        )
        for row in rows
    ]
    text = [
        f"Yahoo Answers (8,000 documents to train on), {rows[0]['sentences']} to test on. Rate "
        "(KL) and distortion (reconstruction) in nats per document at β = 1 and a draw of q(z|x); "
        "exact matches and BLEU of greedy decodings of its mean; minutes of one core's time for "
        "training; valid: exact and BLEU of validation documents, on which the bold row was "
        "chosen. single: one vector for the whole document. Rows differ in their steps.\n",
        *table(head, cells),
    ]
    write("documents", {"chosen": pick, "rows": rows}, "\n".join(text) + "\n")
    draw(rows)


def draw(rows: Sequence[dict[str, Any]]) -> None:
    """Rate and distortion of every point."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for row in rows:
        axes.errorbar(
            row["kl"],
            row["reconstruction"],
            xerr=row["kl_se"],
            yerr=row["reconstruction_se"],
            fmt="o",
            label=f"{row['point']} ({row['steps']} steps)",
        )
    axes.set(xlabel="rate: KL, nats per document", ylabel="distortion: nats per document")
    axes.set_yscale("log")
    axes.legend(title="tokens a latent")
    figure.savefig(RESULTS / "documents.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", nargs="+", choices=POINTS, default=POINTS)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--curve-steps", type=int, default=500)
    parser.add_argument("--texts", type=int, default=1000, help="documents to measure on")
    parser.add_argument("--folder", type=Path, default=Path("runs/documents"))
    args = parser.parse_args()
    one_thread()
    for point in args.points:
        out = args.folder / point
        once(args.folder / f"{point}.json", partial(measure, point, args, out))
    report([row for point in POINTS if (row := kept(args.folder / f"{point}.json"))])


if __name__ == "__main__":
    main()
