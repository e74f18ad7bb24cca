"""Checkpoints as the authors of Optimus write them, from stock models and random maps."""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

P, LAYERS, WIDTH, POSITIONS = 3, 2, 16, 24
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "A", "##b", "é"]
LETTERS = ["Ġ", "a", "b", "c", "A", ".", "<|endoftext|>", "Ġa", "Ġb", "Ã", "©"]
MERGES = ["Ġ a", "Ġ b"]
SIZES = {"encoder": len(WORDS), "decoder": len(LETTERS) + 3}


def write_encoder_vocabulary(folder: Path, size: int = len(WORDS)) -> None:
    """vocab.txt with so many tokens."""
    words = WORDS + [f"filler{i}" for i in range(size - len(WORDS))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def write_decoder_vocabulary(folder: Path, size: int = len(LETTERS)) -> None:
    """vocab.json and merges.txt with so many tokens."""
    words = LETTERS + [f"filler{i}" for i in range(size - len(LETTERS))]
    vocabulary = {word: place for place, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    merges = "\n".join(["#version: 0.2", *MERGES]) + "\n"
    (folder / "merges.txt").write_text(merges, encoding="utf-8")


@cache
def stock_models(width: int = WIDTH) -> tuple[BertModel, GPT2LMHeadModel]:
    """A BERT and a GPT-2 with weights large enough for everything to be felt."""
    torch.manual_seed(5)
    encoder = BertModel(
        BertConfig(
            vocab_size=SIZES["encoder"],
            hidden_size=width,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=20,
            max_position_embeddings=POSITIONS,
            initializer_range=0.3,
        )
    )
    decoder = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=SIZES["decoder"],
            n_embd=width,
            n_layer=LAYERS,
            n_head=4 if width == WIDTH else width // 64,
            n_positions=POSITIONS,
            initializer_range=0.3,
        )
    )
    return encoder.eval(), decoder.eval()


def parts(seed: int = 0, width: int = WIDTH) -> dict[str, dict[str, Tensor]]:
    """The state dicts of the two ``pytorch_model.bin``; another seed, another latent."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.3

    encoder, decoder = stock_models(width)
    mask = torch.ones(POSITIONS, POSITIONS).tril().view(1, 1, POSITIONS, POSITIONS)
    masks = {f"transformer.h.{layer}.attn.bias": mask.clone() for layer in range(LAYERS)}
    return {
        "encoder": dict(encoder.state_dict()) | {"linear.weight": normal(2 * P, width)},
        "decoder": dict(decoder.state_dict())
        | masks
        | {
            "transformer.linear.weight": normal(LAYERS * width, P),
            "transformer.linear_emb.weight": normal(width, P),
        },
    }


def configs() -> dict[str, dict[str, Any]]:
    """The two config.json, in the old library's words."""
    return {
        "encoder": {
            "hidden_size": WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "hidden_dropout_prob": 0.25,
            "latent_size": P,
        },
        "decoder": {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_ctx": POSITIONS},
    }


def arguments(**changes: Any) -> argparse.Namespace:
    """What the training script was called with."""
    values = {
        "dataset": "Snli",
        "latent_size": P,
        "beta": np.float64(0.5),
        "dim_target_kl": 0.25,
        "length_weighted_loss": True,
        "latent_as_gpt_emb": 1,
        "latent_as_gpt_memory": 1,
        "output_dir": "/home/somebody/output",
        "device": torch.device("cpu"),
        "eval_data_file": None,
    }
    return argparse.Namespace(**(values | changes))


def full(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """The content of a ``training.bin``; the optimiser's state as AdamW has it."""
    state = {
        f"{part}.{name}": value
        for part, weights in parts(seed).items()
        for name, value in weights.items()
    }
    optimiser = {"state": {0: {"step": 7, "exp_avg": torch.zeros(2)}}, "param_groups": []}
    content = {
        "iter": 700,
        "model_state_dict": state,
        "optimizer_state_dict": optimiser,
        "beta": np.float64(0.5),
        "args": arguments(),
    }
    return content | changes


def write_parts(root: Path, step: str = "700", seed: int = 0, width: int = WIDTH) -> None:
    """The folders of encoder and decoder, each with its config.json and vocabulary."""
    write_configs(root, step)
    for part, weights in parts(seed, width).items():
        torch.save(weights, root / f"checkpoint-{part}-{step}" / "pytorch_model.bin")
    torch.save(arguments(), root / f"checkpoint-encoder-{step}" / "training_encoder_args.bin")


def write_configs(root: Path, step: str = "700") -> None:
    """What lies in the folders of encoder and decoder beside the weights."""
    for part, config in configs().items():
        folder = root / f"checkpoint-{part}-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_encoder_vocabulary(root / f"checkpoint-encoder-{step}")
    write_decoder_vocabulary(root / f"checkpoint-decoder-{step}")


def write_full(root: Path, step: str = "700", seed: int = 0, **changes: Any) -> Path:
    """The full folder."""
    folder = root / f"checkpoint-full-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(full(seed, **changes), folder / "training.bin")
    return folder
