"""Convert the tensors of the authors' code to an OptimusModel; every tensor must be used.

The stock parts are transformers' BERT and GPT-2 under their usual names, so no tensor is
transposed or split.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, GPT2Config

from isthmus.errors import IsthmusError
from isthmus.models.codec import TextCodec
from isthmus.models.optimus import OptimusConfig, OptimusModel
from isthmus.models.original.state import HEAD, MAPS, Original, some

_SETTINGS = {
    "encoder": (
        "hidden_act",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "layer_norm_eps",
        "initializer_range",
    ),
    "decoder": (
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "layer_norm_epsilon",
        "initializer_range",
    ),
}
"""Settings taken from config.json; sizes come from the tensors."""

_HEAD_SIZE = 64
"""Width of an attention head in all published BERTs and GPT-2s."""

_TIED = ("decoder.transformer.wte.weight", "decoder.lm_head.weight")


def convert(original: Original, bridge: str, codec: TextCodec) -> OptimusModel:
    """The model of a checkpoint, in evaluation mode.

    Args:
        original: The checkpoint.
        bridge: "memory+embedding", "memory" or "embedding".
        codec: The tokenizers, with the vocabulary sizes of the checkpoint.

    Raises:
        IsthmusError: Tensors are missing or unknown, or their sizes do not match.
    """
    model = OptimusModel(config_of(original, bridge, codec), codec=codec)
    sources = {name: _source(name, bridge) for name in model.state_dict()}
    original.check_there(list(sources.values()))
    known = {*sources.values(), *original.unused(bridge)}
    unknown = sorted(original.weights.keys() - known)
    if unknown:
        raise IsthmusError(
            f"{original.name}: {len(unknown)} tensors do not belong to Optimus "
            f"({some(unknown)}); expected a BERT encoder and a GPT-2 decoder with its maps from z"
        )
    for name, wanted in model.state_dict().items():
        got = original.weights[sources[name]]
        if got.shape != wanted.shape:
            raise IsthmusError(
                f"{original.name}: {sources[name]} has shape {list(got.shape)}, but the other "
                f"tensors need {list(wanted.shape)}; they come from different models"
            )
    if not torch.equal(*(original.weights[name] for name in _TIED)):
        raise IsthmusError(
            f"{original.name}: {' and '.join(_TIED)} differ, expected one matrix as in GPT-2"
        )
    model.load_state_dict({name: original.weights[source] for name, source in sources.items()})
    return model.eval()


def _source(name: str, bridge: str) -> str:
    """The authors' name of a tensor."""
    if name == "encoder.head.weight":
        return HEAD
    if name.startswith("bridge."):
        return MAPS[bridge if bridge in MAPS else name.split(".")[2]]  # bridge.parts.memory.…
    return name.replace(".model.", ".", 1)


def config_of(original: Original, bridge: str, codec: TextCodec) -> OptimusConfig:
    """The configuration: sizes from the tensors, the rest from config.json."""
    rows = original.shape(HEAD)[0]
    special = codec.decoder_special
    assert special.start is not None
    assert special.end is not None
    return OptimusConfig(
        encoder=_encoder_config(original, codec),
        decoder=_decoder_config(original, codec),
        latent_size=rows // 2,
        bridge=bridge,
        pooling="pooler",
        decoder_start=special.start,
        decoder_end=special.end,
        decoder_pad=special.pad,
    )


def _encoder_config(original: Original, codec: TextCodec) -> BertConfig:
    def size(name: str, axis: int = 0) -> int:
        return original.shape(f"encoder.{name}.weight")[axis]

    width = size("embeddings.word_embeddings", 1)
    layers = original.layers("encoder.encoder.layer.")
    _check_stated(original, "encoder", {"hidden_size": width, "num_hidden_layers": layers})
    return BertConfig(
        vocab_size=size("embeddings.word_embeddings"),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=_heads(original, "encoder", "num_attention_heads", width),
        intermediate_size=size("encoder.layer.0.intermediate.dense"),
        max_position_embeddings=size("embeddings.position_embeddings"),
        type_vocab_size=size("embeddings.token_type_embeddings"),
        pad_token_id=codec.encoder_special.pad,
        **_stated(original, "encoder"),
    )


def _decoder_config(original: Original, codec: TextCodec) -> GPT2Config:
    def size(name: str, axis: int = 0) -> int:
        return original.shape(f"decoder.transformer.{name}.weight")[axis]

    width, layers = size("wte", 1), original.layers("decoder.transformer.h.")
    _check_stated(original, "decoder", {"n_embd": width, "n_layer": layers})
    special = codec.decoder_special
    return GPT2Config(
        vocab_size=size("wte"),
        n_embd=width,
        n_layer=layers,
        n_head=_heads(original, "decoder", "n_head", width),
        n_inner=size("h.0.mlp.c_fc", 1),
        n_positions=size("wpe"),
        bos_token_id=special.start,
        eos_token_id=special.end,
        pad_token_id=special.pad,
        **_stated(original, "decoder"),
    )


def _stated(original: Original, part: str) -> dict[str, Any]:
    config = original.configs[part]
    return {name: config[name] for name in _SETTINGS[part] if name in config}


def _check_stated(original: Original, part: str, found: dict[str, int]) -> None:
    """Refuse a config.json of another model: its number of heads cannot be checked."""
    for name, value in found.items():
        stated = original.configs[part].get(name, value)
        if stated != value:
            raise IsthmusError(
                f"{original.name}: the {part}'s config.json says {name} = {stated}, its tensors "
                f"say {value}; they come from different models"
            )


def _heads(original: Original, part: str, name: str, width: int) -> int:
    """The number of attention heads, which no tensor shows."""
    stated = original.configs[part].get(name)
    if stated is None and width % _HEAD_SIZE == 0:
        return width // _HEAD_SIZE
    if stated is None:
        raise IsthmusError(
            f"{original.name}: the number of attention heads of the {part} is unknown, as its "
            f"width {width} is not a multiple of {_HEAD_SIZE}; add its config.json in "
            f"checkpoint-{part}-STEP"
        )
    if not isinstance(stated, int) or stated < 1 or width % stated:
        raise IsthmusError(
            f"{original.name}: the {part}'s config.json says {name} = {stated}, expected a "
            f"divisor of its width {width}"
        )
    return stated
