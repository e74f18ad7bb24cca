"""Training, decoding and evaluation on one large GPU, in eight minutes and without a network.

    python benchmarks/gpu.py                    # every part, to results/gpu.{json,md} as they come
    python benchmarks/gpu.py --out FOLDER       # to another folder
    python benchmarks/gpu.py --part frozen      # one part, printed only

The model has the shapes of the recipe optimus-small (MiniLM and SmolLM2-135M) and fresh weights:
no figure here depends on what they are. Every part is a process of its own with a share of the
time, so that none can take the others with it. Where there is no GPU the shapes are miniature, and
the figures say only that the script works. LoRA needs the package peft.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

import common
from common import peak_memory, table, write
from isthmus.commands.common import quiet
from isthmus.data.tokens import train_word_level
from isthmus.errors import reason_of
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.base import to_device
from isthmus.models.codec import TextCodec, make_codec
from isthmus.models.generation import Generation
from isthmus.models.optimus import OptimusConfig, OptimusModel

MINUTES = 8.0
PART_SECONDS = 150.0
"""Longest that a part may take, compilation included."""


@final
@dataclass(frozen=True)
class Shape:
    """Sizes of the model and of what is measured.

    Attributes:
        encoder, decoder: Fields of the configurations of a BERT and a Llama.
        vocabulary: Words.
        length: Tokens of a text, start and end included.
        sentences: Of a training batch.
        most: Sentences of the largest batch that is tried.
        steps: Training steps that are timed, after three that are not.
        decoded: Numbers of latents to decode at once.
        written: Tokens that are written for each.
        scored: Texts whose likelihood is measured.
        samples: K of the importance-weighted bound.
        product: Rows and columns of the matrices whose product gives the peak.
        backend: Of torch.compile.
    """

    encoder: dict[str, int] = field(
        default_factory=lambda: {
            **{"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12},
            "intermediate_size": 1536,
        }
    )
    decoder: dict[str, int] = field(
        default_factory=lambda: {
            **{"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9},
            **{"num_key_value_heads": 3, "intermediate_size": 1536},
        }
    )
    vocabulary: int = 49_152
    length: int = 64
    sentences: int = 512
    most: int = 2**14
    steps: int = 10
    decoded: tuple[int, ...] = (16, 128, 1024)
    written: int = 32
    scored: int = 256
    samples: int = 100
    product: int = 8192
    backend: str = "inductor"


MINIATURE = Shape(
    encoder={
        **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        "intermediate_size": 32,
    },
    decoder={
        **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "intermediate_size": 32},
    },
    vocabulary=64,
    length=8,
    sentences=4,
    most=8,
    steps=2,
    decoded=(2, 3),
    written=4,
    scored=4,
    samples=3,
    product=64,
    backend="eager",  # it traces and compiles nothing
)


def texts_of(shape: Shape, count: int) -> list[str]:
    """Texts of the full length, over the whole vocabulary."""
    draws = np.random.default_rng(0).integers(0, shape.vocabulary - 5, (count, shape.length - 2))
    return [" ".join(f"w{i}" for i in row) for row in draws]


def codec_of(shape: Shape) -> TextCodec:
    """Of the words w0, w1, …; five tokens are special."""
    words = " ".join(f"w{i}" for i in range(shape.vocabulary - 5))
    tokenizer = train_word_level([words], shape.vocabulary)
    return make_codec(tokenizer, tokenizer, shape.length)


def text_vae(shape: Shape, tuning: str = "full") -> OptimusModel:
    """The model of optimus-small, as its settings would build it."""
    torch.manual_seed(0)
    codec = codec_of(shape)
    special = codec.decoder_special
    shared = {"vocab_size": shape.vocabulary, "max_position_embeddings": 2 * shape.length}
    ids = {"pad_token_id": special.pad, "bos_token_id": special.start, "eos_token_id": special.end}
    config = OptimusConfig(
        encoder=AutoConfig.for_model("bert", **shared, **ids, **shape.encoder),
        decoder=AutoConfig.for_model(
            "llama", **shared, **ids, **shape.decoder, tie_word_embeddings=True
        ),
        latent_size=64,
        bridge="memory+embedding",
        bridge_length=4,
        pooling="mean",
        encoder_tuning=tuning,
        decoder_tuning=tuning,
        frozen_dtype="float32" if tuning == "full" else "bfloat16",
        decoder_start=special.start,
        decoder_end=special.end,
        decoder_pad=special.pad,
    )
    return OptimusModel(config, codec=codec)


def synchronise(device: torch.device) -> None:
    """Wait for what a GPU has still to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(
    work: Callable[[], object], device: torch.device, times: int, before: int = 1
) -> float:
    """Median time of some work, after calls that are not counted."""
    taken = []
    for call in range(before + times):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        if call >= before:
            taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def memory(device: torch.device) -> float:
    """Peak memory so far, MiB: of tensors on a GPU, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_memory()


def peak(shape: Shape, device: torch.device) -> float:
    """FLOP/s of a large product of random matrices in bf16: what training is compared with."""
    a, b = torch.randn(2, shape.product, shape.product, device=device).bfloat16()
    return 2 * shape.product**3 / seconds(lambda: a @ b, device, times=10, before=3)


def half(device: torch.device, enabled: bool = True) -> torch.autocast:
    """Matrix products in bf16, as --train.precision bf16 has them."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


