"""The health of a run: training curves, use of each dimension, readings in plain words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from isthmus.data import scenes
from isthmus.evaluation.measures import Metrics
from isthmus.evaluation.metrics import finite
from isthmus.evaluation.readings import Reading, readings_of
from isthmus.runs.bundle import RUN_FILE, read_run
from isthmus.runs.card import summary_of
from isthmus.runs.folders import reading

MOST_RECORDS = 500
"""Most log records in a chart: more than a screen can show."""
LOG_FILE = "log.jsonl"


def health(run: Path) -> dict[str, Any]:
    """What the studio shows about the health of a run. Reads its files; loads no model.

    Args:
        run: A run directory.

    Returns:
        ``curves``: records of log.jsonl, thinned to MOST_RECORDS; ``metrics`` of run.json;
        ``readings``: rows of the evaluation table in plain words; ``dimensions``: largest KL
        first, in nats, with mean and deviation of the aggregate posterior; ``posterior``: mean
        and deviation of the aggregate and the typical deviation of one posterior, [P] each.
        Null is what the run does not record, or what is not finite.

    Raises:
        IsthmusError: Not a complete run directory.
    """
    record = read_run(run)
    metrics = record.get("metrics") or {}
    space = metrics | summary_of(metrics)
    with reading(Path(run) / RUN_FILE):
        found = {
            "curves": curves(run),
            "metrics": metrics,
            "readings": [asdict(each) for each in readings(record)],
            "dimensions": dimensions(metrics),
            "posterior": {
                "aggregate_mean": space.get("aggregate_mean"),
                "aggregate_deviation": space.get("aggregate_standard_deviation"),
                "mean_deviation": space.get("standard_deviation_per_dimension"),
            },
        }
        return dict(finite(found))


def readings(record: dict[str, Any]) -> list[Reading]:
    """The evaluation table of a run.json; empty if the run was never evaluated."""
    return readings_of(record.get("metrics") or {}, record, known_entropy(record))


def known_entropy(record: dict[str, Any]) -> float | None:
    """The exact entropy of the data in nats per example, known for ``scenes`` alone."""
    data = record.get("data", {})
    if "sentences" not in data or not str(data.get("source", "")).startswith("scenes/"):
        return None
    return scenes.entropy().nats_per_sentence


def curves(run: Path) -> list[dict[str, Any]]:
    """Records of the log: those of the validation part, then training records up to the limit."""
    path = run / LOG_FILE
    if not path.is_file():  # an imported run has no log
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:  # a line cut short when training was killed
            continue
    valid = [place for place, one in enumerate(records) if "eval_elbo" in one]
    train = [place for place, one in enumerate(records) if "reconstruction" in one]
    kept = thinned(valid, MOST_RECORDS // 2)
    kept += thinned(train, MOST_RECORDS - len(kept))
    return [records[place] for place in sorted(kept)]


def thinned(places: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of them, evenly spaced, with the first and the last."""
    if len(places) <= most:
        return list(places)
    last = len(places) - 1
    return [places[round(step * last / (most - 1))] for step in range(most)]


def dimensions(metrics: Metrics) -> list[dict[str, Any]]:
    """Each dimension with its KL, largest first, and mean and deviation under q(z).

    Of two levels, those of the summary, in which walks and samples are. A prior that does not
    factorise over dimensions has only one KL in total. Then the KL per dimension is null, and the
    dimensions are sorted by deviation.
    """
    metrics = metrics | summary_of(metrics)
    deviations = metrics.get("aggregate_standard_deviation") or []
    nothing = [None] * len(deviations)
    means = metrics.get("aggregate_mean") or nothing
    kl = metrics.get("kl_per_dimension") or nothing
    if len(kl) != len(deviations):
        kl = nothing
    rows = [
        {"dimension": place, "kl": nats, "mean": mean, "deviation": deviation}
        for place, (nats, mean, deviation) in enumerate(zip(kl, means, deviations, strict=True))
    ]
    by = "deviation" if kl is nothing else "kl"
    return sorted(rows, key=lambda row: -row[by])
