"""Streaming: peak memory by the size of the corpus, speed beside memory, kill -9 and resume.

    python benchmarks/streaming.py            # all parts, about 15 minutes on one core
    python benchmarks/streaming.py --short    # a tenth of the texts, printed only

The texts are captions of ../shared in the order of a seed, each with a number behind it, in 64
shards of text packed with Zstandard in a temporary folder. Parts that are done are kept in
runs/streaming; a script that is started again leaves them out.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import zstandard
from rich.console import Console

from common import DATA, RUNS, kept, once, one_thread, peak_memory, settings_from, table, write
from isthmus.data.corpus import read, read_splits, stream_splits
from isthmus.models.build import build
from isthmus.settings import Settings
from isthmus.training import LatentTrainer, train
from isthmus.training.loading import EpochKeys, bucket_batches
from isthmus.training.streaming import StreamedBatches

SHARDS, WINDOW = 64, 50_000
SPEED_TEXTS, SPEED_WINDOW, SPEED_STEPS, PAIRS = 60_000, 5_000, 320, 3
PART = {"layers": 1, "heads": 2}


def shards(folder: Path, count: int) -> None:
    """Captions, each with a number, in 64 shards."""
    captions = read(str(DATA / "captions"), split="train").texts
    order = np.random.default_rng(0).integers(0, len(captions), count)
    for shard in range(SHARDS):
        lines = [f"{captions[place]} {place % 97}" for place in order[shard::SHARDS]]
        content = zstandard.ZstdCompressor().compress("\n".join(lines).encode())
        (folder / f"train-{shard}.txt.zst").write_bytes(content)


def settings_of(width: int, longest: int, window: int, **values: Any) -> Settings:
    part = PART | {"hidden_size": width}
    return settings_from(
        {
            "model": {"latent_size": 8, "encoder": part | {"pooling": "mean"}, "decoder": part},
            "data": {
                "tokenizer": "word",
                "vocabulary_size": 1_000 if width < 64 else 8_000,
                "maximum_length": longest,
                "streaming": True,
                "window": window,
            },
            "train": {
                "precision": "float32",
                "evaluations": 1,
                "validation": 100,
                "keep": "last",
                **values,
            },
        }
    )


def memory(count: int) -> dict[str, Any]:
    """Train one pass over a corpus of this size in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "pass", str(count)], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_pass(count: int) -> None:
    """Print what a pass takes."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        place.mkdir()
        subprocess.run([sys.executable, __file__, "shards", str(place), str(count)], check=True)
        settings = settings_of(16, 10, WINDOW, sentences_per_batch=512, epochs=1.0, log_every=500)
        splits = stream_splits(str(place), settings)
        begun = time.process_time()
        console = Console(stderr=True)
        train(settings, splits, Path(folder) / "run", resume=False, console=console)
        record = json.loads((Path(folder) / "run" / "run.json").read_text())
    spent = {
        "texts": count,
        "read": record["data"]["sentences"],
        "steps": record["steps"],
        "peak_mib": peak_memory(),
        "processor_seconds": time.process_time() - begun,
    }
    print(json.dumps(spent))


def speed(steps: int, pairs: int) -> dict[str, Any]:
    """Tokens per processor second of the same number of steps from memory and from a stream."""
    rates: dict[str, list[float]] = {"memory": [], "stream": []}
    with TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        place.mkdir()
        shards(place, SPEED_TEXTS)
        settings = settings_of(128, 32, SPEED_WINDOW, sentences_per_batch=64, steps=steps)
        splits = stream_splits(str(place), settings)
        whole = read_splits(str(place))
        model = build(settings, splits.train.texts)
        valid = model.codec.prepare(splits.valid.texts[:100])
        for name in ["memory", "stream"] * pairs:
            streams = name == "stream"
            trainer = LatentTrainer(
                build(settings, splits.train.texts),
                settings,
                model.codec.prepare((splits if streams else whole).train.texts),
                valid,
                Path(folder) / f"{name}-{len(rates[name])}",
                log=None,
                warn=print,
                callbacks=[],
                stream=splits.train.stream if streams else None,
            )
            tokens = _tokens(trainer, steps)
            begun = time.process_time()
            trainer.fit(None)
            rates[name].append(tokens / (time.process_time() - begun))
            print(name, rates[name][-1], flush=True)
    ratios = [one / other for one, other in zip(rates["stream"], rates["memory"], strict=True)]
    return {"steps": steps, "tokens_per_processor_second": rates, "ratios": ratios}


def _tokens(trainer: LatentTrainer, steps: int) -> int:
    """Tokens of the batches of a run, counted by making them once more."""
    if trainer.streamed is None:
        sampler = EpochKeys(trainer.bucketed(trainer.examples.lengths))
        counts = [int(trainer.examples.lengths[[n for _, n in keys]].sum()) for keys in sampler]
        return sum(counts[:steps])
    train = trainer.settings.train
    assert trainer.streamed is not None
    stream = trainer.streamed._stream
    codec = trainer.model.codec
    streamed = StreamedBatches(stream, codec, partial(bucket_batches, train=train), steps, False)
    return sum(int(streamed.examples.lengths[[n for _, n in keys]].sum()) for keys in streamed)


def killed() -> dict[str, Any]:
    """Weights of a run that was killed in the middle of a window, and of one that was not."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        place.mkdir()
        shards(place, 20_000)
        recipe = Path(folder) / "recipe.toml"
        from isthmus.settings import to_toml

        values = {"sentences_per_batch": 64, "steps": 150, "evaluations": 15}
        settings = settings_of(32, 24, 3_000, **values)
        recipe.write_text(to_toml(settings))
        words = [sys.executable, "-m", "isthmus", "train", str(place), "--recipe", str(recipe)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        whole, cut = Path(folder) / "whole", Path(folder) / "cut"
        subprocess.run([*words, "--out", str(whole)], check=True, **quiet)
        kills = []
        for step in (20, 70):
            more = ["--resume"] if kills else []
            process = subprocess.Popen([*words, "--out", str(cut), *more], **quiet)
            while not (cut / "checkpoints" / f"checkpoint-{step}" / "manifest.json").exists():
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            last = cut / "checkpoints" / f"checkpoint-{step}" / "stream.json"
            kills.append({"checkpoint": step, **json.loads(last.read_text())})
        subprocess.run([*words, "--out", str(cut), "--resume"], check=True, **quiet)
        digests = [
            hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
            for run in (whole, cut)
        ]
    return {"kills": kills, "same_weights": digests[0] == digests[1]}


def main(short: bool) -> None:
    one_thread()
    folder = RUNS / ("streaming-short" if short else "streaming")
    sizes = (10_000, 100_000) if short else (100_000, 1_000_000)
    once(folder / "killed.json", killed)
    once(folder / "speed.json", lambda: speed(40 if short else SPEED_STEPS, 1 if short else PAIRS))
    for size in sizes:
        once(folder / f"memory-{size}.json", lambda size=size: memory(size))
    parts = {path.stem: kept(path) for path in sorted(folder.glob("*.json"))}
    if not short:
        write("streaming", parts, text(parts))


def text(parts: dict[str, Any]) -> str:
    """The results in Markdown."""
    small, large = parts["memory-100000"], parts["memory-1000000"]
    head = ["texts", "trained on", "steps", "peak MiB", "processor s"]
    rows = [
        [
            f"{part['texts']:,}",
            f"{part['read']:,}",
            f"{part['steps']:,}",
            f"{part['peak_mib']:,.0f}",
            f"{part['processor_seconds']:,.0f}",
        ]
        for part in (small, large)
    ]
    ratios = parts["speed"]["ratios"]
    rates = parts["speed"]["tokens_per_processor_second"]
    pairs = [
        [
            number + 1,
            f"{rates['memory'][number]:,.0f}",
            f"{rates['stream'][number]:,.0f}",
            f"{r:.3f}",
        ]
        for number, r in enumerate(ratios)
    ]
    same = "the same bit for bit" if parts["killed"]["same_weights"] else "DIFFERENT"
    steps = " and ".join(str(kill["checkpoint"]) for kill in parts["killed"]["kills"])
    lines = [
        "# Streaming (benchmarks/streaming.py)",
        "",
        f"Captions with numbers from {SHARDS} shards (.txt.zst), windows of {WINDOW:,} texts; a "
        "tiny model (width 16) trained for one pass:",
        "",
        *table(head, rows),
        "",
        f"Peak memory of 1,000,000 texts: {large['peak_mib'] / small['peak_mib']:.3f} × that of "
        "100,000.",
        "",
        f"Tokens per processor second of {parts['speed']['steps']} steps at width 128 (1 + 1 "
        f"layers, 64 texts a batch, windows of {SPEED_WINDOW:,}), in turn. Reading and tokenizing "
        "count for the stream, and are done before the first step in memory:",
        "",
        *table(["pair", "memory", "stream", "ratio"], pairs),
        "",
        f"Median ratio {float(np.median(ratios)):.3f}.",
        "",
        f"Killed with -9 after the checkpoints of steps {steps} of 150 and resumed: "
        f"weights {same}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["shards", folder, count]:
            shards(Path(folder), int(count))
        case ["pass", count]:
            one_thread()
            one_pass(int(count))
        case words:
            torch.manual_seed(0)
            main("--short" in words)
