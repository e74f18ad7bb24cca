"""The prior of a trained model, fitted to its posteriors."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console

from isthmus.data.kind import Splits
from isthmus.evaluation.metrics import finite
from isthmus.explore.refit import fit_best
from isthmus.training.trainer import LatentTrainer


def fit_afterwards(
    trainer: LatentTrainer, splits: Splits[Any], console: Console
) -> dict[str, Any]:
    """Give the model the best of several priors, in a share of the time so far, and record all."""
    seconds = trainer.settings.train.fit_prior * trainer.clock.elapsed
    tried = fit_best(
        trainer.model,
        splits.train.examples,
        splits.valid.examples,
        seconds / 60,
        trainer.settings.train.seed,
    )
    best, count = tried[0], sum(not one.fault for one in tried)
    console.print(
        f"prior: {best.kind}, of {count} the one with the lowest KL on validation "
        f"{splits.train.kind.unit}s, {best.kl:.2f} ± {best.standard_error:.2f} nats"
    )
    rows = [finite(dataclasses.asdict(one)) for one in tried]
    return {
        "fitted_prior": {
            "kind": best.kind,
            "data": splits.train.fingerprint,
            "seed": trainer.settings.train.seed,
            "tried": rows,
        }
    }
