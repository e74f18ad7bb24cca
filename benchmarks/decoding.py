"""What greedy decoding could gain: its products alone, and steps of bare kernels, beside Isthmus.

    python benchmarks/decoding.py     # results/decoding.json and .md; two minutes on one core

The decoder is that of "greedy decoding" in ``speed.py``. *Products alone* are a step's matrix
products over its own weights, and nothing else: no step can take less time while it calls them.
*Bare kernels* are a step that calls no module and no cache of transformers: keys and values in
buffers of the final size, no mask, no generation loop that others could use. bf16 is measured
where a large product in it is faster than in float32.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from common import one_thread, table, write
from contenders import random_texts, tiny
from isthmus.models.build import build
from isthmus.models.generation import Generation
from isthmus.models.text_model import hold_decoder
from stock_loops import peak

TOKENS = 32
ROUNDS = 9
"""After one that does not count."""
COUNTS = (16, 128)


def products(decoder: Any, count: int) -> None:
    """The matrix products of all steps, without their order: nothing waits for a result."""
    maps = [
        linear
        for block in decoder.stack.h
        for linear in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
    ]
    output = decoder.model.lm_head.weight
    states = {size: output.new_ones(count, size) for size in {len(m.weight) for m in maps}}
    last = states[output.shape[1]]
    for _ in range(TOKENS):
        for linear in maps:
            torch.addmm(linear.bias, states[len(linear.weight)], linear.weight)
        functional.linear(last, output)


def bare(decoder: Any, conditioning: Any) -> Tensor:
    """Ids [N T] of the most probable tokens of GPT-2 under memory and embedding."""
    stack, given = decoder.stack, decoder.held(conditioning)
    slots, count = given.slots, len(given.embedding)
    heads, size = stack.h[0].attn.num_heads, stack.h[0].attn.head_dim
    room = len(stack.h), 2, count, heads, slots + TOKENS, size
    cache = torch.empty(room)  # float32: its kernel for one query is the faster one
    for layer, slot in enumerate(given.memory):
        cache[layer, :, :, :, :slots] = slot
    new, ids = torch.full((count,), decoder.special.start), []
    for place in range(slots, slots + TOKENS):
        x = stack.wte.weight[new] + given.embedding + stack.wpe.weight[place]
        for block, (keys, values) in zip(stack.h, cache, strict=True):
            maps = mapped(normal(x, block.ln_1), block.attn.c_attn).view(count, 3, heads, 1, size)
            query, keys[:, :, place : place + 1], values[:, :, place : place + 1] = maps.unbind(1)
            seen = functional.scaled_dot_product_attention(
                query.float(), keys[:, :, : place + 1], values[:, :, : place + 1]
            )
            x = x + mapped(seen.view(count, -1).to(x), block.attn.c_proj)
            inner = mapped(normal(x, block.ln_2), block.mlp.c_fc)
            x = x + mapped(functional.gelu(inner, approximate="tanh"), block.mlp.c_proj)
        new = functional.linear(normal(x, stack.ln_f), decoder.model.lm_head.weight).argmax(-1)
        ids.append(new)
    return torch.stack(ids, 1)


def mapped(x: Tensor, linear: Any) -> Tensor:
    return torch.addmm(linear.bias, x, linear.weight)


def normal(x: Tensor, norm: Any) -> Tensor:
    return torch.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def ours(decoder: Any, conditioning: Any, count: int) -> Tensor:
    """The same by Isthmus."""
    rows = decoder.generate(conditioning, count, Generation(max_new_tokens=TOKENS))
    return torch.tensor(rows)


def seconds(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


@torch.no_grad()
def measured(precision: str, count: int) -> dict[str, Any]:
    """The three in turn."""
    model = build(tiny("float32"), random_texts(64, 31, 7995)).eval()
    decoder = model.decoder
    decoder.special = dataclasses.replace(decoder.special, end=-1)  # never ends early
    if precision == "bf16":
        hold_decoder(model)
    z = 5 * torch.randn(count, 64, generator=torch.Generator().manual_seed(0))
    given = model.conditioning(z)
    ways: dict[str, Callable[[], Any]] = {
        "isthmus": partial(ours, decoder, given, count),
        "bare kernels": partial(bare, decoder, given),
        "products alone": partial(products, decoder, count),
    }
    same = (ways["isthmus"]() == ways["bare kernels"]()).double().mean().item()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            times[name].append(seconds(way))
    kept = {name: each[1:] for name, each in times.items()}
    rows = {}
    for name, each in kept.items():
        ratios = [a / b for a, b in zip(kept["isthmus"], each, strict=True)]
        known = {"median": median(ratios), "least": min(ratios), "largest": max(ratios)}
        rows[name] = {"texts_per_second": count / median(each), "ratio": known, "seconds": each}
    return {"precision": precision, "texts": count, "same_tokens": same, "rows": rows}


def main() -> None:
    one_thread()
    peaks = {"float32": peak(False), "bf16": peak(True)}
    precisions = ["float32"] + ["bf16"] * (peaks["bf16"] > peaks["float32"])
    found = [measured(precision, count) for precision in precisions for count in COUNTS]
    lines = [
        (
            *(part["precision"], part["texts"], name, f"{row['texts_per_second']:.1f}"),
            "{median:.2f} × ({least:.2f} – {largest:.2f})".format(**row["ratio"]),
        )
        for part in found
        for name, row in part["rows"].items()
    ]
    head = ("precision", "texts", "", "texts a processor second", "ratio to isthmus")
    shares = ", ".join(f"{part['same_tokens']:.1%}" for part in found)
    text = (
        f"# Greedy decoding and its ceiling\n\nOne thread, {ROUNDS} rounds in turn: medians, and "
        f"the range of ratios. Peak of a large product: {peaks['float32'] / 1e9:.0f} GFLOP/s in "
        f"float32, {peaks['bf16'] / 1e9:.0f} in bf16. Tokens of bare kernels that are Isthmus' "
        f"own: {shares}.\n\n"
    )
    text += "\n".join(table(head, lines)) + "\n"
    write("decoding", {"peak_flops": peaks, "parts": found}, text)


if __name__ == "__main__":
    main()
