"""``isthmus prior``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from isthmus.commands import common
from isthmus.errors import IsthmusError
from isthmus.settings import Settings, from_dict
from isthmus.settings.choices import FittedPriorKind

if TYPE_CHECKING:
    from isthmus.data.kind import Splits
    from isthmus.explore.refit import Tried


@dataclass(frozen=True, kw_only=True)
class FitPrior(common.OnData):
    """Fit a prior to the aggregate posterior of a trained run, and save the result as a new run.

    The encoder and the decoder do not change. Samples get better, and so does the bound. What is
    kept is the best on validation examples, so that no prior is kept that learned by heart.
    """

    data: common.Data
    """The training data, in any form that train reads. Validation examples are those that train
    takes from it."""
    out: str
    """The run directory to create."""
    kind: FittedPriorKind = "best"
    """The kind of prior. "best" fits every kind, prints their figures and keeps that with the
    lowest KL on validation examples."""
    minutes: float = 1.0
    """Time for everything, with kind best."""
    components: int = 64
    """Components of the mixture, or pseudo-inputs of the VampPrior."""
    limit: int = 40_000
    """Use only a random sample of N training examples; 0 for all."""
    steps: int = 1000
    """Optimiser steps, with any other kind than best."""
    seed: int = 0
    """Seed of the fit."""

    def run(self) -> None:
        common.check_positive(components=self.components, steps=self.steps)
        if self.limit < 0:
            raise IsthmusError(f"limit must be ≥ 0, got {self.limit}; 0 takes all")
        if not 0 < self.minutes < float("inf"):
            raise IsthmusError(f"minutes must be > 0, got {self.minutes}")
        target = common.check_new(self.out)
        from isthmus.runs.bundle import read_run, save

        record = read_run(self.run_directory)
        splits = self._splits(record)
        common.console().print(splits.report(), markup=False)
        train = splits.train.sample(self.limit or len(splits.train), self.seed)
        model = self.load()
        from isthmus.evaluation.metrics import finite
        from isthmus.explore.refit import HELD_OUT, fit_best, refit

        fitted: dict[str, Any] = {"data": train.fingerprint, "seed": self.seed}
        tried: list[Tried] = []
        said = f"{target}"
        if self.kind == "best":
            count = min(HELD_OUT, len(splits.valid)) + len(train)
            with common.bar("encoding", count) as progress:
                tried = fit_best(
                    model,
                    train.examples,
                    splits.valid.examples,
                    minutes=self.minutes,
                    seed=self.seed,
                    progress=progress,
                    components=self.components,
                )
            fitted["tried"] = [finite(asdict(one)) for one in tried]
        else:
            losses = refit(
                model,
                train.examples,
                self.kind,
                self.components,
                self.steps,
                self.seed,
                splits.valid.examples,
            )
            fitted["steps"] = self.steps
            said = f"−log p(z) fell from {losses[0]:.2f} to {min(losses):.2f} nats; {target}"
        record["metrics"] = {}  # those of the old prior
        record["fitted_prior"] = {"kind": model.config.prior, **fitted}
        save(model, target, record)
        if tried:
            print_tried(tried)
        print(said)

    def _splits(self, record: dict[str, Any]) -> Splits[Any]:
        """What the run trained on and what it held out, if DATA is what it was trained on."""
        kind = common.kind_of_run(self.run_directory)
        seed = record.get("seed", 0)
        if self.data == "-" and kind.has_text:
            from isthmus.data.kind import make_splits

            corpus = common.read_corpus(
                self.data, run=self.run_directory, embeddings=self.embeddings
            )
            return make_splits(corpus, lambda name: None, seed=seed)
        try:
            settings = from_dict(Settings, record["settings"], "run.json")
        except (IsthmusError, KeyError):  # of version 0.1.0
            model = {"kind": "picture-vae" if kind.has_pictures else "text-vae"}
            settings = from_dict(Settings, {"model": model, "train": {"seed": seed}}, "run.json")
        return kind.read_splits(self.data, settings)


def print_tried(tried: Sequence[Tried]) -> None:
    """Print what was tried as a table, the best first."""
    from rich.table import Table

    table = Table(title="KL(q(z|x) ‖ p(z)) of validation examples, nats; the first is kept")
    for name in ("prior", "KL", "±", "steps", "width", "seconds"):
        table.add_column(name, justify="left" if name == "prior" else "right")
    for one in tried:
        if not one.fault:
            figures = [f"{one.kl:.2f}", f"{one.standard_error:.2f}"]
            cost = [str(one.steps or ""), str(one.hidden_size or ""), f"{one.seconds:.0f}"]
            table.add_row(one.kind, *figures, *cost)
    out = common.table_console()
    out.print(table)
    for one in tried:
        if one.fault:
            out.print(f"{one.kind}: not tried: {one.fault}")
