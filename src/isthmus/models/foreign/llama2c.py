"""Files of karpathy's llama2.c: ``stories15M.bin`` and ``tokenizer.bin``."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.foreign.plain import Plain

_MAGIC: Final = 0x616B3432
"""Begins version 1 and those after it."""
_HEADER: Final = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "length")
_BYTES_FROM: Final = 3
"""The first of 256 tokens that are bytes, after <unk>, <s> and </s>."""

_NORMS: Final = ("input_layernorm", "post_attention_layernorm")
_ATTENTION: Final = tuple(f"self_attn.{part}_proj" for part in "qkvo")
_FEED_FORWARD: Final = ("mlp.gate_proj", "mlp.down_proj", "mlp.up_proj")


def halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key map in the order of transformers' rotary embedding.

    Others turn neighbours (0, 1), (2, 3), …; transformers turns the first half of a head against
    the second.
    """
    return weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def from_llama2c(path: Path, tokenizer: str = "") -> Plain:
    """The model of a file of version 0 or 1, which are in float32.

    Args:
        path: the file.
        tokenizer: its tokenizer.bin, or a transformers folder; tokenizer.bin or tokN.bin beside
            the file (N tokens), if empty.

    Raises:
        IsthmusError: it is no such file, damaged, or quantised (version 2).
    """
    sizes, shared, offset = _header(path)
    dim, heads, vocabulary = sizes["dim"], sizes["n_heads"], sizes["vocab_size"]
    tensors = _read(path, offset, _layout(sizes, offset == _legacy_offset(), shared))
    tensors.pop("turns", None)  # cosines and sines, which transformers computes
    for name, weight in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensors[name] = halves(weight, len(weight) // (dim // heads))
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=dim, intermediate_size=sizes["hidden_dim"],
        num_hidden_layers=sizes["n_layers"], num_attention_heads=heads,
        num_key_value_heads=sizes["n_kv_heads"], max_position_embeddings=sizes["length"],
        rms_norm_eps=1e-5, tie_word_embeddings=shared, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    words, file = _tokenizer(path, tokenizer, vocabulary)
    return Plain(path.name, config, tensors, words, (path, *file))


def _layout(
    sizes: dict[str, int], legacy: bool, shared: bool
) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the order of the file."""
    dim, inner, vocabulary = sizes["dim"], sizes["hidden_dim"], sizes["vocab_size"]
    head = dim // sizes["n_heads"]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_NORMS, (dim,))
    shapes |= dict.fromkeys(_ATTENTION, (dim, dim))
    shapes |= dict.fromkeys(_ATTENTION[1:3], (sizes["n_kv_heads"] * head, dim))
    shapes |= dict.fromkeys(_FEED_FORWARD, (inner, dim))
    shapes["mlp.down_proj"] = (dim, inner)

    def every(*parts: str) -> list[tuple[str, tuple[int, ...]]]:
        return [
            (f"model.layers.{layer}.{part}.weight", shapes[part])
            for part in parts
            for layer in range(sizes["n_layers"])
        ]

    tokens, norm = ("model.embed_tokens.weight", (vocabulary, dim)), ("model.norm.weight", (dim,))
    layout: list[tuple[str, tuple[int, ...]]]
    if legacy:
        layout = [tokens, *every(_NORMS[0], *_ATTENTION, _NORMS[1], *_FEED_FORWARD), norm]
        layout.append(("turns", (sizes["length"], head)))
    else:
        layout = [*every(*_NORMS), norm, tokens, *every(*_ATTENTION, *_FEED_FORWARD)]
    return layout if shared else [*layout, ("lm_head.weight", (vocabulary, dim))]


def _legacy_offset() -> int:
    return 4 * len(_HEADER)


def _header(path: Path) -> tuple[dict[str, int], bool, int]:
    """The sizes, whether output and input embeddings are one, and where the weights begin."""
    with path.open("rb") as file:
        start = file.read(256)
    if len(start) < _legacy_offset():
        raise _wrong(path)
    magic, version = struct.unpack_from("<Ii", start)
    new = magic == _MAGIC
    if new and version != 1:
        raise IsthmusError(
            f"{path.name}: version {version} of llama2.c's format, expected 0 or 1; export the "
            "model again with --version 1 (version 2 is rounded to 8 bits)"
        )
    values = struct.unpack_from(f"<{len(_HEADER)}i", start, 8 if new else 0)
    sizes = dict(zip(_HEADER, values, strict=True))
    shared = start[8 + _legacy_offset()] == 1 if new else sizes["vocab_size"] > 0
    sizes["vocab_size"] = abs(sizes["vocab_size"])
    heads, kv_heads = sizes["n_heads"], sizes["n_kv_heads"]
    if min(sizes.values()) < 1 or sizes["dim"] % (2 * heads) or heads % kv_heads:
        raise _wrong(path)
    if 4 * sizes["n_layers"] * sizes["dim"] > path.stat().st_size:  # before they are listed
        raise _wrong(path)
    return sizes, shared, 256 if new else _legacy_offset()


def _read(path: Path, offset: int, layout: list[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    counts = [math.prod(shape) for _, shape in layout]
    if path.stat().st_size != offset + 4 * sum(counts):
        raise _wrong(path)
    values = np.fromfile(path, dtype="<f4", offset=offset)
    parts = torch.from_numpy(values.astype(np.float32, copy=False)).split(counts)
    return {name: part.view(shape) for part, (name, shape) in zip(parts, layout, strict=True)}


def _wrong(path: Path) -> IsthmusError:
    return IsthmusError(
        f"{path.name}: not a file of llama2.c, or damaged: its size is not the one that its "
        "header gives; download it again"
    )


def _tokenizer(
    path: Path, given: str, vocabulary: int
) -> tuple[PreTrainedTokenizerFast | str, tuple[Path, ...]]:
    """The tokenizer and the file that it is from; a folder stays what it is."""
    if Path(given).is_dir() and given:
        return given, ()
    names = ("tokenizer.bin", f"tok{vocabulary}.bin")
    found = [Path(given)] if given else [path.parent / name for name in names]
    for file in found:
        if file.is_file():
            with in_one_line(f"{file.name}: not a tokenizer of llama2.c", "give another one"):
                return _pieces(file, vocabulary), (file,)
    raise IsthmusError(
        f"{path.name}: its tokenizer is missing; put {' or '.join(names)} beside it, or give it "
        "with --tokenizer"
    )


def _pieces(path: Path, count: int) -> PreTrainedTokenizerFast:
    """The SentencePiece BPE of a tokenizer.bin; its merges are in the order of the scores."""
    data, at = path.read_bytes(), 4
    pieces, scores = [], []
    for _ in range(count):
        score, size = struct.unpack_from("<fI", data, at)
        text = data[at + 8 : at + 8 + size].decode("utf-8").replace(" ", "▁")
        at += 8 + size
        pieces.append(text)
        scores.append(score)
    if at != len(data):
        raise ValueError(f"it has more than the model's {count} tokens")
    pieces[:_BYTES_FROM] = ["<unk>", "<s>", "</s>"]
    pieces[_BYTES_FROM : _BYTES_FROM + 256] = [f"<0x{byte:02X}>" for byte in range(256)]
    ids = {piece: place for place, piece in enumerate(pieces)}
    merges = []
    for place in range(_BYTES_FROM + 256, count):
        piece = pieces[place]
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(ids[a], ids[b]) for a, b in pairs if a in ids and b in ids]
        merges += [(-scores[place], place, pair) for pair in sorted(known)]
    merges.sort(key=lambda merge: merge[:2])
    model = models.BPE(
        vocab=ids,
        merges=[(pieces[a], pieces[b]) for _, _, (a, b) in merges],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
    )
