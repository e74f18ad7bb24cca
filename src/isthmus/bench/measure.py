"""Train or load a row and measure it: one result file per row and seed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from isthmus.bench.rows import Row
from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import Splits
from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.metrics import evaluate, work
from isthmus.models.base import LatentModel
from isthmus.models.tuning import parameter_count
from isthmus.progress import counting
from isthmus.runs.bundle import load, read_run, versions
from isthmus.runs.folders import write_json
from isthmus.settings import Settings
from isthmus.training.phases import FIRST_PHASE
from isthmus.training.run import LOG_FILE, train_once

SAMPLES = 100
"""K of the importance-weighted bound."""
CLAIM = "made_of.json"
"""File in a folder of results: what they depend on."""
SENTENCES = 1000
"""Test sentences, the same for every row, so that differences between rows are paired."""
TEXTS = 200
"""Sentences to reconstruct."""
REFINED = 200
"""Sentences for the amortisation gap: a sample of the test sentences."""
REFINE_STEPS = 20
"""Steps of gradient ascent on the posterior of each."""


def processor() -> str:
    """The processor's name, if the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def circumstances() -> dict[str, Any]:
    """Hardware, versions and date of a measurement."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def test_part(splits: Splits[TextCorpus]) -> TextCorpus:
    """The sentences that all rows are measured on, in the order of their source.

    A corpus without a test part uses its validation texts, which also select the checkpoints.
    """
    return (splits.test or splits.valid).sample(SENTENCES, 0)


def result_file(folder: Path, row: str, seed: int) -> Path:
    """The file with the figures of a row and seed."""
    return folder / f"{row}-{seed}.json"


def result_files(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All results in a folder: row → its records, one per seed."""
    records: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-[0-9]*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        records.setdefault(record["row"], []).append(record)
    return records


def measure(
    row: Row, settings: Settings, splits: Splits[TextCorpus], folder: Path, console: Console
) -> dict[str, Any]:
    """The figures of a row; it is trained and measured only if they do not exist yet.

    An interrupted run is resumed.

    Args:
        row: The row.
        settings: Of the run; the seed distinguishes the runs of a row.
        splits: The corpus.
        folder: Folder of runs and results.
        console: Where to show progress.

    Returns:
        The record, also written to :func:`result_file`. ``nll_iw`` of every test sentence is
        written next to it as .npy, for paired differences.
    """
    seed = settings.train.seed
    path = result_file(folder, row.name, seed)
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    out = folder / "runs" / f"{row.name}-{seed}"
    console.print(f"row {row.name}, seed {seed}: {row.what}")
    train_once(settings, splits, out, console)
    model = load(out)
    part = test_part(splits)
    examples = model.codec.prepare(part.texts)
    with counting(console, f"measuring {row.name}", work(model, examples, TEXTS)) as progress:
        measured = bounds(model, examples, samples=SAMPLES, progress=progress)
        metrics = evaluate(
            model,
            examples,
            samples=SAMPLES,
            texts=TEXTS,
            measured=measured,
            floor=part.floor,
            progress=progress,
        )
    metrics |= gaps(model, part.sample(REFINED, 0).texts)
    np.save(path.with_suffix(".npy"), measured.nll_iw.numpy())
    record = {
        "row": row.name,
        "what": row.what,
        "seed": seed,
        "sentences": len(examples),
        "measured_on": "test" if splits.test else "validation",
        "seconds": training_seconds(out),
        "steps": steps_of(out),
        "parameters": parameter_count(model)[0],
        "settings": dataclasses.asdict(settings),
        "circumstances": circumstances(),
        "metrics": metrics,
    }
    write_json(record, path)
    return record


def claim(folder: Path, given: dict[str, Any]) -> None:
    """Reserve a folder for results that depend on the same things.

    Args:
        folder: The folder; made if it does not exist.
        given: What the results depend on, name → value for JSON.

    Raises:
        IsthmusError: The folder has results that depend on something else.
    """
    path = folder / CLAIM
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(given, path)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for part, value in given.items():
        if before.get(part) != value:
            raise IsthmusError(
                f"{folder}: has results of other {part}; use the same command as before, or "
                "choose another folder with --out"
            )


def gaps(model: LatentModel, texts: list[str]) -> dict[str, Any]:
    """Amortisation and approximation gap of some sentences; empty without a latent."""
    if not model.config.latent_size:
        return {}
    refined = evaluate(
        model, model.codec.prepare(texts), samples=SAMPLES, texts=0, refine_steps=REFINE_STEPS
    )
    names = ("amortisation_gap", "approximation_gap")
    return {key: value for key, value in refined.items() if key.startswith(names)}


def steps_of(out: Path) -> int:
    """Optimiser steps, including a first phase."""
    first = out / FIRST_PHASE
    return read_run(out)["steps"] + (steps_of(first) if first.is_dir() else 0)


def training_seconds(out: Path) -> float:
    """Logged wall-clock time of training, including a first phase; since the last resumption."""
    lines = (out / LOG_FILE).read_text(encoding="utf-8").splitlines()
    logged = (json.loads(line).get("train_runtime") for line in reversed(lines))
    seconds = next((each for each in logged if each is not None), math.nan)
    first = out / FIRST_PHASE
    return seconds + (training_seconds(first) if first.is_dir() else 0.0)
