"""What pretraining on Optimus' corpus costs: FLOPs, bytes and hours, checked against counts.

The FLOPs of a step follow from the shapes of the networks. They are compared with those that
torch counts on models of the full size, up to 8 billion parameters, which hold no memory because
they lie on the device "meta"; the bytes that a token keeps for the backward pass are counted there
too. Speeds measured on one core give the share of its peak that the formula implies.

    python benchmarks/cost.py       # a minute; results/cost.{json,md}
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers import logging as transformers_logging

import common
from common import table, write
from isthmus.data import scenes
from isthmus.models.build import build

SENTENCES, CORPUS_BYTES = 96e6, 11.79e9
"""Optimus' corpus: sentences of Wikipedia (Li et al. 2020), and the size of their text."""
BYTES_A_TOKEN = 4.3
"""Of English, for a vocabulary of about 50,000."""
PEAK, MEMORY = 989e12, 141e9
"""Dense bf16 FLOP/s and bytes of an H200 (NVIDIA's data sheet)."""
SHARE = 0.4
"""Of the peak that training reaches: an assumption until it is measured (benchmarks/gpu.py)."""
LINK = 50e9
"""Bytes a second between two machines: a network of 400 Gb/s."""
SAMPLES, JUDGED, LATENT = 100, 1_000, 64
LENGTH, TOKENIZED = 32, 20_000


@final
@dataclass(frozen=True)
class Network:
    """Shapes of a Transformer.

    Attributes:
        layers: L.
        width: H.
        inner: F, of the feed-forward network.
        maps: matrices H × F of a layer: 2, or 3 with a gate.
        keys: width of keys and values together with those that heads share: at most H.
        heads: of attention.
        vocabulary: V; 0 leaves out the embeddings.
        tied: whether the output layer is the table of embeddings.
    """

    layers: int
    width: int
    inner: int
    maps: int
    keys: int
    heads: int
    vocabulary: int
    tied: bool = True

    @property
    def matrices(self) -> int:
        """Weights of the layers: L · (2 H² + 2 H·keys + maps · H·F)."""
        attention = 2 * self.width**2 + 2 * self.width * self.keys
        return self.layers * (attention + self.maps * self.width * self.inner)

    @property
    def parameters(self) -> int:
        """With embeddings; norms and biases are less than 1 %."""
        return self.matrices + (2 - self.tied) * self.vocabulary * self.width

    def forward(self, length: int) -> int:
        """FLOPs a token: 2 for each weight, and 4·T·H a layer for scores and their sum."""
        return 2 * self.matrices + 4 * length * self.width * self.layers

    @property
    def output(self) -> int:
        """FLOPs of the logits of a token."""
        return 2 * self.vocabulary * self.width

    @property
    def as_llama(self) -> dict[str, Any]:
        """Fields of the configuration of a decoder."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads * self.keys // self.width,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
        }

    @property
    def as_bert(self) -> dict[str, Any]:
        """Fields of the configuration of an encoder."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
        }


MINILM = Network(6, 384, 1536, 2, 384, 12, 30_522)
BERT_BASE = Network(12, 768, 3072, 2, 768, 12, 30_522)
DECODERS = {
    "135M": Network(30, 576, 1536, 3, 192, 9, 49_152),
    "8B": Network(32, 4096, 14_336, 3, 1024, 32, 128_256, tied=False),
}
ENCODERS = {"135M": MINILM, "8B": BERT_BASE}
STORIES = Network(5, 64, 172, 3, 32, 8, 512)
TUNINGS = ("full", "lora", "frozen")


def step(encoder: Network, decoder: Network, tuning: str, length: int) -> float:
    """FLOPs of training for each token; ``tuning`` is the decoder's.

    The encoder is trained where the decoder is trained in full; else it is frozen, which costs one
    pass, in the first epoch.
    """
    passes = 3 if tuning == "full" else 1
    return passes * encoder.forward(length) + decoder_step(decoder, tuning, length)


def decoder_step(decoder: Network, tuning: str, length: int) -> float:
    """FLOPs of training a decoder for each token.

    A pass costs f forward and, backward, f for the gradient of what goes in and f for that of the
    weights. Frozen weights need no gradient of their own. With the bridge ``output`` the backward
    pass ends at the output layer of a frozen decoder.
    """
    passes = {"full": 3, "lora": 2, "frozen": 1}[tuning]
    return passes * decoder.forward(length) + (3 if tuning == "full" else 2) * decoder.output


def state(network: Network, tuning: str) -> float:
    """Bytes of weights, gradients and AdamW's moments: float32 what is trained, else bf16."""
    return network.parameters * (16 if tuning == "full" else 2)


