"""The contents of a checkpoint of the authors' code, under one set of names.

The names are those of ``training.bin``: the encoder's begin with "encoder.", the decoder's with
"decoder.". Three tensors belong to the latent space: ``encoder.linear`` [2P H] gives the mean and
the log-variance, ``decoder.transformer.linear`` [L·H P] the memory, and
``decoder.transformer.linear_emb`` [H P] the added embedding.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, final

import torch
from torch import Tensor

from isthmus.errors import IsthmusError

HEAD = "encoder.linear.weight"
MAPS = {
    "memory": "decoder.transformer.linear.weight",
    "embedding": "decoder.transformer.linear_emb.weight",
}
"""Bridge → its map from z."""

_FLAGS = {"memory": "latent_as_gpt_memory", "embedding": "latent_as_gpt_emb"}
"""Bridge → the argument of the training script that turns it off."""

_ARGUMENTS = (
    "dataset",
    "latent_size",
    "beta",
    "dim_target_kl",
    "ratio_zero",
    "ratio_increase",
    "use_beta_schedule",
    "fb_mode",
    "length_weighted_loss",
    "use_deterministic_connect",
    *_FLAGS.values(),
    "block_size",
    "per_gpu_train_batch_size",
    "n_gpu",
    "num_train_epochs",
    "learning_rate",
)
"""Arguments of the training script that describe the model, not the machine."""

_MASKS = re.compile(r"decoder\.transformer\.h\.\d+\.attn\.(masked_)?bias")
"""Causal masks, which the old code stores among the weights."""

_EXTRAS = (
    "linear.",
    "label_embedding.",
    "latent_generator.",
    "latent_classifier.",
    "latent_discriminator.",
    "gpt_embeddings.",
    "conv1.",
    "classifier.",
    "S2S_",
)
"""Tensors that CARA (label-conditional generation) and SpaceFusion (dialogue) add to the VAE."""


@final
@dataclass(frozen=True)
class Original:
    """A checkpoint of the authors' code.

    Args:
        name: The name of its folder.
        weights: The VAE's tensors, without the masks.
        configs: "encoder" and "decoder" → config.json; empty if there is none.
        arguments: The known arguments of the training script that describe the model.
        extras: Names of tensors that do not belong to the VAE.
    """

    name: str
    weights: dict[str, Tensor]
    configs: dict[str, dict[str, Any]]
    arguments: dict[str, bool | int | float | str]
    extras: list[str]

    @property
    def bridge(self) -> str:
        """How z enters the decoder: from the arguments, else both ways as in the paper."""
        used = [kind for kind, flag in _FLAGS.items() if self.arguments.get(flag, True)]
        return "+".join(used or _FLAGS)

    def unused(self, bridge: str) -> list[str]:
        """Existing maps from z that a bridge does not use."""
        others = [name for kind, name in MAPS.items() if kind not in bridge.split("+")]
        return [name for name in others if name in self.weights]

    def shape(self, name: str) -> torch.Size:
        """The shape of a matrix.

        Raises:
            IsthmusError: It is missing, or not a matrix.
        """
        self.check_there([name])
        shape = self.weights[name].shape
        if len(shape) != 2:
            raise IsthmusError(f"{self.name}: {name} has shape {list(shape)}, expected a matrix")
        return shape

    def vocabulary_size(self, part: str) -> int:
        """V of the encoder or the decoder."""
        table = {"encoder": "embeddings.word_embeddings", "decoder": "transformer.wte"}[part]
        return self.shape(f"{part}.{table}.weight")[0]

    def layers(self, prefix: str) -> int:
        """L, the number of different numbers after a prefix."""
        number = re.compile(re.escape(prefix) + r"(\d+)\.")
        return len({match[1] for name in self.weights if (match := number.match(name))})

    def check_there(self, names: Sequence[str]) -> None:
        """Refuse a checkpoint that lacks any of these tensors."""
        missing = sorted(set(names) - set(self.weights))
        if not missing:
            return
        remedy = "the checkpoint is incomplete, or not one of Optimus"
        for kind, other in (("memory", "embedding"), ("embedding", "memory")):
            if missing == [MAPS[kind]]:
                remedy = f"if it was trained without it, use --bridge {other}"
        raise IsthmusError(
            f"{self.name}: lacks {len(missing)} tensors ({some(missing)}); {remedy}"
        )


def some(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def tensors_of(name: str, state: Any) -> dict[str, Tensor]:
    """A state dict, without the prefix that data-parallel wrappers add to every name."""
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise IsthmusError(f"{name}: not a state dict, expected names and tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}


def original_of(
    name: str, tensors: dict[str, Tensor], configs: dict[str, dict[str, Any]], arguments: Any
) -> Original:
    """The checkpoint with these tensors and the training script's Namespace, if any."""
    extras = sorted(key for key in tensors if key.startswith(_EXTRAS))
    weights = {
        key: value
        for key, value in tensors.items()
        if not key.startswith(_EXTRAS) and not _MASKS.fullmatch(key)
    }
    return Original(name, weights, configs, _plain(arguments), extras)


def _plain(arguments: Any) -> dict[str, bool | int | float | str]:
    """The arguments that describe the model, as plain values; of paths only the file name."""
    given = vars(arguments) if isinstance(arguments, argparse.Namespace) else {}
    found: dict[str, bool | int | float | str] = {}
    for key in _ARGUMENTS:
        value = given.get(key)
        if isinstance(value, str):
            found[key] = PurePath(value).name
        elif isinstance(value, float):  # NumPy's too
            found[key] = float(value)
        elif isinstance(value, int):
            found[key] = value
    return found
