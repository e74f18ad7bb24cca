"""Signs of handwriting and of proto-Elamite: what networks make of pictures and their order.

    python benchmarks/signs.py full 0 1 2       # trained on signs/train, judged on en_hand_test
    python benchmarks/signs.py itself 0 1 2     # trained on en_hand_test and nothing else
    python benchmarks/signs.py ablation         # contexts × pseudo-labels, the same short budget
    python benchmarks/signs.py elamite 0 1 2    # nearest neighbours of proto-Elamite signs
    python benchmarks/signs.py                  # results from what is there

Every run is kept in runs/signs and goes on there where it was stopped. The scorer is the public
protocol of Born et al. (2023): Ward on token codes, means over seven numbers of clusters, without
its wrap-around. No run sees a name; the settings' defaults (steps, weights, the number of states,
how states merge) were chosen with the names of signs/train at hand, never those that judge.
Writes results/signs.json and signs.md.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from common import DATA
from isthmus.commands.common import console, quiet
from isthmus.evaluate.usage import Estimate
from isthmus.signs import scores
from isthmus.signs.inscriptions import Signs, read
from isthmus.signs.normalise import Normalisation, normalise
from isthmus.signs.runs import RUN_FILE, codes_of, train
from isthmus.signs.settings import NetworkSettings, TrainingSettings

RUNS = Path("runs") / "signs"
CONTEXTS = ("none", "neighbor", "lstm", "transformer")
PSEUDO = ("off", "published", "corrected", "reading")
ABLATION_STEPS = 400
METRICS = ("v_measure", "adjusted_mutual_information", "homogeneity", "completeness")


def data(name: str) -> Signs:
    """Signs of the shared data."""
    return read(str(DATA / "signs" / f"{name}.npz"))


def trained(name: str, signs: Signs, settings: TrainingSettings) -> Path:
    """The run of that name, made, gone on with, or there already."""
    out = RUNS / name
    if not (out / RUN_FILE).is_file():
        start = time.process_time()
        train(signs, settings, out, (out / "settings.json").is_file(), console())
        legs = out.with_suffix(".seconds")
        before = json.loads(legs.read_text()) if legs.is_file() else 0.0
        legs.write_text(json.dumps(before + time.process_time() - start))
    return out


def told(estimate: Estimate) -> dict[str, Any]:
    """A figure with its standard error."""
    return {"value": estimate.value, "se": estimate.standard_error, "n": estimate.count}


def judged(codes: Any, signs: Signs) -> dict[str, Any]:
    """Official V and AMI of the tokens, and retrieval of pictures."""
    official = scores.official(codes, signs.types(), signs.counts)
    found = scores.pair_retrieval(codes, signs.types())
    return {
        **{key: told(official[key]) for key in METRICS},
        **{key: told(value) for key, value in found.items()},
    }


def keep(name: str, record: dict[str, Any]) -> None:
    """Write what was measured beside the run."""
    (RUNS / f"{name}.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(name, json.dumps(record))


def measure(name: str, signs: Signs, settings: TrainingSettings, test: Signs) -> None:
    """Train on some signs, judge on others or on the same."""
    run = trained(name, signs, settings)
    keep(
        name,
        {
            "settings": dataclasses.asdict(settings),
            "processor_seconds": json.loads(run.with_suffix(".seconds").read_text()),
            **judged(codes_of(run, test), test),
        },
    )


def rulers(name: str, signs: Signs) -> None:
    """What needs no training, on the same signs."""
    alike = normalise(signs.pictures, Normalisation(deslant=True))
    rows = scores.rulers(signs.pictures)
    rows["PCA64, cropped and deslanted"] = scores.principal(alike, 64)
    fold = name == "proto_elamite"
    found = {}
    for row, codes in rows.items():
        found[row] = elamite_scores(codes, signs) if fold else judged(codes, signs)
    keep(f"rulers-{name}", found)


def elamite_scores(codes: Any, signs: Signs) -> dict[str, Any]:
    """Nearest neighbours under names without their variants."""
    found = scores.pair_retrieval(codes, signs.types(fold_variants=True))
    return {key: told(value) for key, value in found.items()}


def full(seeds: Sequence[int]) -> None:
    signs, test = data("train"), data("en_hand_test")
    rulers("en_hand_test", test)
    for seed in seeds:
        measure(f"full-{seed}", signs, TrainingSettings(seed=seed), test)


def itself(seeds: Sequence[int]) -> None:
    test = data("en_hand_test")
    for seed in seeds:
        measure(f"itself-{seed}", test, TrainingSettings(seed=seed), test)


def ablation() -> None:
    signs, test = data("train"), data("en_hand_test")
    for pseudo in PSEUDO:
        for context in CONTEXTS:
            settings = TrainingSettings(
                NetworkSettings(context=context), steps=ABLATION_STEPS, pseudo=pseudo
            )
            measure(f"ablation-{pseudo}-{context}", signs, settings, test)


def elamite(seeds: Sequence[int]) -> None:
    signs = data("proto_elamite")
    rulers("proto_elamite", signs)
    for seed in seeds:
        for pseudo in ("off", "reading"):
            name = f"elamite-{pseudo}-{seed}"
            settings = TrainingSettings(
                NetworkSettings(context="transformer"), pseudo=pseudo, deslant=False, seed=seed
            )
            run = trained(name, signs, settings)
            keep(name, elamite_scores(codes_of(run, signs), signs))


def main() -> None:
    torch.set_num_threads(1)
    quiet()
    RUNS.mkdir(parents=True, exist_ok=True)
    what, *seeds = sys.argv[1:] or ["nothing"]
    numbers = [int(seed) for seed in seeds] or [0]
    if what == "ablation":
        ablation()
    elif what != "nothing":
        {"full": full, "itself": itself, "elamite": elamite}[what](numbers)


if __name__ == "__main__":
    main()