def on_meta(kind: str, fields: dict[str, Any]) -> PreTrainedModel:
    """A model in bf16 that holds no memory."""
    config = AutoConfig.for_model(kind, **fields)
    loader = AutoModel if kind == "bert" else AutoModelForCausalLM
    with torch.device("meta"):
        model: PreTrainedModel = loader.from_config(config, dtype=torch.bfloat16)
    return model.train()


def counted(model: PreTrainedModel, length: int, sentences: int = 8) -> dict[str, float]:
    """FLOPs of a forward and backward pass and bytes kept between them, both for a token."""
    ids = torch.zeros(sentences, length, dtype=torch.long, device="meta")
    kept: dict[int, Tensor] = {}
    own = {p.untyped_storage()._cdata for p in model.parameters()}

    def keep(saved: Tensor) -> Tensor:
        if (storage := saved.untyped_storage()._cdata) not in own:
            kept[storage] = saved  # held, so that its place is not taken by another
        return saved

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            found = model(ids)[0]
        found.float().sum().backward()
    tokens = sentences * length
    held = sum(saved.untyped_storage().nbytes() for saved in kept.values())
    return {"flops": counter.get_total_flops() / tokens, "bytes": held / tokens}


def check(name: str, network: Network, model: PreTrainedModel, output: int) -> dict[str, Any]:
    """The formula beside torch's count."""
    found = counted(model, LENGTH)
    formula = 3 * (network.forward(LENGTH) + output)
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "network": name,
        "parameters": parameters,
        "parameters_by_formula": network.parameters,
        "flops": found["flops"],
        "flops_by_formula": formula,
        "bytes_a_token": found["bytes"],
    }


def plan(name: str, tuning: str, bytes_a_token: float) -> dict[str, Any]:
    """What one pass over the corpus costs."""
    encoder, decoder = ENCODERS[name], DECODERS[name]
    tokens = CORPUS_BYTES / BYTES_A_TOKEN
    length = round(tokens / SENTENCES)
    flops = step(encoder, decoder, tuning, length)
    speed = SHARE * PEAK / flops
    held = state(decoder, tuning) + state(encoder, "full" if tuning == "full" else "frozen")
    forward = decoder.forward(length) + decoder.output
    evaluated = JUDGED * SAMPLES * length * forward
    encoded = tokens * encoder.forward(length)
    return {
        "decoder": name,
        "tuning": tuning,
        "tokens": tokens,
        "flops_a_token": flops,
        "flops": flops * tokens,
        "device_hours": tokens / speed / 3600,
        "sentences_per_second": speed / length,
        "state_bytes": held,
        "tokens_that_fit": max(0.0, 0.9 * MEMORY - held) / bytes_a_token,
        "checkpoint_bytes": 12 * decoder.parameters if tuning == "full" else None,
        "evaluation_hours": evaluated / (SHARE * PEAK) / 3600,
        "encoding_hours": encoded / (SHARE * PEAK) / 3600,
        "latents_bytes": SENTENCES * LATENT * 4,
    }


def core_peak(dtype: torch.dtype) -> float:
    """FLOP/s of a product of matrices on one core, the best of five."""
    a, b = torch.randn(2, 1024, 1024).to(dtype)
    best = float("inf")
    for _ in range(6):
        began = time.process_time()
        a @ b
        best = min(best, time.process_time() - began)
    return 2 * 1024**3 / best


def measured() -> list[dict[str, Any]]:
    """Runs of bridges.py on one core: the speed, and the share of the peak that it implies."""
    found = []
    shapes = {"smollm2": (DECODERS["135M"], "bf16"), "stories260k": (STORIES, "float32")}
    for row in (common.read("bridges") or {}).get("rows", ()):
        if row["bridge"] != "output" or not row["tokens"] or row["decoder"] not in shapes:
            continue
        decoder, precision = shapes[row["decoder"]]
        flops = decoder_step(decoder, row["tuning"], LENGTH)  # states of the encoder are kept
        speed = row["tokens"] / row["seconds"]
        peak = core_peak(torch.bfloat16 if precision == "bf16" else torch.float32)
        found.append(
            {
                **{key: row[key] for key in ("decoder", "tuning", "tokens", "seconds")},
                "precision": precision,
                "flops_a_token": flops,
                "tokens_per_second": speed,
                "peak": peak,
                "share_of_peak": flops * speed / peak,
            }
        )
    return found


