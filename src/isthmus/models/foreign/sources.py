"""What ``isthmus convert`` reads."""

from __future__ import annotations

from pathlib import Path

from isthmus.errors import IsthmusError
from isthmus.models.foreign.adapter import SETTINGS, from_adapter
from isthmus.models.foreign.llama2c import from_llama2c
from isthmus.models.foreign.packages import PACKAGES, from_package
from isthmus.models.foreign.pickled import from_pickled, has_pickled
from isthmus.models.foreign.plain import Plain


def read_foreign(source: str, base: str = "", tokenizer: str = "") -> Plain:
    """The model of a source that Isthmus does not train from as it is.

    Args:
        source: a folder with pytorch_model.bin, an adapter's folder, a file of llama2.c, or a name
            in :data:`isthmus.models.foreign.packages.PACKAGES`.
        base: of an adapter.
        tokenizer: a folder, or a tokenizer.bin of llama2.c.

    Raises:
        IsthmusError: it is none of these, or cannot be read.
    """
    path = Path(source).expanduser()
    if source.partition(":")[0] in PACKAGES and not path.exists():
        return from_package(source)
    if (path / SETTINGS).is_file():
        return from_adapter(path, base, tokenizer)
    if path.is_dir() and has_pickled(path):
        return from_pickled(path, tokenizer)
    if path.is_file() and path.suffix == ".bin":
        return from_llama2c(path, tokenizer)
    if (path / "config.json").is_file() or path.suffix == ".gguf":
        raise IsthmusError(
            f"{source}: needs no conversion; give it as --model.decoder.source or "
            "--model.encoder.source"
        )
    raise IsthmusError(
        f"{source}: got {'a file' if path.is_file() else 'no such model'}, expected a folder with "
        f"pytorch_model.bin or {SETTINGS}, a .bin file of llama2.c, or one of "
        + ", ".join(PACKAGES)
    )
