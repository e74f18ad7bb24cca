"""A first latent space: train on the built-in corpus, measure it, show what it can do.

Two runs mark the two ends of the rate–distortion curve: β = 0.05, where z holds nearly the whole
sentence, and β = 1, the true bound. The corpus is `scenes`, whose entropy is known exactly, so
the table shows how far each end is from the limit. Finished runs are not trained again.

    python examples/demo.py [folder]
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from isthmus.commands.common import quiet
from isthmus.data import scenes
from isthmus.data.corpus import read_splits
from isthmus.evaluation.metrics import Metrics, evaluate
from isthmus.evaluation.plots import latent_map
from isthmus.explore.walks import analogy, interpolate, sample
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.progress import bar
from isthmus.runs.bundle import RUN_FILE, load
from isthmus.settings import load_recipe
from isthmus.training import train_once

SENTENCES, SAMPLES = 1000, 50
ANALOGIES = 100
ANALOGY_FACTORS = ("colour", "tense", "place", "animal")

ROWS = (
    ("−log p(x), importance-weighted", "nll_iw", ".2f"),
    ("ELBO", "elbo", ".2f"),
    ("reconstruction", "reconstruction", ".2f"),
    ("KL", "kl", ".2f"),
    ("perplexity per word", "ppl_word", ".3f"),
    ("reconstructed word for word", "exact_match", ".1%"),
    ("mutual information", "mutual_information", ".2f"),
    ("active units of 32", "active_units", ".0f"),
    ("swap gap", "swap_gap", ".2f"),
)


def trained(folder: Path, console: Console) -> tuple[LatentModel, LatentModel]:
    """The two ends; the second starts from the weights of the first."""
    splits = None
    for name, recipe in (("low-beta", "demo-autoencoder"), ("beta-1", "demo")):
        out = folder.with_name(f"{folder.name}-{name}") if name == "low-beta" else folder
        if (out / RUN_FILE).is_file():
            console.print(f"{out} is finished; remove it to train again")
            continue
        settings = load_recipe(recipe)
        if name == "beta-1":
            start = str(folder.with_name(f"{folder.name}-low-beta"))
            settings = dataclasses.replace(
                settings, train=dataclasses.replace(settings.train, start_from=start)
            )
        splits = splits or read_splits("scenes")
        console.rule(f"training {out}: β = {settings.objective.beta}")
        train_once(settings, splits, out, console)
    return load(folder.with_name(f"{folder.name}-low-beta")), load(folder)


def measured(model: LatentModel, texts: list[str], console: Console) -> Metrics:
    examples = model.codec.prepare(texts)
    with bar(console) as progress:
        task = progress.add_task("evaluating", total=len(texts), note="")
        return evaluate(
            model,
            examples,
            samples=SAMPLES,
            texts=len(texts),
            progress=lambda done: progress.advance(task, done),
        )


def show_table(low: Metrics, high: Metrics, texts: list[str], out: Console) -> None:
    """Both ends and the limit; every figure with its standard error."""
    exact = torch.tensor([-scenes.log_probability(text) for text in texts], dtype=torch.double)
    limit = exact.mean().item()
    words = sum(len(text.split()) + 1 for text in texts)
    limits = {"nll_iw": limit, "ppl_word": math.exp(exact.sum().item() / words)}
    table = Table(title=f"{len(texts):,} test sentences of scenes, nats per sentence")
    for column in ("", "β = 0.05", "β = 1", "limit"):
        table.add_column(column, justify="right" if column else "left")
    for name, key, form in ROWS:
        cells = []
        for metrics in (low, high):
            value, error = metrics[key], metrics[f"{key}_se"]
            cells.append(f"{value:{form}} ± {error:{form if '%' in form else '.2f'}}")
        known = f"{limits[key]:{form}}" if key in limits else ""
        table.add_row(name, *cells, known)
    out.print(table)
    entropy = scenes.entropy()
    above = high["nll_iw"] / limit - 1
    out.print(
        f"The corpus' entropy is {entropy.nats_per_sentence:.2f} nats a sentence; these sentences "
        f"have {limit:.2f}. At β = 1 the model is {above:+.1%} above this limit, which no model "
        "can beat. At β = 0.05 z holds nearly the whole sentence, at a price in the bound: "
        "two points of one curve."
    )


def show_space(
    model: LatentModel, other: LatentModel, texts: list[str], folder: Path, out: Console
) -> None:
    """Maps, reconstruction, interpolation, analogy, samples."""
    mean = model.encode(texts[:200]).mean
    factors = [scenes.factors(text) for text in texts]
    for factor in ("style", "tense"):
        picture = folder.with_name(f"{folder.name}-map-{factor}.png")
        labels = [one[factor] for one in factors]
        latent_map(model.encode(texts).mean.numpy(), labels, factor, picture)
        out.print(f"A map of the space by {factor}: {picture}")
    out.rule("reconstructions from the posterior mean (β = 0.05)")
    for text, again in zip(texts[:5], model.decode(mean[:5]), strict=True):
        out.print(f"  {text}\n→ {again}")
    out.rule("a walk between two sentences")
    for text in model.decode(interpolate(mean[0], mean[1], 5)):
        out.print(f"  {text}")
    out.rule("analogy: A is to B as C is to …")
    shown = [one_analogy(model, texts, index) for index in range(ANALOGIES)]
    reached = [row for row in shown if row[3] == row[4]]
    for a, b, c, answer, _ in reached[:3]:
        out.print(f"  A: {a}\n  B: {b}\n  C: {c}\n→ D: {answer}\n")
    out.print(f"Word for word what the grammar says in {len(reached)} of {len(shown)} analogies.")
    out.rule("samples from the prior (β = 1)")
    drawn = sample(other, 200, generation=Generation(sample=True, max_new_tokens=24))
    for text in drawn[:5]:
        out.print(f"  {text}")
    valid = sum(scenes.log_probability(text) > -math.inf for text in drawn)
    out.print(f"{valid / len(drawn):.0%} of 200 samples are sentences of the grammar.")


def one_analogy(model: LatentModel, texts: list[str], index: int) -> tuple[str, ...]:
    """A, B, C, the model's D and the grammar's: A and C agree in one factor, which changes."""
    factor = ANALOGY_FACTORS[index % len(ANALOGY_FACTORS)]
    a = texts[index]
    value = scenes.factors(a)[factor]
    others = (text for text in texts[ANALOGIES + index :] if scenes.factors(text)[factor] == value)
    c = next(others)
    [values] = [known.values for known in scenes.WORLD.factors if known.name == factor]
    changed = values[(values.index(value) + 1) % len(values)]
    b, wanted = (scenes.counterpart(text, **{factor: changed}) for text in (a, c))
    z_a, z_b, z_c = model.encode([a, b, c]).mean
    [answer] = model.decode(analogy(z_a, z_b, z_c).unsqueeze(0))
    return a, b, c, answer, wanted


def main() -> None:
    quiet()
    started = time.monotonic()
    console, out = Console(stderr=True), Console(width=100)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    low, high = trained(folder, console)
    texts = [sentence.text for sentence in scenes.generate("test", SENTENCES)]
    metrics = [measured(model, texts, console) for model in (low, high)]
    show_table(*metrics, texts, out)
    show_space(low, high, texts, folder, out)
    console.print(f"{time.monotonic() - started:.0f} seconds in all")
    out.print(f"\nNow your own: isthmus train FILE --out runs/mine   (this space: {folder})")


if __name__ == "__main__":
    main()