def supply() -> float:
    """Tokens of SmolLM2 a second that one core makes of texts, beside MiniLM's, for training."""
    settings = common.settings_of("optimus-small")
    texts = [sentence.text for sentence in scenes.generate("train", TOKENIZED)]
    codec = build(settings, texts[:1]).codec
    began = time.process_time()
    tokens = codec.prepare_training(texts).predicted.sum()
    return float(tokens) / (time.process_time() - began)


def power(value: float) -> str:
    """A large number in two digits."""
    return f"{value:.2g}" if value < 1e5 else f"{value:.1e}".replace("e+", " · 10^")


def report(figures: dict[str, Any]) -> str:
    """The tables, and what is between them."""
    lines = [
        "# What pretraining on 96 million sentences costs",
        "",
        f"Texts of {LENGTH} tokens, forward and backward; torch counted models of the full size:",
        "",
        *table_of_checks(figures["checks"]),
        "",
        "On one core of this machine (results/bridges.md), tokens a second, and the share of the "
        "core's peak that the formula implies:",
        "",
        *table_of_runs(figures["measured"]),
        "",
        f"One pass over {CORPUS_BYTES / BYTES_A_TOKEN / 1e9:.2f} billion tokens on an H200 at "
        f"{SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s, which is assumed. Dollars are device-hours "
        "times the price of one. As many tokens fit as if each kept what training in full keeps.",
        "",
        *table_of_plans(figures["plans"]),
        "",
        f"One core makes {figures['tokens_made_a_second']:,.0f} tokens a second of texts, for "
        "MiniLM and SmolLM2 at once. Summing the float32 gradients of N weights over machines "
        f"moves 8 N bytes; at {LINK / 1e9:.0f} GB/s that takes as long as the arithmetic of "
        f"{figures['tokens_a_device_and_step']:,.0f} tokens a device and step, whatever N.",
    ]
    return "\n".join(lines) + "\n"


def table_of_checks(checks: list[dict[str, Any]]) -> list[str]:
    """Lines of the table of formulas beside counts."""
    return table(
        ("network", "parameters", "FLOPs a token", "by the formula", "kept for backward, KB"),
        [
            (
                c["network"],
                f"{c['parameters'] / 1e6:,.0f}M",
                power(c["flops"]),
                f"{abs(c['flops_by_formula'] / c['flops'] - 1):.2%} off",
                f"{c['bytes_a_token'] / 1e3:,.0f}",
            )
            for c in checks
        ],
    )


def table_of_runs(runs: list[dict[str, Any]]) -> list[str]:
    """Lines of the table of measured speeds."""
    return table(
        ("decoder", "tuning", "precision", "tokens/s", "peak, GF/s", "share"),
        [
            (
                r["decoder"],
                r["tuning"],
                r["precision"],
                f"{r['tokens_per_second']:,.0f}",
                f"{r['peak'] / 1e9:,.0f}",
                f"{r['share_of_peak']:.0%}",
            )
            for r in runs
        ],
    )


def table_of_plans(plans: list[dict[str, Any]]) -> list[str]:
    """Lines of the table of what one pass over the corpus costs."""
    return table(
        (
            *("decoder", "tuning", "FLOPs", "device-hours", "sentences/s", "state, GB"),
            *("tokens that fit", "IW-NLL, min", "encode all, h"),
        ),
        [
            (
                p["decoder"],
                p["tuning"],
                power(p["flops"]),
                f"{p['device_hours']:.1f}",
                f"{p['sentences_per_second']:,.0f}",
                f"{p['state_bytes'] / 1e9:.1f}",
                f"{p['tokens_that_fit']:,.0f}" if p["tokens_that_fit"] else "none: shard",
                f"{60 * p['evaluation_hours']:.1f}",
                f"{p['encoding_hours']:.2f}",
            )
            for p in plans
        ],
    )


def main() -> None:
    common.one_thread()
    transformers_logging.set_verbosity_error()
    checks = [
        check(name, network, on_meta("bert", network.as_bert), 0)
        for name, network in (("MiniLM", MINILM), ("BERT-base", BERT_BASE))
    ]
    kept = {}
    for name, network in DECODERS.items():
        model = on_meta("llama", network.as_llama)
        checks.append(check(f"Llama, {name}", network, model, network.output))
        kept[name] = checks[-1]["bytes_a_token"]
    plans = [plan(name, tuning, kept[name]) for name in DECODERS for tuning in TUNINGS]
    figures = {
        "checks": checks,
        "measured": measured(),
        "tokens_made_a_second": supply(),
        "plans": plans,
        "tokens_a_device_and_step": 8 * SHARE * PEAK / (6 * LINK),
    }
    write("cost", figures, report(figures))


if __name__ == "__main__":
    main()
