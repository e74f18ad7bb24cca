"""CALM on captions: chunks of 4 tokens under a language model of latents, and a plain one.

The autoencoder (recipe `chunks`) takes a number of steps, the prior `calm` takes another, and the
plain language model (a GPT-2 of two layers) at most the time of both together. All are measured on
the same validation captions: the bound of the stack beside the language model's log p(x), BrierLM
at the same places, and the tokens that come back.

    python benchmarks/calm.py     # about 45 minutes on a core; starts where it stopped
"""

from __future__ import annotations

import time
from typing import Any

import torch

from common import DATA, RUNS, kept, once, one_thread, seconds_of, settings_of, trained, write
from isthmus.data.corpus import read_splits
from isthmus.evaluation.brier import brier_metrics
from isthmus.evaluation.metrics import evaluate
from isthmus.explore.refit import refit
from isthmus.models.base import evaluating, in_batches
from isthmus.runs.bundle import load, read_run, save

FOLDER = RUNS / "benchmarks" / "calm"
LIMIT, STEPS = 40_000, 2_000
TEXTS, SAMPLES, FORECAST = 200, 5, 1_000
PLAIN = {
    "model": {
        "kind": "language-model",
        "decoder": {"architecture": "gpt2", "layers": 2, "hidden_size": 128},
    },
    "data": {"tokenizer": "bpe", "vocabulary_size": 6000, "maximum_length": 65},
}
KEYS = ("nll_iw", "elbo", "reconstruction", "kl", "bits_per_character", "exact_match", "bleu")


@torch.no_grad()
def tokens_back(model: Any, texts: list[str]) -> dict[str, float]:
    """Share of the tokens that are the most probable one under the posterior mean, and its error.

    The error is that over texts.
    """
    right, count = [], []
    with evaluating(model):
        for _, batch in in_batches(model, model.codec.prepare(texts)):
            given = model.conditioning(model.posterior(batch).mean)
            hidden = model.decoder.hidden(given, batch["decoder_input_ids"])
            found = torch.stack([model.decoder.logits(row).argmax(-1) for row in hidden])
            there = batch["targets"] >= 0
            right.append(((found == batch["targets"]) & there).sum(1))
            count.append(there.sum(1))
    r, n = torch.cat(right).double(), torch.cat(count).double()
    share = (r.sum() / n.sum()).item()
    return {"share": share, "share_se": ((r - share * n).std() / n.mean() / len(n) ** 0.5).item()}


def fit(splits: Any) -> dict[str, Any]:
    """Fit the language model of chunks to a copy of the autoencoder."""
    begun = time.process_time()
    model = load(FOLDER / "autoencoder")
    train = splits.train.sample(LIMIT, 0).examples
    losses = refit(model, train, "calm", steps=STEPS, held_out=splits.valid.examples)
    save(model, FOLDER / "stack", read_run(FOLDER / "autoencoder"))
    return {"processor_seconds": time.process_time() - begun, "losses": losses}


def measure(model: Any, texts: list[str]) -> dict[str, Any]:
    """The bound of some texts, and BrierLM of more."""
    found = evaluate(model, model.codec.prepare(texts[:TEXTS]), samples=SAMPLES, texts=100)
    keys = [key for name in KEYS if name in found for key in (name, f"{name}_se")]
    return {key: found[key] for key in keys} | brier_metrics(model, model.codec.prepare(texts))


def main() -> None:
    one_thread()
    splits = read_splits(str(DATA / "captions"), seed=0)
    texts = splits.valid.sample(FORECAST, 1).examples
    autoencoder = trained(FOLDER / "autoencoder", settings_of("chunks"), splits)
    once(FOLDER / "tokens.json", lambda: tokens_back(autoencoder, texts))
    once(FOLDER / "fit.json", lambda: fit(splits))
    once(FOLDER / "stack.json", lambda: measure(load(FOLDER / "stack"), texts))
    spent = seconds_of(FOLDER / "autoencoder")["processor_seconds"]
    spent += kept(FOLDER / "fit.json")["processor_seconds"]
    budget = {"train": {"minutes": spent / 60, "learning_rate": 2e-3, "epochs": 100}}
    plain = trained(FOLDER / "plain", settings_of("optimus", PLAIN, budget), splits)
    once(FOLDER / "plain.json", lambda: measure(plain, texts))
    parts = ("tokens", "fit", "stack", "plain")
    rows = {name: kept(FOLDER / f"{name}.json") for name in parts}
    seconds = {name: seconds_of(FOLDER / name) for name in ("autoencoder", "plain")}
    write("calm", {"data": "captions", "texts": TEXTS, "rows": rows, "seconds": seconds})


if __name__ == "__main__":
    main()
