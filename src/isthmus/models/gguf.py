"""GGUF files as ordinary model folders, converted once for each content."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.gguf.reader import read_gguf_metadata

from isthmus.errors import IsthmusError

logger = logging.getLogger(__name__)


def plain_folder(gguf: Path) -> Path:
    """A GGUF file's weights as an ordinary model folder in bf16, converted once and cached.

    transformers reads GGUF but marks the model as quantised and then refuses to save it, so the
    weights go into a plain model of the same configuration, in the user's cache. A file is known
    by its content: another one may have its name and its size.

    Raises:
        IsthmusError: the package gguf is not installed, or transformers would read another model
            than the file holds.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "isthmus"
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = base / f"{gguf.stem}-{digest}"
    if (folder / "config.json").is_file():
        return folder
    if find_spec("gguf") is None:
        raise IsthmusError(
            f"model source {gguf.name}: reading GGUF needs the package gguf; "
            "run: pip install 'isthmus[gguf]'"
        )
    logger.warning("converting %s once, into %s", gguf.name, folder)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    _refuse_what_is_lost(gguf)
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = type(read.config).from_dict(
        {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    )
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(read.state_dict())
    base.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=base) as unfinished:
        plain.to(torch.bfloat16).save_pretrained(unfinished)
        AutoTokenizer.from_pretrained(**where).save_pretrained(unfinished)
        with suppress(OSError):  # another process was faster
            Path(unfinished).rename(folder)
    return folder


def _refuse_what_is_lost(gguf: Path) -> None:
    """Stop where transformers 5 would build another model than the file describes."""
    values, tensors = read_gguf_metadata(str(gguf))
    kind = values.get("general.architecture")
    scaling = values.get(f"{kind}.rope.scaling.type", "linear")
    factors = (f"{kind}.rope.scaling.factor", f"{kind}.rope.scale_linear")
    factor = next((values[key] for key in factors if key in values), 1.0)
    lost = ""
    if kind in ("t5", "t5encoder"):
        lost = "the gated GELU of a T5 (it becomes a ReLU)"
    elif "rope_freqs.weight" in tensors:
        lost = "the scaled frequencies of its rotary positions (rope_freqs, as in Llama 3.1)"
    elif kind != "gpt-oss" and scaling != "none" and factor != 1.0:
        lost = f"the {scaling} scaling of its rotary positions by {factor:g}"
    if lost:
        raise IsthmusError(
            f"model source {gguf.name}: transformers loses {lost} when it reads GGUF, so its "
            "probabilities would be wrong; give the model's own folder or hub name"
        )
