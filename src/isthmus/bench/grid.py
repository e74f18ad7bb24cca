"""The perceptual grid: generators that invert a code, one for each subset of three losses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from isthmus.bench.inversion import (
    CLASSIFIER_STEPS,
    Task,
    classifier,
    other_random_comparator,
    subsets,
    train_classifier,
    train_generator,
)
from isthmus.bench.measure import circumstances, claim
from isthmus.bench.table import markdown_table
from isthmus.data.kind import Splits
from isthmus.data.pictures import PictureCorpus
from isthmus.errors import IsthmusError
from isthmus.evaluation.picture_quality import (
    inversion_error,
    peak_signal_to_noise,
    sharpness_ratio,
)
from isthmus.evaluation.usage import Estimate
from isthmus.models.pictures import efficientnet
from isthmus.models.pictures.comparators import (
    ROWS,
    TAPS,
    Code,
    Comparator,
    Distances,
    Generator,
    Weights,
    random_comparator,
)
from isthmus.progress import Progress, counting
from isthmus.runs.folders import write_json

HELD_OUT: Final = 0.2
"""Share of the pictures to measure on, if DATA has no test part."""
JUDGED: Final = 1000
"""Largest number of pictures to measure on."""
OTHER_SEED: Final = 12345
"""Seed of the random network that no cell is trained with."""


@final
@dataclass(frozen=True)
class Plan:
    """What determines a grid, apart from its pictures and a seed."""

    weights: Weights
    steps: int
    code_size: int
    comparator: str
    """"random", "classifier" or "efficientnet"."""


def values(pictures: NDArray[np.uint8]) -> Tensor:
    """Convert levels from 0 to 255 to numbers from −1 to 1."""
    return torch.from_numpy(pictures).float() * (2 / 255) - 1


def levels(numbers: Tensor) -> NDArray[np.uint8]:
    """Convert numbers from −1 to 1 to the nearest levels from 0 to 255."""
    return ((numbers + 1) * (255 / 2)).round().clamp(0, 255).to(torch.uint8).numpy()


def judged(splits: Splits[PictureCorpus]) -> PictureCorpus:
    """The held-out pictures that all cells are measured on."""
    return (splits.test or splits.valid).part(slice(JUDGED))


@final
class Grid:
    """The cells of a plan on some pictures, trained or loaded.

    Args:
        plan: What to train.
        splits: The pictures, at least two to train on and two to measure on.
        folder: Folder of results, where an interrupted grid is resumed.
        console: Where to show progress.

    Raises:
        IsthmusError: The folder has another grid, or a comparator is not available.
    """

    def __init__(
        self, plan: Plan, splits: Splits[PictureCorpus], folder: Path, console: Console
    ) -> None:
        self.plan, self.splits, self.folder, self.console = plan, splits, folder, console
        if len(judged(splits)) < 2:
            raise IsthmusError(f"{splits.train.source}: needs 2 held-out pictures, has 1")
        self.train, self.test = values(splits.train.pictures), values(judged(splits).pictures)
        self.code = Code(random_comparator(splits.train.shape), self.train, plan.code_size)
        self.judges = self._ready_comparators()
        claim(
            folder,
            {
                "plan": dataclasses.asdict(plan) | {"weights": plan.weights._asdict()},
                "training pictures": splits.train.fingerprint,
                "mirrored": True,
                "judged pictures": judged(splits).fingerprint,
            },
        )
        if self._labels():
            self.judges["classifier"] = self._classifier()
        self.comparator = self.judges.pop(plan.comparator, self.code.comparator)
        self.distances = Distances(self.comparator, self.train)
        # Mirrored pictures are additional training examples of the inversion.
        seen = torch.cat([self.train, self.train.flip(-1)])
        with counting(console, "codes", len(seen) + len(self.test)) as progress:
            self.task = Task(seen, self.code(seen, progress), self.distances)
            self.test_codes = self.code(self.test, progress)

    def _ready_comparators(self) -> dict[str, Comparator]:
        """The comparators without training; errors come before anything is written."""
        if self.plan.comparator == "classifier" and not self._labels():
            raise IsthmusError(
                "comparator classifier: needs pictures with at least 2 labels; sort them into "
                "one folder per label, or use --comparator random"
            )
        found = {"other random": other_random_comparator(self.splits.train.shape, OTHER_SEED)}
        if self.plan.comparator == "efficientnet" or efficientnet.is_installed():
            found["efficientnet"] = efficientnet.efficientnet_comparator()
        return found

    def _labels(self) -> list[str]:
        """Labels to train a classifier on; none unless there are two different ones."""
        labels = self.splits.train.labels or []
        return labels if len(set(labels)) > 1 else []

    def _classifier(self) -> Comparator:
        labels, shape = self._labels(), self.splits.train.shape
        network, path = classifier(shape, len(set(labels))), self.folder / "classifier.safetensors"
        if path.is_file():
            network.load_state_dict(load_file(path))
        else:
            with counting(self.console, "classifier", CLASSIFIER_STEPS) as progress:
                network = train_classifier(self.train, labels, progress)
            keep(network, path)
        return Comparator(cast(nn.Sequential, network[0]), TAPS)

    def run(self, seeds: int) -> list[dict[str, Any]]:
        """The record of every cell and seed, trained and measured if it does not exist yet."""
        cells = [(name, seed) for seed in range(seeds) for name in subsets(self.plan.weights)]
        done = [cell for cell in cells if self._record(*cell).is_file()]
        with counting(self.console, "steps", self.plan.steps * len(cells)) as progress:
            progress(self.plan.steps * len(done))
            for name, seed in cells:
                if (name, seed) not in done:
                    self._train(name, seed, progress)
        return [json.loads(self._record(*cell).read_text(encoding="utf-8")) for cell in cells]

    def _record(self, name: str, seed: int) -> Path:
        return self.folder / f"{name}-{seed}.json"

    def _train(self, name: str, seed: int, progress: Progress) -> None:
        weights = subsets(self.plan.weights)[name]
        generator, waits = train_generator(self.task, weights, self.plan.steps, seed, progress)
        path = self._record(name, seed)
        keep(generator, path.with_suffix(".safetensors"))
        record = {
            "cell": name,
            "seed": seed,
            "weights": weights._asdict(),
            "waits": dataclasses.asdict(waits),
            "metrics": {key: vars(value) for key, value in self.measure(generator).items()},
            "circumstances": circumstances(),
        }
        write_json(record, path)

    def pictures(self, generator: Generator, codes: Tensor) -> NDArray[np.uint8]:
        """A generator's pictures of codes [N P], as levels [N C H W]."""
        with torch.no_grad():
            return levels(torch.cat([generator(part) for part in codes.split(ROWS)]))

    def measure(self, generator: Generator) -> dict[str, Estimate]:
        """PSNR, sharpness, and normalised inversion error in pixels and in every comparator."""
        back = values(self.pictures(generator, self.test_codes))
        found = {
            "psnr": peak_signal_to_noise(self.test, back),
            "sharpness": sharpness_ratio(self.test, back),
            "error in pixels": inversion_error(self.test, back),
            f"error in {self.plan.comparator} (trained with)": self._error(self.comparator, back),
        }
        held_out = {name: self._error(judge, back) for name, judge in self.judges.items()}
        return found | {f"error in {name}": error for name, error in held_out.items()}

    def _error(self, comparator: Comparator, back: Tensor) -> Estimate:
        return inversion_error(comparator.features(self.test)[-1], comparator.features(back)[-1])

    def sheet(self, count: int) -> dict[str, NDArray[np.uint8]]:
        """Name → test pictures from across the set, and the pictures of each cell of seed 0."""
        places = torch.linspace(0, len(self.test) - 1, min(count, len(self.test))).long()
        rows = {"given": levels(self.test[places])}
        for name in subsets(self.plan.weights):
            generator = Generator(self.splits.train.shape, self.plan.code_size).eval()
            generator.load_state_dict(load_file(self._record(name, 0).with_suffix(".safetensors")))
            rows[name] = self.pictures(generator, self.test_codes[places])
        return rows