@final
class Step:
    """One step of training in bf16 on a batch, as LatentTrainer makes it.

    Args:
        model: to train.
        shape: its sizes.
        sentences: of the batch.
        device: where both are.
    """

    def __init__(
        self, model: OptimusModel, shape: Shape, sentences: int, device: torch.device
    ) -> None:
        self.model, self.device = model.to(device).train(), device
        examples = model.codec.prepare(texts_of(shape, sentences))
        batch = examples.collate(range(sentences), noise_shape=model.latent_shape)
        self.batch = to_device(batch, device)
        self.tokens = int((batch["targets"] >= 0).sum())
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-4, fused=True)

    def __call__(self) -> None:
        """Forward, backward, update."""
        with half(self.device):
            output = self.model(**self.batch)
        reconstruction, kl = output.bound
        (reconstruction + kl.sum(1)).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()


def training(shape: Shape, device: torch.device, tuning: str, compiled: bool) -> dict[str, Any]:
    """Throughput and utilisation of training.

    FLOPs are those of the matrix products and the attention that a step runs, counted: frozen
    weights cost no gradient of their own, and logits are computed again in the backward pass.
    """
    model = text_vae(shape, tuning)
    step = Step(model, shape, shape.sentences, device)
    with FlopCounterMode(display=False) as counter:
        step()
    if compiled:
        model.encoder.model.compile(backend=shape.backend)
        model.decoder.stack.compile(backend=shape.backend)
    started = time.perf_counter()
    step()
    first, flops, top = (
        time.perf_counter() - started,
        counter.get_total_flops(),
        peak(shape, device),
    )
    taken = seconds(step, device, shape.steps, before=2)
    return {
        "sentences": shape.sentences,
        "tokens": step.tokens,
        "trained_parameters": sum(p.numel() for p in step.trained),
        "first_step_seconds": first,
        "seconds_per_step": taken,
        "tokens_per_second": step.tokens / taken,
        "flops_per_token": flops / step.tokens,
        "peak_flops_per_second": top,
        "utilisation": flops / taken / top,
        "peak_memory_mib": memory(device),
    }


def parity(shape: Shape, device: torch.device) -> dict[str, Any]:
    """Terms and gradient of one batch here and on the processor in float32, as differences."""
    model = text_vae(shape).eval()
    texts = texts_of(shape, min(16, shape.sentences))
    batch = model.codec.prepare(texts).collate(range(len(texts)), noise_shape=model.latent_shape)

    def terms(where: torch.device, in_half: bool) -> tuple[Tensor, Tensor]:
        model.to(where).zero_grad()
        with half(where, in_half):
            output = model(**to_device(batch, where))
        nats = output.terms.negative_elbo
        nats.mean().backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return nats.detach().cpu().double(), torch.cat(gradients).cpu()

    reference, gradient = terms(torch.device("cpu"), False)
    found: dict[str, Any] = {"nats_per_sentence": reference.mean().item()}
    for name in ("float32", "bf16"):
        nats, other = terms(device, name == "bf16")
        found[name] = {
            "largest_difference_nats": (nats - reference).abs().max().item(),
            "mean_difference_nats": (nats - reference).mean().item(),
            "relative_difference_of_the_gradient": (
                (other - gradient).norm() / gradient.norm()
            ).item(),
        }
    return found


def decoding(shape: Shape, device: torch.device) -> dict[str, Any]:
    """Sentences a second of greedy decoding, which never ends early."""
    model = text_vae(shape).to(device).eval()
    model.decoder.special = dataclasses.replace(model.decoder.special, end=-1)
    generation = Generation(max_new_tokens=shape.written)
    found: dict[str, Any] = {"tokens_per_sentence": shape.written}
    for precision in ("float32", "bf16"):
        for count in shape.decoded:
            z = torch.randn(count, 64, generator=torch.Generator().manual_seed(0))
            with half(device, precision == "bf16"):
                taken = seconds(partial(model.decode, z, generation), device, times=2)
            found[f"sentences_per_second_{count}_{precision}"] = count / taken
    return found | {"peak_memory_mib": memory(device)}


def likelihood(shape: Shape, device: torch.device) -> dict[str, Any]:
    """The importance-weighted bound: time, and what bf16 changes, paired."""
    model = text_vae(shape).to(device).eval()
    examples = model.codec.prepare(texts_of(shape, shape.scored))
    found: dict[str, Any] = {"sentences": shape.scored, "samples": shape.samples}
    values = {}
    for precision in ("float32", "bf16"):
        with half(device, precision == "bf16"):
            bounds(model, model.codec.prepare(texts_of(shape, 2)), samples=2)  # a first call
            synchronise(device)
            started = time.perf_counter()
            values[precision] = bounds(model, examples, samples=shape.samples).nll_iw.double()
        taken = time.perf_counter() - started
        found[f"sentences_per_second_{precision}"] = shape.scored / taken
        found[f"nll_iw_{precision}"] = common.figure(Estimate.mean_of(values[precision]))
    difference = Estimate.mean_of(values["bf16"] - values["float32"])
    return found | {"difference": common.figure(difference), "peak_memory_mib": memory(device)}


