"""How near the β = 0.05 space of scenes comes to the entropy under a prior fitted afterwards.

The space is that of examples/demo.py: one vector, from which nearly every sentence comes back.
Each kind of prior is fitted to it; fit_best chooses on validation sentences, and the figures are
those of test sentences. Bounds are divided by the exact −log p of the same sentences. Three
questions follow: are the posteriors too narrow for the true bound (the same ones, wider by a
factor chosen on validation sentences), is K too small, and how far does more training at β = 1
lead, in which the posterior means stay where they are?

    python benchmarks/scenes_prior.py [RUN] [--minutes M]    # a quarter of an hour on one core
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch

from common import (
    RUNS,
    figure,
    kept,
    once,
    one_thread,
    plus_minus,
    settings_of,
    share,
    table,
    trained,
    write,
)
from isthmus.data import scenes
from isthmus.data.corpus import read_splits
from isthmus.data.kind import sampled
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.text import exact_match
from isthmus.evaluation.usage import Estimate
from isthmus.explore.refit import TRAINING, fit_best, refit
from isthmus.explore.walks import sample
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation

SENTENCES, SAMPLES, K = 300, 1000, 100
FEW, LARGE_K = 100, 1000
SEEN = 500
"""Test sentences, the first, that served to find out what helps; they are not reported on."""
FACTORS = (1.0, 1.4, 2.0, 2.8)
STEPS, ROWS, RATE = 600, 96, 1e-3
"""Of the training at β = 1 that leaves the posterior means where they are."""
FINISHED = f"After {STEPS} steps more at β = 1 with the same posterior means"
BAR = "The bar: at most 1.10 times the entropy, and at least 97 % of the samples grammatical."
HEAD = (
    "prior",
    "IW-NLL / entropy",
    "−ELBO / entropy",
    "grammatical, greedy",
    "… drawn",
    "different",
)


@final
@dataclass(frozen=True)
class Data:
    """Sentences to fit to, to choose on and to report on."""

    train: list[str]
    valid: list[str]
    test: list[str]

    @classmethod
    def of(cls, splits: Any) -> Data:
        """A random part of the training sentences, as many as fit_best would take."""
        every = splits.train.examples
        return cls(
            [every[place] for place in sampled(len(every), TRAINING, 0)],
            list(splits.valid.examples),
            [sentence.text for sentence in scenes.generate("test", SEEN + SENTENCES)][SEEN:],
        )


def grammatical(texts: list[str]) -> dict[str, Any]:
    """The share that the grammar derives."""
    return share([scenes.log_probability(text) > -math.inf for text in texts])


def relative(nats: torch.Tensor, texts: list[str]) -> dict[str, Any]:
    """A bound on −log p of each text, over the exact −log p."""
    exact = torch.tensor([-scenes.log_probability(text) for text in texts], dtype=torch.double)
    return figure(Estimate.ratio_of(nats.double(), exact))


def measured(model: LatentModel, texts: list[str]) -> dict[str, Any]:
    """Bounds of sentences, and samples, under the prior that the model has."""
    found = bounds(model, model.codec.prepare(texts), samples=K)
    drawn = Generation(sample=True, max_new_tokens=24)
    greedy = sample(model, SAMPLES)
    return {
        "nll_iw": relative(found.nll_iw, texts),
        "negative_elbo": relative(found.negative_elbo, texts),
        "grammatical": grammatical(greedy),
        "grammatical_drawn": grammatical(sample(model, SAMPLES, generation=drawn)),
        "different": len(set(greedy)),
    }


def wider(model: LatentModel, texts: list[str], factor: float) -> dict[str, Any]:
    """The bound with posteriors that are wider by a factor in every dimension."""
    posterior = model.encode(texts)
    widened = DiagonalGaussian(posterior.mean, 2 * posterior.standard_deviation.mul(factor).log())
    found = bounds(model, model.codec.prepare(texts), samples=K, posterior=widened)
    return relative(found.nll_iw, texts)


def finished(model: LatentModel, data: Data) -> LatentModel:
    """Train decoder and posterior widths at β = 1; the posterior means stay where they are."""
    model.requires_grad_(False)
    parts = [model.decoder, model.bridge, model.encoder.head]
    weights = [weight.requires_grad_() for part in parts for weight in part.parameters()]
    optimiser = torch.optim.Adam(weights, lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, STEPS)
    examples = model.codec.prepare(data.train)
    torch.manual_seed(0)
    for _ in range(STEPS):
        batch = examples.collate(torch.randint(len(data.train), (ROWS,)).tolist())
        posterior = model.posterior(batch)
        z = posterior.rsample(noise=torch.randn(1, *posterior.mean.shape))
        ratio = posterior.log_prob(z) - model.prior.log_prob(z)
        loss = (model.reconstruction(z, batch) + ratio).mean()
        optimiser.zero_grad()
        loss.backward()
        for weight in model.encoder.head.parameters():
            weight.grad[: model.config.latent_size] = 0  # the rows of the means
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        optimiser.step()
        schedule.step()
    return model.requires_grad_(True)


def space(make: Callable[[], LatentModel], data: Data, minutes: float) -> dict[str, Any]:
    """The figures of a space under every prior."""
    model = make()
    tried = fit_best(best := copy.deepcopy(model), data.train, data.valid, minutes)
    rows = {}
    for one in tried:
        if one.fault:
            continue
        fitted = best if one is tried[0] else copy.deepcopy(model)
        if one is not tried[0] and one.kind != "standard":
            refit(fitted, data.train, one.kind, steps=one.steps, held_out=data.valid)
        rows[one.kind] = measured(fitted, data.test)
        print(one.kind, one.kl, rows[one.kind], flush=True)
    back = model.decode(model.encode(data.test).mean)
    return {
        "word_for_word": figure(exact_match(data.test, back)),
        "chosen": tried[0].kind,
        "tried": [dataclasses.asdict(one) for one in tried],
        "priors": rows,
        "why": reasons(best, data),
    }


def reasons(model: LatentModel, data: Data) -> dict[str, Any]:
    """The bound with wider posteriors, and with more draws from each."""
    few = data.valid[:FEW]
    factor = min(FACTORS, key=lambda one: wider(model, few, one)["value"])
    texts = data.test[:FEW]
    large = bounds(model, model.codec.prepare(texts), samples=LARGE_K).nll_iw
    return {
        "factor": factor,
        "wider": wider(model, data.test, factor),
        "large_k": relative(large, texts),
    }


def lines(title: str, figures: dict[str, Any]) -> list[str]:
    """The table of a space, and what the chosen prior would reach with other posteriors."""
    rows = []
    for kind, row in figures["priors"].items():
        keys = ("nll_iw", "negative_elbo", "grammatical", "grammatical_drawn")
        cells = [plus_minus(row[key]["value"], row[key]["se"]) for key in keys]
        name = f"**{kind}**" if kind == figures["chosen"] else kind
        rows.append([name, *cells, f"{row['different']:,}"])
    why, word = figures["why"], figures["word_for_word"]
    return [
        f"## {title}",
        "",
        f"Word for word: {plus_minus(word['value'], word['se'])}. In bold the prior that is best "
        f"on validation sentences. Under it, with posteriors {why['factor']:g} times as wide, the "
        f"best of {', '.join(f'{one:g}' for one in FACTORS)}, the bound is "
        f"{plus_minus(why['wider']['value'], why['wider']['se'])} times the entropy; with "
        f"K = {LARGE_K:,} it is {plus_minus(why['large_k']['value'], why['large_k']['se'])} "
        f"({FEW} sentences).",
        "",
        *table(HEAD, rows),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", type=Path, default=RUNS / "demo-low-beta")
    parser.add_argument("--minutes", type=float, default=1.0, help="of each fit_best")
    arguments = parser.parse_args()
    one_thread()
    splits, run = read_splits("scenes"), arguments.run
    model = trained(run, settings_of("demo-autoencoder"), splits)
    data = Data.of(splits)
    figures: dict[str, Any] = {"sentences": SENTENCES, "k": K, "minutes": arguments.minutes}
    text = ["# scenes: the β = 0.05 space under fitted priors", ""]
    text += [
        f"Written by `python benchmarks/scenes_prior.py`: {SENTENCES} test sentences, K = {K}, "
        f"{SAMPLES:,} samples, {arguments.minutes:g} min to fit all priors. {BAR}",
        "",
    ]
    for name, title, make in (
        ("as_trained", "As trained, β = 0.05", partial(copy.deepcopy, model)),
        ("finished", FINISHED, partial(finished, model, data)),
    ):
        path = RUNS / "scenes_prior" / f"{run.name}-{name}.json"
        once(path, partial(space, make, data, arguments.minutes))
        figures[name] = kept(path)
        text += lines(title, figures[name])
    write("scenes_prior", figures, "\n".join(text))


if __name__ == "__main__":
    main()
