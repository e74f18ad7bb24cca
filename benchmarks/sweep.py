"""All architectures of transformers in a tiny text VAE: it works, or a line says why not.

python benchmarks/sweep.py [NAME …]   # about 45 minutes on one core; results/sweep_*.md

Fresh decoders, fresh encoders, and encoder–decoder models as people have them: a folder of
weights, both halves taken from it. A model works if it builds (with the checks of
isthmus.models.checks), training steps lower its loss and give the encoder's embeddings a gradient,
a text alone has the latent and the likelihood that it has in a padded batch, greedy text by its
cache is greedy text by whole passes, and its terms are bit for bit the same after it was saved and
loaded. Each runs in a process of its own with a time and a memory limit; what is in runs/sweep is
not run again.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from dataclasses import replace
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from common import RUNS, all_kept, one_thread, settings_from, table, write, write_text
from isthmus.data.scenes import generate
from isthmus.data.tokens import special_ids, train_word_level
from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.build import build
from isthmus.models.checks import awake
from isthmus.models.decoder import OTHER_DECODER
from isthmus.models.encoder import OTHER_ENCODER
from isthmus.models.generation import Generation
from isthmus.models.stock import fresh_config
from isthmus.runs import bundle
from isthmus.runs.folders import write_json
from isthmus.settings import StockSettings

FOLDER = RUNS / "sweep"
SECONDS = 240
MEMORY = 6 * 2**30
BRIDGES = ("memory+embedding", "embedding", "prefix")
CAUSAL, SEQ2SEQ = (
    list(names)
    for names in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
)
DECODERS = [name for name in CAUSAL if name not in SEQ2SEQ]
ENCODERS = list(
    dict.fromkeys([*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *SEQ2SEQ, "funnel", "xlnet", "canine"])
)
PAIRED = ("cross-attention", "memory+cross-attention", *BRIDGES)
PARTS = (
    ("decoder", DECODERS, BRIDGES),
    ("encoder", ENCODERS, BRIDGES[:1]),
    ("encoder–decoder", SEQ2SEQ, PAIRED),
)
TEXTS = [sentence.text for sentence in generate("train", 64)]
TEXT_TOKENS = 12


def settings_of(role: str, name: str, bridge: str) -> dict[str, Any]:
    """Two layers of width 32, and plain partners."""
    size = {"layers": 2, "hidden_size": 32, "heads": 4}
    parts = {"encoder": "bert", "decoder": "gpt2"}
    parts |= {part: name for part in parts if part in role}
    model: dict[str, Any] = {part: size | {"architecture": parts[part]} for part in parts}
    model["encoder"]["pooling"] = "mean"
    return {
        "model": model | {"latent_size": 4, "bridge": bridge},
        "data": {"tokenizer": "word", "vocabulary_size": 200, "maximum_length": 32},
    }


def stock_config(name: str, tokenizer: Any) -> PreTrainedConfig:
    """Of a tiny encoder–decoder model; of those made of two models, where both are of texts."""
    ids, vocabulary = special_ids(tokenizer), {"vocab_size": len(tokenizer)}
    special = {"pad_token_id": ids.pad, "bos_token_id": ids.start, "eos_token_id": ids.end}
    size = StockSettings(architecture=name, layers=2, hidden_size=32, heads=4)
    if name == "t5gemma":
        part = fresh_config(replace(size, architecture="gemma2"), len(tokenizer), 64, special)
        half = {key: value for key, value in part.to_dict().items() if key != "model_type"}
        return AutoConfig.for_model(name, encoder=half, decoder=half, **vocabulary, **special)
    if name == "encoder-decoder":
        part = fresh_config(replace(size, architecture="bert"), len(tokenizer), 64, special)
        return AutoConfig.for_model(name, encoder=part.to_dict(), decoder=part.to_dict())
    if name == "fsmt":
        both = dict.fromkeys(("src_vocab_size", "tgt_vocab_size"), len(tokenizer))
        size = replace(size, options=both)
    return fresh_config(size, len(tokenizer), 64, special | {"decoder_start_token_id": ids.end})


def save_stock(name: str, folder: str) -> None:
    """A model of that type with loud random weights, and its tokenizer."""
    tokenizer = train_word_level(TEXTS, 200)
    config = stock_config(name, tokenizer)
    with in_one_line(f"transformers cannot build a {name} of this size", OTHER_DECODER):
        model = awake(AutoModelForSeq2SeqLM.from_config(config))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def built(role: str, name: str, bridge: str, folder: str) -> tuple[Any, str]:
    """The model; of an encoder–decoder model with BERT if its encoder is refused, and the line."""
    values = settings_of(role, name, bridge)
    if role != "encoder–decoder":
        return build(settings_from(values), TEXTS), ""
    save_stock(name, folder)
    for part in ("encoder", "decoder"):
        values["model"][part]["source"] = folder
    try:
        return build(settings_from(values), TEXTS), ""
    except IsthmusError as error:
        if not str(error).startswith("encoder"):
            raise
        values["model"]["encoder"] = settings_of("decoder", name, bridge)["model"]["encoder"]
        return build(settings_from(values), TEXTS), f"decoder alone; {error}"


def trial(role: str, name: str, bridge: str) -> dict[str, Any]:
    """What became of one model: "works", "refused" with its line, or "fails" with a reason."""
    with TemporaryDirectory() as folder:
        try:
            model, line = built(role, name, bridge, folder)
        except IsthmusError as error:
            line = str(error).replace(folder, "FOLDER")
            return {"outcome": "refused" if "\n" not in line else "fails", "line": line}
    checks = (wrong_training, wrong_batches, wrong_texts, wrong_copy)
    if wrong := next(filter(None, (check(model) for check in checks)), ""):
        return {"outcome": "fails", "line": wrong}
    return {"outcome": "works", "line": line.replace(folder, "FOLDER")}


def wrong_training(model: Any) -> str:
    """Three steps must lower the loss, and its gradient must reach the encoder's embeddings."""
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
        gradient = model.encoder.model.get_input_embeddings().weight.grad
        if gradient is None or not gradient.abs().max() > 0:
            return "no gradient reaches the encoder's embeddings"
    return "" if losses[-1] < losses[0] else f"losses {losses}"


