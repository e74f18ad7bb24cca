"""All decoders and encoders of transformers in a tiny text VAE: it works, or a line says why not.

python benchmarks/sweep.py [NAME …]      # about half an hour on one core; results/sweep.md

A model works if it builds (with the checks of isthmus.models.checks), training steps lower its
loss, greedy text by its cache is greedy text by whole passes, and its terms are the same after it
was saved and loaded. Each runs in a process of its own with a time and a memory limit; what is in
runs/sweep is not run again.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from common import RUNS, all_kept, one_thread, settings_from, table, write, write_text
from isthmus.data.scenes import generate
from isthmus.errors import IsthmusError
from isthmus.models.build import build
from isthmus.models.checks import awake
from isthmus.models.generation import Generation
from isthmus.runs import bundle
from isthmus.runs.folders import write_json

FOLDER = RUNS / "sweep"
SECONDS = 240
MEMORY = 6 * 2**30
BRIDGES = ("memory+embedding", "embedding", "prefix")
CAUSAL, SEQ2SEQ = (
    list(names)
    for names in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
)
DECODERS = [*CAUSAL, *(name for name in SEQ2SEQ if name not in CAUSAL)]
ENCODERS = list(
    dict.fromkeys([*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *SEQ2SEQ, "funnel", "xlnet", "canine"])
)
PARTS = (("decoder", DECODERS, BRIDGES), ("encoder", ENCODERS, BRIDGES[:1]))
TEXTS = [sentence.text for sentence in generate("train", 64)]
TEXT_TOKENS = 12


def settings_of(role: str, name: str, bridge: str) -> dict[str, Any]:
    """Two layers of width 32, and plain partners."""
    size = {"layers": 2, "hidden_size": 32, "heads": 4}
    parts = {"encoder": "bert", "decoder": "gpt2", role: name}
    model: dict[str, Any] = {part: size | {"architecture": parts[part]} for part in parts}
    model["encoder"]["pooling"] = "mean"
    return {
        "model": model | {"latent_size": 4, "bridge": bridge},
        "data": {"tokenizer": "word", "vocabulary_size": 200, "maximum_length": 32},
    }


def trial(role: str, name: str, bridge: str) -> dict[str, Any]:
    """What became of one model: "works", "refused" with its line, or "fails"."""
    try:
        model = build(settings_from(settings_of(role, name, bridge)), TEXTS)
    except IsthmusError as error:
        line = str(error)
        return {"outcome": "refused" if "\n" not in line else "fails", "line": line}
    batch = model.codec.prepare(TEXTS).collate(range(4), noise_shape=model.latent_shape)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        output = model.train()(**batch)
        loss = (output.reconstruction + output.kl.sum(1)).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    if not losses[-1] < losses[0]:
        return {"outcome": "fails", "line": f"losses {losses}"}
    model.decoder = awake(model.decoder)
    cached, whole = (texts(model.eval()) for texts in (by_cache, by_whole_passes))
    if cached != whole:
        return {"outcome": "fails", "line": f"by its cache {cached}, by whole passes {whole}"}
    with TemporaryDirectory() as folder:
        bundle.save(model, folder, {})
        terms = [each.terms(TEXTS, seed=1).reconstruction for each in (model, bundle.load(folder))]
    if not torch.allclose(*terms, rtol=1e-4):
        return {"outcome": "fails", "line": f"loaded, its terms are {terms[1]}, not {terms[0]}"}
    return {"outcome": "works", "line": ""}


@torch.no_grad()
def given(model: Any) -> Any:
    """The conditioning of four latents."""
    z = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    return model.conditioning(25 * z)


@torch.no_grad()
def by_cache(model: Any) -> list[list[int]]:
    """Greedy ids as Isthmus writes them."""
    found: list[list[int]] = model.decoder.generate(given(model), 4, Generation(TEXT_TOKENS))
    return found


@torch.no_grad()
def by_whole_passes(model: Any) -> list[list[int]]:
    """Greedy ids by reading the whole text for each."""
    conditioning, special = given(model), model.decoder.special
    ids = torch.full((4, 1), special.start)
    for _ in range(TEXT_TOKENS):
        last = model.decoder.logits(model.decoder.hidden(conditioning, ids)[:, -1])
        ids = torch.cat([ids, last.argmax(-1, keepdim=True)], dim=1)
    rows = [row[1:] for row in ids.tolist()]
    return [row[: row.index(special.end)] if special.end in row else row for row in rows]


def in_a_child(role: str, name: str, bridge: str) -> dict[str, Any]:
    """The trial in a process of its own, whatever it does to that."""
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            found = trial(role, name, bridge)
        except BaseException as error:  # the sweep exists to find these
            found = {"outcome": "fails", "line": f"{type(error).__name__}: {error}"[:300]}
        os.write(written, json.dumps(found).encode())
        os._exit(0)
    os.close(written)
    ready, _, _ = select.select([read], [], [], SECONDS)
    if not ready:
        os.kill(child, signal.SIGKILL)
    answer = os.read(read, 2**16) if ready else b""
    os.close(read)
    os.waitpid(child, 0)
    if not answer:
        return {"outcome": "fails", "line": "no answer in time" if not ready else "died"}
    result: dict[str, Any] = json.loads(answer)
    return result


def main() -> None:
    one_thread()
    wanted = sys.argv[1:]
    trials = [(role, *pair) for role, names, bridges in PARTS for pair in product(names, bridges)]
    for role, name, bridge in trials:
        path = FOLDER / f"{role}-{name}-{bridge}.json"
        if path.is_file() or (wanted and name not in wanted):
            continue
        started = time.perf_counter()
        record = {"role": role, "name": name, "bridge": bridge} | in_a_child(role, name, bridge)
        record["seconds"] = round(time.perf_counter() - started, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, path)
        print(f"{role} {name} {bridge}: {record['outcome']} {record['line'][:200]}", flush=True)
    if not wanted:
        report()


def report() -> None:
    """results/sweep.json and results/sweep.md."""
    records = {(r["role"], r["name"], r["bridge"]): r for r in all_kept(FOLDER)}
    outcomes: dict[str, dict[str, dict[str, str]]] = {"decoder": {}, "encoder": {}}
    lines = ["# Decoders and encoders of transformers in a tiny text VAE", ""]
    lines += ["Written by `python benchmarks/sweep.py`. A model fails if it does not work within "]
    lines += [f"{SECONDS} seconds and {MEMORY >> 30} GiB.", ""]
    for role, names, bridges in PARTS:
        rows = []
        for name in names:
            found = [records[role, name, bridge] for bridge in bridges]
            outcomes[role][name] = {each["bridge"]: each["outcome"] for each in found}
            reasons = dict.fromkeys(each["line"].split("; ")[0][:200] for each in found)
            reason = " / ".join(filter(None, reasons)).replace("|", "¦")
            rows.append([name, *(each["outcome"] for each in found), reason])
        works, fails = (sum(word in row[1:-1] for row in rows) for word in ("works", "fails"))
        lines += [f"## {role.capitalize()}s", ""]
        lines += [f"{len(rows)} types: {works} work, {fails} fail, the others are refused.", ""]
        lines += [*table([role, *bridges, "reason"], rows), ""]
    write("sweep", outcomes)
    write_text("sweep", "\n".join(lines))


if __name__ == "__main__":
    main()
