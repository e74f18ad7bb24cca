"""A run directory: written whole or not at all, checked on loading, never a pickle."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from isthmus import __version__
from isthmus.errors import IsthmusError
from isthmus.model_card import model_card
from isthmus.models.base import LatentModel
from isthmus.models.build import make_codec
from isthmus.models.codec import TextCodec
from isthmus.models.language import LanguageModel
from isthmus.models.optimus import OptimusModel

BUNDLE_VERSION = 1
RUN_FILE = "run.json"
ENCODER_TOKENIZER = "encoder_tokenizer"

SYSTEMS: dict[str, type[LatentModel]] = {
    "isthmus-optimus": OptimusModel,
    "isthmus-language": LanguageModel,
}
"""Every model that can be saved, by the ``model_type`` in its config.json."""

for _model_type, _system in SYSTEMS.items():
    # So that transformers' Auto classes know a run directory for what it is.
    AutoConfig.register(_model_type, _system.config_class)
    AutoModel.register(_system.config_class, _system)

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"isthmus": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def save(model: LatentModel, folder: str | Path, record: dict[str, Any]) -> None:
    """Write a model directory.

    The files are written beside their place and moved there when all are whole; ``run.json``
    goes first on the way out and comes last on the way in, so a directory that has one is
    complete, whenever the process is killed.

    Arguments:
        model: with its codec.
        folder: the run directory; what else lies there stays.
        record: settings, data, metrics: what ``run.json`` tells beside versions and files.

    Raises:
        IsthmusError: the disk is full or the folder cannot be written; nothing is half-saved.
    """
    target = Path(folder)
    with writing_to(target):
        target.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix=".unfinished-", dir=target))
        try:
            _write(model, unfinished, record)
            (target / RUN_FILE).unlink(missing_ok=True)
            files = sorted(p for p in unfinished.iterdir() if p.name != RUN_FILE)
            for path in [*files, unfinished / RUN_FILE]:
                destination = target / path.name
                if destination.is_dir():
                    shutil.rmtree(destination)
                path.replace(destination)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _write(model: LatentModel, folder: Path, record: dict[str, Any]) -> None:
    model.save_pretrained(folder)
    codec = model.codec
    assert isinstance(codec, TextCodec)
    codec.decoder_tokenizer.save_pretrained(folder)
    if codec.encoder_tokenizer is not codec.decoder_tokenizer:
        codec.encoder_tokenizer.save_pretrained(folder / ENCODER_TOKENIZER)
    run = {
        "bundle_version": BUNDLE_VERSION,
        "maximum_length": codec.maximum_length,
        "versions": versions(),
        **record,
    }
    (folder / "README.md").write_text(model_card(model.config.model_type, run), encoding="utf-8")
    run["files"] = {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.is_file()}
    with (folder / RUN_FILE).open("w", encoding="utf-8") as file:
        json.dump(run, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one line each."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        text = str(error)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
            raise IsthmusError(
                f"{folder}: the disk is full; what was saved there before is untouched; "
                "make room or choose another folder with --out"
            ) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise IsthmusError(
                f"{folder}: cannot be written ({os.strerror(number)}); "
                "choose another folder with --out"
            ) from error
        raise


def read_run(folder: str | Path) -> dict[str, Any]:
    """``run.json`` of a run directory, after checking that the directory is whole.

    Raises:
        IsthmusError: no such folder, a run that was not finished, a missing or truncated file.
    """
    place = Path(folder)
    if not place.is_dir():
        raise IsthmusError(f"{folder}: no such run directory; train one with isthmus train")
    path = place / RUN_FILE
    if not path.is_file():
        if (place / "checkpoints").is_dir() or list(place.glob(".unfinished-*")):
            raise IsthmusError(
                f"{folder}: the run was not finished; go on with isthmus train … --resume"
            )
        raise IsthmusError(f"{folder}: not a run directory, it has no {RUN_FILE}")
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = dict(run["files"])
        bundle_version = run["bundle_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise IsthmusError(f"{path}: damaged ({error}); train again or restore it") from error
    if bundle_version > BUNDLE_VERSION:
        raise IsthmusError(
            f"{folder}: saved as bundle version {bundle_version}, this Isthmus reads up to "
            f"{BUNDLE_VERSION}; run: pip install --upgrade isthmus"
        )
    for name, size in files.items():
        file = place / name
        if not file.is_file():
            raise IsthmusError(f"{folder}: {name} is missing; restore it or train again")
        if file.stat().st_size != size and name != "README.md":
            raise IsthmusError(
                f"{file}: truncated or changed, expected {size:,} bytes, got "
                f"{file.stat().st_size:,}; restore it or train again"
            )
    return run


def load(folder: str | Path) -> LatentModel:
    """A model from its run directory, in evaluation mode.

    Raises:
        IsthmusError: not a whole run directory, or its weights do not fit its configuration.
    """
    run = read_run(folder)
    place = Path(folder)
    model = load_weights(place)
    decoder_tokenizer = AutoTokenizer.from_pretrained(place)
    encoder_tokenizer = decoder_tokenizer
    if (place / ENCODER_TOKENIZER).is_dir():
        encoder_tokenizer = AutoTokenizer.from_pretrained(place / ENCODER_TOKENIZER)
    model.codec = make_codec(
        encoder_tokenizer, decoder_tokenizer, run["maximum_length"], model.config.decoder_start
    )
    return model.eval()


def load_weights(place: Path) -> LatentModel:
    """Configuration and weights of a folder, every tensor accounted for."""
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        system = SYSTEMS[config["model_type"]]
    except (OSError, ValueError, KeyError) as error:
        raise IsthmusError(
            f"{place / 'config.json'}: not the configuration of an Isthmus model ({error!r}); "
            f"expected a model_type of {', '.join(SYSTEMS)}"
        ) from error
    try:
        model, found = system.from_pretrained(
            place, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except SafetensorError as error:
        raise IsthmusError(
            f"{place / 'model.safetensors'}: damaged ({error}); restore it or train again"
        ) from error
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise IsthmusError(f"{place}: cannot be loaded: {str(error).splitlines()[0]}") from error
    problems = {
        "lacks": found["missing_keys"],
        "has unknown": found["unexpected_keys"],
        "has another size of": [key for key, *_ in found["mismatched_keys"]],
    }
    for what, keys in problems.items():
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (" …" if len(keys) > 3 else "")
            raise IsthmusError(
                f"{place / 'model.safetensors'}: {what} {len(keys)} tensors that config.json "
                f"asks for or not ({shown}); the two files are not of one model"
            )
    return model
