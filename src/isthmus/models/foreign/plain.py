"""A model as transformers saves it, and how a folder of one is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import torch
import transformers
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from isthmus import __version__
from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.inspection import token_embeddings
from isthmus.models.tokenizer_of import source_tokenizer

REFUSED = "check that its files are whole and belong together"


@final
@dataclass(frozen=True)
class Plain:
    """A model, its tokenizer and where they are from.

    Args:
        name: of the source, for messages.
        config: with the name of the model's class in ``architectures``.
        tensors: by transformers' names for them.
        tokenizer: it, or the folder that has it.
        files: what was read.
        notes: what a reader should know; a licence first.
    """

    name: str
    config: PreTrainedConfig
    tensors: dict[str, Tensor]
    tokenizer: PreTrainedTokenizerBase | str
    files: tuple[Path, ...]
    notes: tuple[str, ...] = field(default=())


def write(plain: Plain, out: Path) -> PreTrainedModel:
    """Write the folder, and return the model that transformers loads from it.

    Args:
        plain: what to write.
        out: a folder that does not exist; it appears whole or not at all.

    Raises:
        IsthmusError: transformers does not load the whole model from it, or the tokenizer is not
            that model's.
    """
    with TemporaryDirectory(dir=out.absolute().parent) as unfinished:
        folder = Path(unfinished) / "model"
        folder.mkdir()
        plain.config.save_pretrained(folder)
        save_torch_state_dict({name: _whole(t) for name, t in plain.tensors.items()}, folder)
        model = _loaded(plain, folder)
        tokenizer = plain.tokenizer
        if isinstance(tokenizer, str):
            tokenizer = source_tokenizer(plain.name, tokenizer, len(token_embeddings(model)))
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(_readme(plain), encoding="utf-8")
        folder.rename(out)
    return model


def _whole(tensor: Tensor) -> Tensor:
    """A tensor with a storage of its own, unless it shares all of it, as tied weights do."""
    if tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    return tensor.contiguous().clone()


def _loaded(plain: Plain, folder: Path) -> PreTrainedModel:
    """The model, by the class that the configuration names; no weight of it may be missing."""
    name = (plain.config.architectures or [""])[0]
    kind: Any = getattr(transformers, name, AutoModel)
    with in_one_line(f"{plain.name}: transformers cannot load what it holds", REFUSED):
        model, found = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    if missing := sorted(found["missing_keys"]):
        raise IsthmusError(
            f"{plain.name}: lacks {len(missing)} weights of {type(model).__name__} "
            f"({missing[0]}, …); {REFUSED}"
        )
    return model


def _readme(plain: Plain) -> str:
    lines = [f"# {plain.name}", "", f"Written by `isthmus convert` {__version__} from", ""]
    for file in plain.files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"* `{file.name}`, SHA-256 `{digest}`")
    return "\n".join([*lines, "", *(f"{note}\n" for note in plain.notes)])