@torch.no_grad()
def wrong_batches(model: Any) -> str:
    """A text must have the same posterior and −log p(x|z) alone and in a padded batch."""
    examples = model.eval().codec.prepare(TEXTS[:6])
    found = []
    for size in (6, 1):
        batches = [examples.collate(range(at, at + size)) for at in range(0, 6, size)]
        mean = torch.cat([model.posterior(batch).mean for batch in batches])
        nats = [
            model.reconstruction(25 * mean[None, at : at + size], batch).flatten()
            for at, batch in zip(range(0, 6, size), batches, strict=True)
        ]
        found.append((mean, torch.cat(nats)))
    for what, together, alone in zip(("posterior", "likelihood"), *found, strict=True):
        if not torch.allclose(together, alone, atol=1e-3, rtol=1e-4):
            return f"{what} of a text alone {alone.tolist()}, in a batch {together.tolist()}"
    return ""


def wrong_texts(model: Any) -> str:
    """Greedy texts by the cache must be those by whole passes."""
    model.decoder = awake(model.decoder)
    cached, whole = (texts(model.eval()) for texts in (by_cache, by_whole_passes))
    return "" if cached == whole else f"by its cache {cached}, by whole passes {whole}"


def wrong_copy(model: Any) -> str:
    """Saved and loaded, it must be the same."""
    with TemporaryDirectory() as folder:
        bundle.save(model, folder, {})
        terms = [each.terms(TEXTS, seed=1).reconstruction for each in (model, bundle.load(folder))]
    return "" if torch.equal(*terms) else f"loaded, its terms are {terms[1]}, not {terms[0]}"


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
    for part in PARTS:
        report(*part)


def short(line: str) -> str:
    """A line without its remedy."""
    return line.removesuffix(f"; {OTHER_DECODER}").removesuffix(f"; {OTHER_ENCODER}")[:240]


def report(role: str, names: list[str], bridges: tuple[str, ...]) -> None:
    """results/sweep_ROLEs.json and .md, once all of these have run."""
    records = {(r["name"], r["bridge"]): r for r in all_kept(FOLDER) if r["role"] == role}
    if not records.keys() >= set(product(names, bridges)):
        return
    rows, outcomes = [], {}
    for name in names:
        found = [records[name, bridge] for bridge in bridges]
        outcomes[name] = {each["bridge"]: each["outcome"] for each in found}
        reasons = dict.fromkeys(short(each["line"]) for each in found)
        reason = " / ".join(filter(None, reasons)).replace("|", "¦")
        rows.append([name, *(each["outcome"] for each in found), reason])
    works, fails = (sum(word in row[1:-1] for row in rows) for word in ("works", "fails"))
    file = f"sweep_{role.replace('–', '_')}s"
    lines = [
        f"# {role.capitalize()}s of transformers in a tiny text VAE",
        "",
        "Written by `python benchmarks/sweep.py`. A model fails if it does not work within "
        f"{SECONDS} seconds and {MEMORY >> 30} GiB.",
        "",
        f"{len(rows)} types: {works} work, {fails} fail, the others are refused.",
        "",
        *table([role, *bridges, "reason"], rows),
        "",
    ]
    write(file, outcomes)
    write_text(file, "\n".join(lines))


if __name__ == "__main__":
    main()