def largest(shape: Shape, device: torch.device) -> dict[str, Any]:
    """The largest batch that fits when everything is trained, in powers of two."""
    model, found = text_vae(shape), dict[str, Any]()
    sentences = shape.sentences
    while sentences <= shape.most:
        try:
            step = Step(model, shape, sentences, device)
            taken = seconds(step, device, times=2)
        except torch.OutOfMemoryError:
            return found | {"does_not_fit": sentences}
        found = {
            "sentences": sentences,
            "tokens": step.tokens,
            "tokens_per_second": step.tokens / taken,
            "peak_memory_mib": memory(device),
        }
        sentences *= 2
    return found


def profile(shape: Shape, device: torch.device) -> dict[str, Any]:
    """Where the time of a training step goes: the largest shares, by operation."""
    step = Step(text_vae(shape), shape, shape.sentences, device)
    for _ in range(3):
        step()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profiler:
        step()
        synchronise(device)
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    times = {event.key: getattr(event, own) for event in profiler.key_averages()}
    total = sum(times.values())
    top = sorted(times.items(), key=lambda pair: -pair[1])[:15]
    return {"seconds": total / 1e6, "shares": {name: value / total for name, value in top}}


PARTS: dict[str, Callable[[Shape, torch.device], dict[str, Any]]] = {
    "parity": parity,
    "full": partial(training, tuning="full", compiled=False),
    "lora": partial(training, tuning="lora", compiled=False),
    "frozen": partial(training, tuning="frozen", compiled=False),
    "decoding": decoding,
    "likelihood": likelihood,
    "largest": largest,
    "profile": profile,
    "full, compiled": partial(training, tuning="full", compiled=True),
    "frozen, compiled": partial(training, tuning="frozen", compiled=True),
    "lora, compiled": partial(training, tuning="lora", compiled=True),
}
"""The most useful first: the time may not suffice for all."""


def here() -> tuple[Shape, torch.device]:
    """The shapes and the device of this machine."""
    if torch.cuda.is_available():
        return Shape(), torch.device("cuda")
    return MINIATURE, torch.device("cpu")


def guarded(part: str, shape: Shape, device: torch.device) -> dict[str, Any]:
    """The figures of a part, or why there are none."""
    try:
        return PARTS[part](shape, device)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {reason_of(error)}"}


def apart(part: str, limit: float) -> dict[str, Any]:
    """The figures of a part that another process measures, or why there are none."""
    command = [sys.executable, __file__, "--part", part]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {limit:.0f} s"}
    except (IndexError, ValueError):
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """The figures so far as tables."""
    good = {part: row for part, row in found.items() if "error" not in row}
    lines = ["# One GPU", ""]
    rows = [
        (
            *(part, f"{row['tokens_per_second']:,.0f}", f"{row['utilisation']:.1%}"),
            *(f"{row['peak_memory_mib']:,.0f}", f"{row['first_step_seconds']:.1f}"),
        )
        for part, row in good.items()
        if "utilisation" in row
    ]
    head = ("training in bf16", "tokens/s", "of the peak", "MiB", "first step, s")
    lines += [*table(head, rows), ""] if rows else []
    for part in good.keys() - {row[0] for row in rows}:
        flat = {
            f"{name} {inner}".replace("_", " ").strip(): number
            for name, value in good[part].items()
            for inner, number in (value.items() if isinstance(value, dict) else [("", value)])
        }
        shown = [(k, f"{v:,.4g}" if isinstance(v, float) else v) for k, v in flat.items()]
        lines += [*table((part, ""), shown), ""]
    lines += [f"{part}: {row['error']}" for part, row in found.items() if "error" in row]
    return "\n".join(lines) + "\n"


def everything(
    measure: Callable[[str, float], dict[str, Any]], minutes: float = MINUTES
) -> dict[str, dict[str, Any]]:
    """All parts within a time, written after each.

    Args:
        measure: gives the figures of a part within some seconds.
        minutes: for all of them.
    """
    end, found = time.monotonic() + 60 * minutes, dict[str, dict[str, Any]]()
    for part in PARTS:
        left = min(PART_SECONDS, end - time.monotonic())
        found[part] = measure(part, left) if left > 0 else {"error": "no time was left"}
        write("gpu", {"shape": dataclasses.asdict(here()[0]), "parts": found}, markdown(found))
    return found


def main() -> None:
    quiet()
    words = sys.argv[1:]
    if words[:1] == ["--part"]:
        print(json.dumps(guarded(words[1], *here())))
        return
    if words[:1] == ["--out"]:
        common.RESULTS = Path(words[1])
    everything(apart)


if __name__ == "__main__":
    main()