def keep(network: nn.Module, path: Path) -> None:
    """Write the weights of a network atomically."""
    unfinished = path.with_suffix(".unfinished")
    save_file(network.state_dict(), unfinished)
    unfinished.replace(path)


def table(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per cell: the mean of every figure over seeds, and its error.

    ``_se`` is the standard error over the pictures of one seed, ``_sd`` the standard deviation
    over several seeds.
    """
    rows = []
    for name in dict.fromkeys(record["cell"] for record in records):
        own = [record for record in records if record["cell"] == name]
        row: dict[str, Any] = {"cell": name, "seeds": len(own)}
        for key, first in own[0]["metrics"].items():
            found = [record["metrics"][key]["value"] for record in own]
            row |= {key: float(np.mean(found)), f"{key}_se": first["standard_error"]}
            row["pictures"] = first["count"]
            if len(own) > 1:
                row[f"{key}_sd"] = float(np.std(found, ddof=1))
        rows.append(row)
    return rows


def markdown(rows: Sequence[dict[str, Any]], title: str) -> str:
    """The table for readers."""
    keys = [key for key in rows[0] if f"{key}_se" in rows[0]]
    cells = [
        [
            row["cell"],
            *(
                f"{row[key]:.{2 if key == 'psnr' else 3}f} ± {row[f'{key}_se']:.3f}"
                for key in keys
            ),
        ]
        for row in rows
    ]
    lines = markdown_table(title, ["terms", "PSNR, dB", *keys[1:]], cells)
    first = rows[0]
    lines += [
        "",
        f"{first['pictures']:,} held-out pictures, {first['seeds']} "
        f"seed{'s' if first['seeds'] > 1 else ''}; ± standard error over pictures. PSNR: higher "
        "is closer in pixels. Sharpness: gradient energy relative to the pictures. "
        "Error: normalised inversion error; 0 is exact, 1 is as far as a random other picture.",
    ]
    return "\n".join(lines) + "\n"
